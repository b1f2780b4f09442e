"""The report in a real browser, without a network: what it shows, by mouse and by keys."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib.image
import networkx as nx
import numpy as np
import pytest

from modgraph import LayeredDAG, ModuleHierarchy, detect_modules, report
from modgraph.functions import published
from modgraph.planted import planted_modules
from tests.test_draw import HIERARCHIES, labelled
from tests.test_marks import evidence, shared, weighted
from tests.test_report import EVIL

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver import ActionChains, Keys  # noqa: E402 (only where selenium is)
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed")

Open = Callable[..., Any]
PLANTED = detect_modules(planted_modules([20, 16, 12, 8], n_modules=[4, 4, 2, 2], fan_out=2, random_state=3)[0])
KEPT = PLANTED.dag.trim()
NETWORK = nx.DiGraph(KEPT.edges.tolist())
NETWORK.add_nodes_from(range(KEPT.n_units))
MODULES = PLANTED.labels[PLANTED.labels >= 0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Give a function that writes a report and opens it; in the end there must be no complaint and no request."""
    file = tmp_path / "report.html"

    def open_it(found: ModuleHierarchy, **options: Any) -> Any:
        report(found, file, **options)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
        browser.get(file.as_uri())
        return browser

    for log in ("browser", "performance"):
        browser.get_log(log)
    yield open_it
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {file.as_uri()}


def all_of(page: Any, css: str) -> list[Any]:
    found: list[Any] = page.find_elements("css selector", css)
    return found


def dot(page: Any, unit: int) -> Any:
    (element,) = all_of(page, f'#network .dots circle[data-unit="{unit}"]')
    return element


def point_at(page: Any, element: Any) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    ActionChains(page, duration=0).move_to_element(element).perform()


def press(page: Any, *keys: str, shift: bool = False) -> None:
    chain = ActionChains(page, duration=0)
    chain = chain.key_down(Keys.SHIFT).send_keys(*keys).key_up(Keys.SHIFT) if shift else chain.send_keys(*keys)
    chain.perform()


def lit(page: Any, svg: str = "network") -> set[int]:
    return set(
        page.execute_script(f"return [...document.querySelectorAll('#{svg} .lit circle')].map(c => +c.dataset.of)")
    )


def facts(page: Any) -> dict[str, str]:
    pairs = zip(all_of(page, "#panel dt"), all_of(page, "#panel dd"), strict=True)
    return {name.text: value.text for name, value in pairs}


def names(text: str) -> set[str]:
    return set(text.partition(": ")[2].split(", ")) - {""}


def view(page: Any) -> list[float]:
    # A frame may pass between a key and what it draws.
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    box = page.execute_script("return document.getElementById('network').getAttribute('viewBox')")
    return [float(number) for number in box.split()]


def active(page: Any) -> dict[str, str]:
    result: dict[str, str] = page.execute_script(
        "const e = document.activeElement;"
        "return {id: e.id, unit: e.dataset.unit ?? '', tag: e.tagName, text: e.textContent}"
    )
    return result


@pytest.mark.parametrize("name", [*HIERARCHIES, "one unit", "planted"])
def test_any_hierarchy_opens(name: str, opened: Open) -> None:
    one = labelled(LayeredDAG.from_masks([[[0]]]), [0, 0])  # an output that nothing reaches: all that trimming leaves
    found = {"one unit": one, "planted": PLANTED, **HIERARCHIES}[name]
    page = opened(found)
    kept = found.labels >= 0
    assert len(all_of(page, "#network .dots circle")) == kept.sum()
    assert len(all_of(page, "#hierarchy .dots circle")) == found.n_modules
    for svg in ("network", "hierarchy"):
        point_at(page, all_of(page, f"#{svg} .dots circle")[-1])
        assert all_of(page, "#panel dt")
    assert lit(page)


@pytest.mark.parametrize("unit", [0, 23, 41, KEPT.n_units - 1])
def test_a_unit_shows_its_inputs_and_outputs_to_mouse_and_keys(unit: int, opened: Open) -> None:
    page = opened(PLANTED)
    before, after = nx.ancestors(NETWORK, unit), nx.descendants(NETWORK, unit)
    inputs = {f"x{KEPT.unit_index[other]}" for other in before if KEPT.layer[other] == 0}
    first = int(PLANTED.dag.layer_starts[-2])
    outputs = {f"y{KEPT.unit_index[other] - first}" for other in after if KEPT.layer[other] == KEPT.n_layers - 1}
    ways: list[Callable[[], None]] = [
        lambda: point_at(page, dot(page, unit)),
        lambda: page.execute_script("arguments[0].tabIndex = -1; arguments[0].focus()", dot(page, unit)),
    ]
    for way in ways:
        way()
        shown = facts(page)
        if KEPT.layer[unit] == 0:
            assert shown["Depends on"] == "is an input"
        else:
            assert names(shown["Depends on"]) == inputs
            assert shown["Depends on"].startswith(f"{len(inputs)} of {KEPT.layer_sizes[0]} inputs")
        if KEPT.layer[unit] == KEPT.n_layers - 1:
            assert shown["Reaches"] == "is an output"
        else:
            assert names(shown["Reaches"]) == outputs
        assert lit(page) == before | after | {unit}
        assert shown["Module"] == f"#{MODULES[unit]}"
        point_at(page, all_of(page, "h1")[0])


def test_a_module_is_followed_up_and_down(opened: Open) -> None:
    page = opened(PLANTED)
    module = int(MODULES[30])
    units = set(np.flatnonzero(module == MODULES).tolist())
    expected = units.union(*(nx.ancestors(NETWORK, u) | nx.descendants(NETWORK, u) for u in units))
    hierarchy = page.execute_script("return JSON.parse(document.getElementById('data').textContent).hierarchy.modules")
    row = all_of(page, f"#modules [data-follow='{module}']")[0]
    for element in (dot(page, 30), all_of(page, f"#network .boxes [data-module='{module}']")[0], row):
        page.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        offset = -int(element.size["width"] / 2) + 3 if element.tag_name == "rect" else 0  # beside the dots
        ActionChains(page, duration=0).move_to_element_with_offset(element, offset, 0).click().perform()
        point_at(page, all_of(page, "h1")[0])
        assert lit(page) == expected
        assert {hierarchy[at] for at in lit(page, "hierarchy")} == set(MODULES[[*expected]].tolist())
        assert facts(page)["Units"] == str(len(units))
        # The lines shown are those of paths through the module.
        lines = page.execute_script(
            "return [...document.querySelectorAll('#network .lines path')].map(p => p.getAttribute('d')).join('')"
        )
        up = set().union(*(nx.descendants(NETWORK, u) for u in units)) | units
        down = set().union(*(nx.ancestors(NETWORK, u) for u in units)) | units
        assert lines.count("M") == sum({a, b} <= up or {a, b} <= down for a, b in NETWORK.edges)
        press(page, Keys.ESCAPE)
        page.execute_script("document.activeElement.blur()")
        assert not lit(page)


def test_pictures_are_linked(opened: Open) -> None:
    page = opened(PLANTED)
    point_at(page, all_of(page, "#hierarchy .dots circle")[0])
    assert lit(page)
    module = page.execute_script("return JSON.parse(document.getElementById('data').textContent).hierarchy.modules[0]")
    assert set(np.flatnonzero(module == MODULES)) <= lit(page)
    (row,) = all_of(page, "#modules tr.lit")
    assert row.get_attribute("data-module") == str(module)


def test_search_finds_units_modules_and_sub_functions(opened: Open) -> None:
    page = opened(HIERARCHIES["separable"], target=published("separable"))
    (search,) = all_of(page, "#search")
    search.send_keys("X3")
    assert [button.text for button in all_of(page, "#results button")] == ["x3 (inputs)"]
    assert len(all_of(page, "#network .matches circle")) == 1
    search.send_keys(Keys.ENTER)
    assert active(page)["unit"] == "3"
    assert facts(page)["Module"] == "Q"
    search.clear()
    search.send_keys("q")
    assert [button.text for button in all_of(page, "#results button")] == ["Module Q", "Q (outputs)", "~Q (outputs)"]
    search.send_keys(Keys.ENTER)
    assert all_of(page, "#panel-title")[0].text == "Module Q"
    search.clear()
    search.send_keys("#1")
    assert [button.text for button in all_of(page, "#results button")] == ["Module Q"]
    search.clear()
    search.send_keys("nowhere")
    assert all_of(page, "#results")[0].text == "0 found."


def test_every_control_is_reached_by_tab_and_works_by_keys(opened: Open) -> None:
    page = opened(PLANTED)
    press(page, Keys.TAB)
    met: list[dict[str, str]] = []
    while active(page)["tag"] != "BODY" and len(met) < 60:
        met.append(active(page))
        press(page, Keys.TAB)
    ids = [control["id"] for control in met if control["id"]]
    assert ids == [
        "theme",
        "print",
        "search",
        "in",
        "out",
        "fit",
        "svg",
        "png",
        "filter",
        "csv",
    ]  # "clear" waits for something to clear
    assert sum(control["unit"] != "" for control in met) == 2  # one stop in each picture
    assert [control["text"] for control in met if control["text"].startswith("#")] == [
        f"#{i}" for i in range(PLANTED.n_modules)
    ]

    whole = view(page)
    for control, key in (("in", Keys.ENTER), ("in", Keys.SPACE), ("out", Keys.ENTER), ("fit", Keys.SPACE)):
        before = view(page)
        all_of(page, f"#{control}")[0].send_keys(key)
        assert (view(page)[2] < before[2]) == (control == "in")
    assert view(page) == whole
    all_of(page, "#search")[0].send_keys("x1", Keys.TAB, Keys.TAB, Keys.TAB, Keys.TAB, Keys.ENTER)
    assert active(page)["id"] == "search"  # cleared
    assert not all_of(page, "#results button")

    first = min(range(KEPT.layer_sizes[0]), key=lambda unit: float(dot(page, unit).get_attribute("cx")))
    page.execute_script("document.querySelector('#network [tabindex=\"0\"]').focus()")
    assert active(page)["unit"] == str(first)
    press(page, Keys.ARROW_UP)
    assert KEPT.layer[int(active(page)["unit"])] == 1
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.END)
    last = max(range(KEPT.layer_sizes[0]), key=lambda unit: float(dot(page, unit).get_attribute("cx")))
    assert active(page)["unit"] == str(last)
    press(page, Keys.ENTER)
    assert all_of(page, "#panel-title")[0].text == f"Module #{MODULES[last]}"
    assert set(np.flatnonzero(MODULES[last] == MODULES)) <= lit(page)
    press(page, Keys.ESCAPE, "+")
    near = view(page)
    assert near[2] < whole[2]
    press(page, Keys.ARROW_LEFT, shift=True)
    assert view(page)[0] < near[0]
    press(page, "0")
    assert view(page) == whole


def test_wheel_and_drag_move_the_drawing(opened: Open) -> None:
    page = opened(PLANTED)
    (svg,) = all_of(page, "#network")
    point_at(page, svg)
    whole = view(page)
    origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(svg, 100, 50)
    ActionChains(page, duration=0).scroll_from_origin(origin, 0, -400).perform()
    near = view(page)
    assert near[2] < whole[2]
    # What was under the pointer still is: it is as far along in both views.
    share = 0.5 + 100 / svg.size["width"]
    assert near[0] + share * near[2] == pytest.approx(whole[0] + share * whole[2], abs=2)
    ActionChains(page, duration=0).move_to_element(svg).click_and_hold().move_by_offset(60, 20).move_by_offset(
        20, 0
    ).release().perform()
    moved = view(page)
    assert moved[0] == pytest.approx(near[0] - 80 * near[2] / svg.size["width"], abs=1)
    assert moved[1] < near[1]
    assert not all_of(page, "#panel dt") or "Units" not in facts(page)  # a drag is no click
    ActionChains(page, duration=0).scroll_from_origin(origin, 0, 4000).perform()
    assert view(page) == whole


def test_edges_of_every_look_are_highlighted(opened: Open) -> None:
    found = weighted()
    page = opened(found)
    point_at(page, dot(page, 0))  # two edges up, and two from each of their ends
    lines = all_of(page, "#network .over .lines path")
    assert sum((line.get_attribute("d") or "").count("M") for line in lines) == 6
    assert {line.get_attribute("class") for line in lines} == {"negative", None}
    dashes = [line.value_of_css_property("stroke-dasharray") for line in lines]
    assert [dash != "none" for dash in dashes] == [line.get_attribute("class") == "negative" for line in lines]


def test_a_shared_unit_says_what_shares_it(opened: Open) -> None:
    plain = HIERARCHIES["separable"]
    page = opened(shared(plain, unit=4, module=1 - plain.labels[4]), evidence=evidence((0.2, 1.0), (0.01, 1.0)))
    point_at(page, dot(page, 4))
    assert facts(page)["Shared by"] == f"#{plain.labels[4]} 60%, #{1 - plain.labels[4]} 40%"
    point_at(page, dot(page, 5))
    assert "Shared by" not in facts(page)
    point_at(page, all_of(page, "#hierarchy .dots circle")[0])
    assert facts(page)["p-value"] == "0.2"


CONTRASTS = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgb = (css) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = css;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map((value) => value / 255);
};
const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
const ratio = (one, two) => {
  const [low, high] = [luminance(one), luminance(two)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};
const ground = (element) => {
  for (; element; element = element.parentElement) {
    const colour = rgb(getComputedStyle(element).backgroundColor);
    if (colour[3] === 1) return colour;
  }
  throw "no background";
};
const at = (element, name) => +element.getAttribute(name);
const result = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  const silent = ["SCRIPT", "STYLE", "NOSCRIPT", "title"].includes(element.tagName);
  if (silent || !own || !element.checkVisibility()) continue;
  const style = getComputedStyle(element), text = element instanceof SVGElement;
  const box = text && [...element.ownerSVGElement.querySelectorAll(".boxes rect")].find((rect) =>
    at(rect, "x") <= at(element, "x") && at(element, "x") <= at(rect, "x") + at(rect, "width") &&
    at(rect, "y") <= at(element, "y") && at(element, "y") <= at(rect, "y") + at(rect, "height"));
  const below = box ? rgb(getComputedStyle(box).fill) : ground(text ? element.ownerSVGElement : element);
  const colour = rgb(text ? style.fill : style.color);
  if (style.opacity !== "1" || colour[3] !== 1 || below[3] !== 1) throw "seen through: " + element.textContent;
  result.push([element.textContent.slice(0, 30), ratio(colour, below)]);
}
const field = document.getElementById("search");
result.push(["placeholder", ratio(rgb(getComputedStyle(field, "::placeholder").color), ground(field))]);
return result;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_has_contrast(scheme: str, opened: Open) -> None:
    for found in (PLANTED, HIERARCHIES["many modules"], HIERARCHIES["separable"]):
        target = published("separable") if found is HIERARCHIES["separable"] else None
        page = opened(found, target=target)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        paper = page.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        all_of(page, "#search")[0].send_keys("1")
        for _ in ("nothing followed", "a module followed"):
            ratios = page.execute_script(CONTRASTS)
            assert len(ratios) > 40
            assert [(text, ratio) for text, ratio in ratios if ratio < 4.5] == []
            page.execute_script("document.querySelector('#modules button').click()")


def test_the_theme_can_be_chosen_and_paper_is_white(opened: Open) -> None:
    page = opened(PLANTED)
    paper = "return getComputedStyle(document.documentElement).backgroundColor"
    light = page.execute_script(paper)
    all_of(page, "#theme")[0].click()
    assert page.execute_script(paper) != light
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.execute_script(paper) == light
    assert not any(element.is_displayed() for element in all_of(page, ".screen, button:not(.link, .sort), input"))
    assert all_of(page, "#network")[0].is_displayed()
    assert base64.b64decode(page.print_page()).startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    all_of(page, "#theme")[0].click()
    assert page.execute_script(paper) == light


def test_names_are_shown_and_nothing_else(opened: Open) -> None:
    dag = LayeredDAG.from_masks(
        [np.ones((2, 2)), np.ones((1, 2))],
        unit_names=[f"{EVIL}{unit}" for unit in range(5)],
        layer_names=[f"{EVIL}{layer}" for layer in range(3)],
    )
    page = opened(detect_modules(dag), title=EVIL)
    point_at(page, dot(page, 2))
    assert all_of(page, "#panel-title")[0].text == f"{EVIL}2"
    assert facts(page)["Layer"] == f"{EVIL}1"
    all_of(page, "#search")[0].send_keys("<img")
    assert len(all_of(page, "#results button")) == 5
    assert all_of(page, "h1")[0].text == page.title == EVIL
    assert not all_of(page, "img, [onerror]")


def test_large_networks_show_modules(opened: Open) -> None:
    dag, labels = planted_modules([1700, 1700, 1700], n_modules=[20, 20, 10], random_state=0)
    found = labelled(dag, labels)
    assert (found.labels >= 0).sum() > 5000
    page = opened(found)
    assert "too many to draw one by one" in all_of(page, "#aggregated")[0].text
    assert len(all_of(page, "#network .dots circle")) == 20 + 20 + 10
    point_at(page, dot(page, 25))
    assert facts(page)["Layer"] == "layer 1"
    assert all_of(page, "#panel-title")[0].text == f"{np.sum(found.labels[dag.layer == 1] == 5)} units of #5"
    page = opened(found, max_units=15)
    assert not all_of(page, "#network")
    assert len(all_of(page, "#modules tbody tr")) == 15
    page = opened(found, max_units=30)
    assert not all_of(page, "#network")
    point_at(page, all_of(page, "#hierarchy .dots circle")[0])
    assert lit(page, "hierarchy")


def test_five_hundred_units_fit_in_a_letter(tmp_path: Path, opened: Open) -> None:
    found = detect_modules(planted_modules([100] * 5, n_modules=[10, 10, 5, 5, 5], rewired=0.1, random_state=0)[0])
    page = opened(found)
    assert (tmp_path / "report.html").stat().st_size <= 1.5e6
    page.save_screenshot(str(tmp_path / "report.png"))
    assert (tmp_path / "report.png").stat().st_size > 50_000


def column(page: Any, number: int) -> list[str]:
    return [cell.text for cell in all_of(page, f"#modules tr[data-module]:not([hidden]) > :nth-child({number})")]


def test_the_table_is_sorted_by_any_column_and_filtered(opened: Open) -> None:
    page = opened(PLANTED)
    sizes = [module.units.size for module in PLANTED.modules]
    assert column(page, 1) == [f"#{module}" for module in range(len(sizes))]
    button = all_of(page, "#modules thead button")[1]
    button.click()
    assert column(page, 2) == [str(size) for size in sorted(sizes)]
    assert [head.get_attribute("aria-sort") for head in all_of(page, "#modules thead th")[:3]] == [
        "none",
        "ascending",
        "none",
    ]
    button.click()
    assert column(page, 2) == [str(size) for size in sorted(sizes, reverse=True)]
    all_of(page, "#modules thead button")[0].click()
    assert column(page, 1) == [f"#{module}" for module in range(len(sizes))]
    all_of(page, "#filter")[0].send_keys("#1")
    shown = column(page, 1)
    assert all_of(page, "#shown")[0].text == f"{len(shown)} of {len(sizes)}"
    texts = page.execute_script(
        "return [...document.querySelectorAll('#modules tr[data-module]')].map(r => r.textContent)"
    )
    assert len(shown) == sum("#1" in text for text in texts) < len(sizes)


def test_many_modules_are_grouped_by_level(opened: Open) -> None:
    dag = planted_modules([200, 150, 120, 30], n_modules=[20, 20, 10, 5], fan_out=3, random_state=1)[0]
    found = detect_modules(dag)
    many = labelled(dag, np.arange(dag.n_units))  # each unit is a module
    page = opened(many)
    levels = [module.level for module in many.modules]
    titles = [f"Level {level}: {levels.count(level)} modules" for level in sorted(set(levels))]
    assert [row.text for row in all_of(page, "#modules .level button")] == titles
    all_of(page, "#modules .level button")[0].click()
    assert not all_of(page, "#modules tbody")[0].find_elements("css selector", "tr[data-module]")[0].is_displayed()
    all_of(page, "#filter")[0].send_keys("level 2:")
    assert len(column(page, 1)) == levels.count(2)
    assert [row.text for row in all_of(page, "#modules .level button") if row.is_displayed()] == [titles[2]]
    # Every module has its name in the drawing, or none.
    page = opened(found)
    named = {text.text for text in all_of(page, "#network text.module")}
    assert len(named) in (0, found.n_modules)
    assert bool(named) != ("have no room" in all_of(page, ".network")[0].text)


def test_the_address_names_the_highlighted_module(opened: Open) -> None:
    page = opened(PLANTED)
    start = page.current_url
    all_of(page, "#modules [data-follow='1']")[0].click()
    assert page.current_url == f"{start}#module-1"
    press(page, Keys.ESCAPE)
    assert page.current_url == start
    page.get(f"{start}#module-0")
    page.refresh()
    (row,) = all_of(page, "#modules tr.lit")
    assert row.get_attribute("data-module") == "0"
    assert lit(page)
    page.execute_script("location.hash = '#module-1'")
    view(page)
    assert all_of(page, "#modules tr.lit")[0].get_attribute("data-module") == "1"
    for nonsense in ("#module-99", "#module-", "#x"):
        page.get(f"{start}{nonsense}")
        page.refresh()
        assert not all_of(page, "#modules tr.lit")


def saved(page: Any, button: str, folder: Path) -> bytes:
    """Press a button and return the file that it saves."""
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    all_of(page, f"#{button}")[0].click()
    file = folder / f"modules.{button}"
    WebDriverWait(page, 20).until(lambda _: file.exists())
    return file.read_bytes()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_drawing_and_the_table_are_saved(scheme: str, opened: Open, tmp_path: Path) -> None:
    found = shared(weighted(), 4, 1)
    page = opened(found, evidence=evidence((0.2, 0.9), (0.001, 0.9)))
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    svg = ET.fromstring(saved(page, "svg", tmp_path))
    ns = "{http://www.w3.org/2000/svg}"
    paper = svg.find(f"{ns}rect")
    assert paper is not None
    assert paper.get("fill") == {"light": "#ffffff", "dark": "#1b1f26"}[scheme]
    assert len([*svg.iter(f"{ns}circle")]) >= found.dag.n_units
    painted = {element.get(name) for element in svg.iter() for name in ("fill", "stroke")} - {None, "none"}
    assert all(re.fullmatch("#[0-9a-f]{6}", str(colour)) for colour in painted)
    assert "var(" not in ET.tostring(svg, "unicode")
    png = matplotlib.image.imread(io.BytesIO(saved(page, "png", tmp_path)))
    width, height = (float(svg.get(name, 0)) for name in ("width", "height"))
    assert png.shape[:2] == (round(2 * height), round(2 * width))
    assert len(np.unique(png.reshape(-1, png.shape[2]), axis=0)) > 20
    rows = [*csv.reader(saved(page, "csv", tmp_path).decode("utf-8-sig").splitlines())]
    assert rows[0][:2] == ["Module", "Units"]
    assert [row[0] for row in rows[1:]] == [f"#{module}" for module in range(found.n_modules)]


def test_on_a_narrow_screen_drawings_are_scrolled_rather_than_shrunk(opened: Open) -> None:
    page = opened(PLANTED)
    size = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        heights = [text.size["height"] for text in all_of(page, "#network text.row")]
        assert min(heights) >= 9  # pixels
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
