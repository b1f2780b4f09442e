"""Three function graphs: separable, reused, levels."""

from sketch import function, panels

from modgraph.functions import FunctionGraph, SubFunction, published

figure, axes = panels(3, size=(9.5, 3.1), width_ratios=(4, 4, 6))
function(axes[0], published("separable"))
h = SubFunction("H", ["x0", "x1", "x2", "x3"], function=lambda a, b, c, d: (a & b, b & c, c & d), n_outputs=3)
shared = [h, SubFunction("A", ["H.0", "H.1"], function="or"), SubFunction("B", ["H.1", "H.2"], function="or")]
function(axes[1], FunctionGraph(name="", inputs=h.parents, sub_functions=shared, outputs=["A", "A", "B", "B"]))
function(axes[2], published("separable_reused"))
for ax, title in zip(axes, ("input-separable", "reused", "separable and reused"), strict=True):
    ax.set_title(title, fontsize=11)
