"""Measure size and speed of reports on planted networks of 50, 500 and 5,000 units in Chromium.

Prints for each network the size of the file and the time to write it; in the browser the time from the start of the
navigation to the first paint and to the end of loading; and the time to the next frame after a step of zooming and
after pointing at a unit (medians of 20). Needs Debian's chromium and chromium-driver.

Usage: python -m tests.long.report_basics [--out folder] [--pictures docs/images]
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

from selenium import webdriver

import modgraph as mg
from modgraph.planted import planted_modules
from modgraph.sculpt import TrainSettings, sculpt

SIZES = {50: [2, 2, 2, 1, 1], 500: [10, 10, 5, 5, 5], 5000: [50, 50, 25, 25, 25]}  # modules of five layers

MEASURE = """
const done = arguments[0], svg = document.getElementById("network"), times = {};
const frame = () => new Promise((next) => requestAnimationFrame(() => setTimeout(next)));
const median = async (step) => {
  const all = [];
  for (let i = 0; i < 20; i++) {
    const start = performance.now();
    step(i);
    await frame();
    all.push(performance.now() - start);
  }
  return all.sort((a, b) => a - b)[10];
};
(async () => {
  while (!performance.getEntriesByName("first-contentful-paint").length) await frame();
  times.paint = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  times.load = performance.getEntriesByType("navigation")[0].loadEventEnd;
  const dots = [...svg.querySelectorAll(".dots circle")];
  times.zoom = await median(() => document.getElementById("in").click());
  document.getElementById("fit").click();
  await frame();
  const over = (i) => dots[(i * 97) % dots.length].dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  times.point = await median(over);
  done(times);
})();
"""


def browser() -> webdriver.Chrome:
    """Start Chromium without a window."""
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = shutil.which("chromium") or ""
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1280,900"):
        chrome.add_argument(f"--{flag}")
    return webdriver.Chrome(options=chrome, service=webdriver.ChromeService(shutil.which("chromedriver")))


def measure(chrome: webdriver.Chrome, folder: Path) -> None:
    """Print a line for each size."""
    print("  units   edges  modules     file  written  first paint   loaded     zoom    point")
    for n_units, n_modules in SIZES.items():
        sizes = [n_units // len(n_modules)] * len(n_modules)
        dag, _ = planted_modules(sizes, n_modules=n_modules, fan_out=3, rewired=0.05, random_state=0)
        found = mg.detect_modules(dag)
        file = folder / f"report-{n_units}.html"
        start = time.perf_counter()
        mg.report(found, file)
        written, size = time.perf_counter() - start, file.stat().st_size / 1024
        chrome.get(file.resolve().as_uri())
        took = chrome.execute_async_script(MEASURE)
        print(
            f"{n_units:7,} {dag.n_edges:7,} {found.n_modules:8,} {size:5,.0f} KB {written:6.2f} s"
            f"{took['paint']:10.0f} ms {took['load']:5.0f} ms {took['zoom']:5.0f} ms {took['point']:5.0f} ms"
        )


def take_pictures(chrome: webdriver.Chrome, scratch: Path, folder: Path) -> None:
    """Write report-light.png (a sculpted network, a module followed) and report-dark.png (planted modules)."""
    target = mg.functions.published("separable_reused")
    settings = TrainSettings(learning_rate=0.05, batch_size=32, epochs=10)
    sculpted = sculpt(target, hidden=(24, 24), seeds=range(4), settings=settings)
    small = next(found for n in sculpted.networks if mg.score(found := mg.detect_modules(n.dag), target).exact)
    large = mg.detect_modules(
        planted_modules([80, 64, 48, 32, 24], n_modules=[8, 8, 4, 2, 2], fan_out=3, rewired=0.005, random_state=1)[0]
    )
    for theme, found, goal, follow in (("light", small, target, 1), ("dark", large, None, 2)):
        mg.report(found, scratch / "report.html", target=goal)
        scheme = {"name": "prefers-color-scheme", "value": theme}
        chrome.set_window_size(1280, 920 if found is small else 1090)
        chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chrome.get((scratch / "report.html").resolve().as_uri())
        chrome.execute_script(f"document.querySelector('#modules [data-follow=\"{follow}\"]').click()")
        chrome.save_screenshot(str(folder / f"report-{theme}.png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="keep the reports there")
    parser.add_argument("--pictures", type=Path, help="measure nothing, write the documentation's screenshots there")
    options = parser.parse_args()
    chrome = browser()
    with tempfile.TemporaryDirectory() as scratch:
        for folder in filter(None, (options.out, options.pictures)):
            folder.mkdir(parents=True, exist_ok=True)
        if options.pictures:
            take_pictures(chrome, Path(scratch), options.pictures)
        else:
            measure(chrome, options.out or Path(scratch))
    chrome.quit()


if __name__ == "__main__":
    main()
