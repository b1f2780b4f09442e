"""The 0.9 rule: two clusters of adjacent layers become one module if nearly all edges run between them."""

from sketch import BLUE, GREEN, ORANGE, PINK, panels

CASES = (
    ("one module", (10, 0, 0), "10 of 10 leave to it, 10 of 10 come from it"),
    ("two: the first is reused", (10, 6, 0), "10 of 16 leave to it"),
    ("two: the second reads others", (10, 0, 6), "10 of 16 come from it"),
)
figure, axes = panels(3, size=(9.5, 2.9))
for ax, (title, (both, elsewhere, others), why) in zip(axes, CASES, strict=True):
    alone = not elsewhere and not others
    colours = {"i": BLUE, "j": BLUE if alone else ORANGE, "k": GREEN, "h": PINK}
    boxes = {"i": (0, 0), "j": (0, 1)} | ({"k": (1, 1)} if elsewhere else {}) | ({"h": (1, 0)} if others else {})
    for source, target, n in (("i", "j", both), ("i", "k", elsewhere), ("h", "j", others)):
        if n:
            (x0, y0), (x1, y1) = boxes[source], boxes[target]
            ax.plot((x0, x1), (y0, y1), color=colours[source], linewidth=n / 1.6, alpha=0.35, solid_capstyle="butt")
            ax.text((x0 + x1) / 2, (y0 + y1) / 2, f"{n} edges", fontsize=9, ha="center", va="center")
    for name, (x, y) in boxes.items():
        box = {"boxstyle": "round,pad=0.5", "facecolor": colours[name], "edgecolor": "none"}
        ax.text(x, y, f"cluster {name}", color="white", fontweight="bold", ha="center", va="center", bbox=box)
    ax.set(xlim=(-0.6, 1.6), ylim=(-0.45, 1.3))
    ax.set_title(title, fontsize=11)
    ax.text(0.5, -0.42, why, ha="center", fontsize=9, color="0.3")
    ax.set_axis_off()
