// Four parts: drawings with their graphs, what is highlighted, the controls, and the table of modules.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const MOST_NAMES = 40;  // names of inputs or outputs in the panel
const MOST_FOUND = 24;  // results of a search
const MOST_ZOOM = 100;  // times

// Group values by key; groups and values keep their order.
function grouped(values, keyOf) {
  const groups = new Map();
  for (const value of values) {
    const key = keyOf(value);
    if (groups.has(key)) groups.get(key).push(value);
    else groups.set(key, [value]);
  }
  return groups;
}

// A new element.
function make(tag, text = "", attributes = {}) {
  const element = document.createElement(tag);
  element.textContent = text;
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

// --- A drawing and its graph ---------------------------------------------------------------------------------------

class Picture {
  constructor(svg, graph) {
    Object.assign(this, graph);  // names, layers, modules, degrees, targets, pathOfEdge
    this.svg = svg;
    this.n = this.names.length;
    this.after = this.names.map(() => []);
    this.before = this.names.map(() => []);
    this.unitsOf = grouped(this.modules.keys(), (unit) => this.modules[unit]);
    this.paths = [...svg.querySelectorAll(".edges path")];  // each with the edges of a module that look alike
    const pieces = this.paths.map((path) => path.getAttribute("d").split("M"));
    const used = this.paths.map(() => 0);  // number of pieces used
    this.edges = [];
    let number = 0;
    this.degrees.forEach((degree, source) => {
      for (const end = number + degree; number < end; number++) {
        const target = this.targets[number], path = this.pathOfEdge[number];
        this.edges.push({ source, target, path, piece: pieces[path][++used[path]] });  // the first piece is empty
        this.after[source].push(target);
        this.before[target].push(source);
      }
    });
    this.dots = [];
    for (const dot of svg.querySelectorAll(".dots circle")) this.dots[+dot.dataset.unit] = dot;
    this.at = this.dots.map((dot) => ({ x: +dot.getAttribute("cx"), y: +dot.getAttribute("cy") }));
    this.boxes = [...svg.querySelectorAll(".boxes rect")];
    this.rows = grouped(this.at.keys(), (unit) => this.at[unit].y);
    for (const row of this.rows.values()) row.sort((a, b) => this.at[a].x - this.at[b].x);
    this.heights = [...this.rows.keys()].sort((a, b) => a - b);
    this.makeCurrent(this.rows.get(this.heights.at(-1))[0]);
  }

  // The units that can be reached from `starts` along `next` (this.after or this.before), without `starts`.
  reach(starts, next) {
    const reached = new Set(starts), queue = [...starts];
    for (let unit; (unit = queue.pop()) !== undefined; )
      for (const other of next[unit]) if (!reached.has(other)) reached.add(other), queue.push(other);
    starts.forEach((unit) => reached.delete(unit));
    return reached;
  }

  // The units and edges on paths to or from `starts`.
  flow(starts) {
    const up = this.reach(starts, this.after), down = this.reach(starts, this.before), from = new Set(starts);
    const within = (edge, side) =>
      (from.has(edge.source) || side.has(edge.source)) && (from.has(edge.target) || side.has(edge.target));
    return {
      starts: from,
      units: new Set([...up, ...down, ...starts]),
      edges: this.edges.filter((edge) => within(edge, up) || within(edge, down)),
    };
  }

  // Highlight a flow; null: nothing.
  highlight(flow) {
    const { starts, units, edges } = flow ?? { starts: [], units: [], edges: [] };
    const modulesOf = (some) => new Set([...some].map((unit) => this.modules[unit]));
    const reached = modulesOf(units), chosen = modulesOf(starts);
    this.svg.classList.toggle("following", flow !== null);
    for (const box of this.boxes) {
      box.classList.toggle("lit", reached.has(+box.dataset.module));
      box.classList.toggle("start", chosen.has(+box.dataset.module));
    }
    const lines = [...grouped(edges, (edge) => edge.path)].map(([path, parts]) => {
      const line = this.paths[path].cloneNode();
      line.setAttribute("d", parts.map((edge) => "M" + edge.piece).join(""));
      return line;
    });
    this.svg.querySelector(".over .lines").replaceChildren(...lines);
    const dots = [...units].map((unit) => this.copy(unit));
    for (const dot of dots) if (flow.starts.has(+dot.dataset.of)) dot.classList.add("start");
    this.svg.querySelector(".over .lit").replaceChildren(...dots);
  }

  // A copy of the dot of `unit`, to draw on top of it.
  copy(unit) {
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const name of ["cx", "cy", "r", "style"]) dot.setAttribute(name, this.dots[unit].getAttribute(name));
    dot.dataset.of = unit;
    return dot;
  }

  // Make `unit` the one that the Tab key stops at.
  makeCurrent(unit) {
    this.dots[this.current]?.setAttribute("tabindex", "-1");
    this.current = unit;
    const label = `${this.names[unit]}, ${this.place(unit)}, module ${moduleName(this.modules[unit])}`;
    for (const [name, value] of [["tabindex", "0"], ["role", "button"], ["aria-label", label]])
      this.dots[unit].setAttribute(name, value);
    for (const name of ["cx", "cy", "r"]) this.svg.querySelector(".ring").setAttribute(name, this.dots[unit].getAttribute(name));
  }

  // The layer or level of `unit`, in words.
  place(unit) {
    return this === hierarchy ? `level ${this.layers[unit]}` : data.layers[this.layers[unit]];
  }

  // The unit next to `unit` in the direction of an arrow key.
  neighbour(unit, key) {
    const { x, y } = this.at[unit], row = this.rows.get(y);
    const along = { ArrowLeft: -1, ArrowRight: 1 }[key];
    if (along) return row[row.indexOf(unit) + along] ?? unit;
    if (key === "Home") return row[0];
    if (key === "End") return row.at(-1);
    const other = this.rows.get(this.heights[this.heights.indexOf(y) + (key === "ArrowUp" ? -1 : 1)]);
    return (other ?? [unit]).reduce((a, b) => (Math.abs(this.at[b].x - x) < Math.abs(this.at[a].x - x) ? b : a));
  }
}

const tableRows = new Map([...document.querySelectorAll("#modules tr[data-module]")].map((row) => [+row.dataset.module, row]));
const moduleName = (module) => tableRows.get(module)?.querySelector("[data-follow]").textContent ?? `#${module}`;
let network = null, hierarchy = null;
if (data.network) network = new Picture(byId("network"), data.network);
if (data.hierarchy) hierarchy = new Picture(byId("hierarchy"), data.hierarchy);
const pictures = [network, hierarchy].filter((picture) => picture !== null);

// --- What is highlighted ---------------------------------------------------------------------------------------

// Each is a unit ({picture, unit}), a module ({module}) or null. What is pointed at has priority over what has the focus.
const look = { pointed: null, focused: null, followed: null };  // followed: the module that stays highlighted

// A unit of the module hierarchy stands for a module.
function asModule(thing) {
  if (thing === null || thing.picture !== hierarchy || hierarchy === null) return thing;
  return thing.unit === undefined ? thing : { module: hierarchy.modules[thing.unit] };
}

function update() {
  const shown = asModule(look.pointed ?? look.focused) ?? look.followed;
  const highlighted = look.followed ?? shown;
  const drawn = network ?? hierarchy;
  const module = highlighted === null ? null : highlighted.module ?? network.modules[highlighted.unit];
  for (const row of document.querySelectorAll("tr[data-module]")) row.classList.toggle("lit", +row.dataset.module === module);
  if (drawn !== null) {
    const { unit } = highlighted ?? {};
    const flow = highlighted === null ? null : drawn.flow(unit === undefined ? drawn.unitsOf.get(module) ?? [] : [unit]);
    drawn.highlight(flow);
    if (network !== null) hierarchy?.highlight(flow === null ? null : asHierarchy(flow, module));
  }
  describe(shown);
  if (byId("clear")) byId("clear").disabled = look.followed === null && !byId("search").value;
}

// The flow in the module hierarchy that belongs to a flow in the network.
function asHierarchy(flow, module) {
  const reached = new Set([...flow.units].map((unit) => network.modules[unit]));
  const pair = (picture, { source, target }) => `${picture.modules[source]} ${picture.modules[target]}`;
  const links = new Set(flow.edges.map((edge) => pair(network, edge)));
  return {
    starts: new Set(hierarchy.unitsOf.get(module)),
    units: new Set([...hierarchy.modules.keys()].filter((unit) => reached.has(hierarchy.modules[unit]))),
    edges: hierarchy.edges.filter((edge) => links.has(pair(hierarchy, edge))),
  };
}

const overview = { title: byId("panel-title").textContent, nodes: [...byId("panel").childNodes] };

// Describe a unit or module in the panel; null: the whole network.
function describe(thing) {
  const panel = byId("panel"), title = byId("panel-title"), facts = make("dl");
  const add = (name, text) => facts.append(make("dt", name), make("dd", text, { "data-fact": name }));
  if (thing === null) {
    title.textContent = overview.title;
    panel.replaceChildren(...overview.nodes);
    return;
  }
  const module = thing.module ?? network.modules[thing.unit];
  if (thing.unit === undefined) {
    title.textContent = `Module ${moduleName(module)}`;
  } else {
    title.textContent = network.names[thing.unit];
    add("Layer", network.place(thing.unit));
    add("Module", moduleName(module));
    if (thing.picture === network && data.shares[thing.unit]) add("Shared by", data.shares[thing.unit]);
  }
  if (thing.unit !== undefined && data.whole) {
    add("Depends on", ends([thing.unit], network.before, 0, "input"));
    add("Reaches", ends([thing.unit], network.after, data.layers.length - 1, "output"));
    add("Edges", `${network.before[thing.unit].length} in, ${network.after[thing.unit].length} out`);
  } else {
    const names = [...document.querySelectorAll("#modules thead th")].map((cell) => cell.textContent);
    const cells = [...(tableRows.get(module)?.cells ?? [])];
    cells.slice(1).forEach((cell, number) => add(names[number + 1], cell.textContent));
  }
  panel.replaceChildren(facts);
}

// The inputs (or outputs) that a unit depends on (or reaches), in words.
function ends([unit], next, layer, kind) {
  if (network.layers[unit] === layer) return `is an ${kind}`;
  const all = network.layers.filter((other) => other === layer).length;
  const reached = [...network.reach([unit], next)].filter((other) => network.layers[other] === layer).sort((a, b) => a - b);
  const names = reached.slice(0, MOST_NAMES).map((other) => network.names[other]);
  if (reached.length > MOST_NAMES) names.push(`… ${reached.length - MOST_NAMES} more`);
  return `${reached.length} of ${all} ${kind}s${reached.length ? ": " : ""}${names.join(", ")}`;
}

// Keep a module highlighted, or stop doing so.
function follow(module) {
  look.followed = look.followed?.module === module ? null : { module };
  look.focused = look.pointed = null;
  update();
  setAddress();
}

// Keep the followed module in the address, #module-3.
function setAddress() {
  const hash = look.followed === null ? "" : `#module-${look.followed.module}`;
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
}

function followAddress() {
  const module = +/^#module-(\d+)$/.exec(location.hash)?.[1];
  const known = tableRows.has(module) || (network ?? hierarchy)?.unitsOf.has(module);
  if (known && look.followed?.module !== module) follow(module);
}

function clear() {
  look.followed = null;
  if (byId("search")) byId("search").value = "", search();
  update();
  setAddress();
}

function focus(picture, unit) {
  picture.makeCurrent(unit);
  if (picture === network) bringIntoView(unit);
  picture.dots[unit].focus({ preventScroll: picture === network });
}

for (const picture of pictures) {
  const { svg } = picture;
  const thingAt = (event) => {
    const dot = event.target.closest("[data-unit]"), box = event.target.closest("[data-module]");
    if (dot) return { picture, unit: +dot.dataset.unit };
    return box ? { module: +box.dataset.module } : null;
  };
  svg.addEventListener("pointerover", (event) => ((look.pointed = thingAt(event)), update()));
  svg.addEventListener("pointerleave", () => ((look.pointed = null), update()));
  // On the parent: an SVG element that listens for focus would be a stop of the Tab key itself.
  svg.parentElement.addEventListener("focusin", (event) => ((look.focused = thingAt(event)), update()));
  svg.parentElement.addEventListener("focusout", () => ((look.focused = null), update()));
  svg.addEventListener("click", (event) => {
    const thing = thingAt(event);
    if (svg.classList.contains("moved")) return;
    if (thing === null) return clear();
    if (thing.unit !== undefined) focus(picture, thing.unit);
    follow(thing.module ?? picture.modules[thing.unit]);
  });
  svg.addEventListener("keydown", (event) => {
    const dot = event.target.closest("[data-unit]");
    if (dot === null || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Enter" || event.key === " ") follow(picture.modules[+dot.dataset.unit]);
    else if (/^(Arrow|Home|End)/.test(event.key) && !event.shiftKey) focus(picture, picture.neighbour(+dot.dataset.unit, event.key));
    else return;
    event.preventDefault();
  });
}
for (const row of document.querySelectorAll("tr[data-module]")) {
  row.addEventListener("pointerenter", () => ((look.pointed = { module: +row.dataset.module }), update()));
  row.addEventListener("pointerleave", () => ((look.pointed = null), update()));
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-follow]");
  if (button) follow(+button.dataset.follow);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
});

// --- Zoom and pan: the network's viewBox ---------------------------------------------------------------------------

const { x, y, width, height } = network?.svg.viewBox.baseVal ?? {}, box = { x, y, width, height };
let view = box;
let waiting = false;  // for the next animation frame

// Show the part of the drawing with this left, top and width, within the whole.
function show(x, y, width) {
  const w = Math.min(Math.max(width, box.width / MOST_ZOOM), box.width), h = (w * box.height) / box.width;
  view = {
    x: Math.min(Math.max(x, box.x), box.x + box.width - w),
    y: Math.min(Math.max(y, box.y), box.y + box.height - h),
    width: w,
    height: h,
  };
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    network.svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
    network.svg.classList.toggle("zoomed", view.width < box.width);
  });
}

// Zoom in by `factor`; `point` keeps its place.
function zoom(factor, point = { x: view.x + view.width / 2, y: view.y + view.height / 2 }) {
  const width = Math.min(Math.max(view.width / factor, box.width / MOST_ZOOM), box.width), share = width / view.width;
  show(point.x - (point.x - view.x) * share, point.y - (point.y - view.y) * share, width);
}

function pan(dx, dy) {
  show(view.x + dx * view.width, view.y + dy * view.height, view.width);
}

// Move to `unit`, and zoom in if its dot is too small to see.
function bringIntoView(unit) {
  const { x, y } = network.at[unit], r = +network.dots[unit].getAttribute("r");
  const scale = network.svg.getBoundingClientRect().width / view.width;
  const width = r * scale < 3 ? (view.width * r * scale) / 6 : view.width;
  const inside = x > view.x && x < view.x + view.width && y > view.y && y < view.y + view.height;
  if (width < view.width || !inside) show(x - width / 2, y - (width * box.height) / box.width / 2, width);
  const frame = network.svg.parentElement, left = ((x - view.x) / view.width) * network.svg.clientWidth;  // a narrow screen
  if (left < frame.scrollLeft || left > frame.scrollLeft + frame.clientWidth) frame.scrollLeft = left - frame.clientWidth / 2;
}

if (network !== null) {
  const { svg } = network;
  const inDrawing = (event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  svg.addEventListener("wheel", (event) => {
    // Zoomed out completely: the wheel scrolls the page.
    if (event.deltaY > 0 && view.width >= box.width) return;
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), inDrawing(event));
  }, { passive: false });
  let grip = null;  // where the pointer holds the drawing
  svg.addEventListener("pointerdown", (event) => {
    svg.classList.remove("moved");
    if (event.button === 0) grip = { x: event.clientX, y: event.clientY };
  });
  svg.addEventListener("pointermove", (event) => {
    if (grip === null) return;
    const dx = event.clientX - grip.x, dy = event.clientY - grip.y;
    if (!svg.classList.contains("moving") && Math.hypot(dx, dy) < 4) return;
    svg.classList.add("moving", "moved");
    svg.setPointerCapture(event.pointerId);
    const scale = svg.getScreenCTM().a;
    grip = { x: event.clientX, y: event.clientY };
    show(view.x - dx / scale, view.y - dy / scale, view.width);
  });
  for (const over of ["pointerup", "pointercancel"])
    svg.addEventListener(over, () => ((grip = null), svg.classList.remove("moving")));
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-0.15, 0], ArrowRight: [0.15, 0], ArrowUp: [0, -0.15], ArrowDown: [0, 0.15] }[event.key];
    const current = network.at[network.current];
    if (step && event.shiftKey) pan(...step);
    else if (event.key === "+" || event.key === "=") zoom(1.5, current);
    else if (event.key === "-") zoom(1 / 1.5, current);
    else if (event.key === "0") show(box.x, box.y, box.width);
    else return;
    event.preventDefault();
  });
  byId("in").addEventListener("click", () => zoom(1.5));
  byId("out").addEventListener("click", () => zoom(1 / 1.5));
  byId("fit").addEventListener("click", () => show(box.x, box.y, box.width));
  byId("clear").addEventListener("click", () => (clear(), byId("search").focus()));
  byId("search").addEventListener("input", () => (search(), update()));
  byId("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") byId("results").querySelector("button")?.click();
  });
}

// --- Search, theme, print ------------------------------------------------------------------------------------------

function search() {
  const wanted = byId("search").value.trim().toLowerCase(), results = byId("results");
  const matches = network.svg.querySelector(".matches");
  matches.replaceChildren();
  results.replaceChildren();
  if (!wanted) return;
  const matching = (text) => text.toLowerCase().includes(wanted);
  const found = [];
  for (const module of [...network.unitsOf.keys()].sort((a, b) => a - b))
    if (matching(moduleName(module)) || matching(`#${module}`))
      found.push([`Module ${moduleName(module)}`, () => follow(module)]);
  network.names.forEach((name, unit) => {
    if (!matching(name)) return;
    matches.append(network.copy(unit));
    found.push([`${name} (${network.place(unit)})`, () => focus(network, unit)]);
  });
  const list = make("ul");
  for (const [text, go] of found.slice(0, MOST_FOUND)) {
    const button = make("button", text, { type: "button", class: "link" }), item = make("li");
    button.addEventListener("click", go);
    item.append(button);
    list.append(item);
  }
  const more = found.length > MOST_FOUND ? `, the first ${MOST_FOUND}:` : found.length ? ":" : ".";
  results.append(make("p", `${found.length} found${more}`), list);
}

const theme = byId("theme"), system = matchMedia("(prefers-color-scheme: dark)");
const setTheme = (dark) => {
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
  theme.textContent = dark ? "Light" : "Dark";
};
theme.textContent = system.matches ? "Light" : "Dark";
theme.addEventListener("click", () => setTheme(theme.textContent === "Dark"));
byId("print").addEventListener("click", () => print());

// --- Files: the drawing as SVG or PNG ------------------------------------------------------------------------------

const PAINTED = ["fill-opacity", "stroke-width", "stroke-opacity", "stroke-dasharray", "vector-effect", "opacity", "display",
  "font-size", "font-weight", "font-family", "text-anchor", "dominant-baseline"];
const MOST_PIXELS = 8000;  // width or height of a PNG

const pixel = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const hexOf = new Map();  // CSS colours that programs for drawing may not know, such as color-mix() → #rrggbb

function hex(colour) {
  if (colour !== "none" && !hexOf.has(colour)) {
    pixel.fillStyle = colour;
    pixel.fillRect(0, 0, 1, 1);
    const [r, g, b] = pixel.getImageData(0, 0, 1, 1).data;
    hexOf.set(colour, `#${((r << 16) | (g << 8) | b).toString(16).padStart(6, "0")}`);
  }
  return hexOf.get(colour) ?? colour;
}

function save(name, blob) {
  const link = make("a", "", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// The whole drawing of the network as it looks now, with its styles as attributes.
function drawingFile() {
  const copy = network.svg.cloneNode(true), copies = [...copy.querySelectorAll("*")];
  [...network.svg.querySelectorAll("*")].forEach((element, number) => {
    const style = getComputedStyle(element), target = copies[number];
    for (const name of PAINTED) target.setAttribute(name, style.getPropertyValue(name));
    for (const name of ["fill", "stroke"]) target.setAttribute(name, hex(style.getPropertyValue(name)));
    for (const name of ["style", "tabindex", "role", "class"]) target.removeAttribute(name);
  });
  const { x, y, width, height } = box;
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  const colour = hex(getComputedStyle(document.querySelector(".card")).backgroundColor);
  for (const [name, value] of Object.entries({ x, y, width, height, fill: colour })) paper.setAttribute(name, value);
  copy.prepend(paper);
  for (const name of ["style", "class", "id", "role"]) copy.removeAttribute(name);
  for (const [name, value] of Object.entries({ width, height, viewBox: `${x} ${y} ${width} ${height}` })) copy.setAttribute(name, value);
  return new XMLSerializer().serializeToString(copy);
}

async function savePng() {
  const image = new Image(), scale = Math.min(2, MOST_PIXELS / Math.max(box.width, box.height));
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawingFile())}`;
  await image.decode();
  const canvas = new OffscreenCanvas(Math.round(scale * box.width), Math.round(scale * box.height));
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  save("modules.png", await canvas.convertToBlob());
}

byId("svg")?.addEventListener("click", () => save("modules.svg", new Blob([drawingFile()], { type: "image/svg+xml" })));
byId("png")?.addEventListener("click", savePng);

// --- The table: order, filter, levels, CSV -------------------------------------------------------------------------

const table = byId("modules"), heads = [...table.tHead.rows[0].cells], byText = new Intl.Collator("en", { numeric: true });
const rowsOf = (group) => [...group.rows].filter((row) => row.dataset.module !== undefined);

// Sort the rows of each level by a column; numbers that aren't known come last.
function sortBy(column) {
  const sign = heads[column].ariaSort === "ascending" ? -1 : 1, isNumber = heads[column].classList.contains("number");
  heads.forEach((head, number) => (head.ariaSort = number !== column ? "none" : sign > 0 ? "ascending" : "descending"));
  const textOf = (row) => row.cells[column].textContent;
  const numberOf = (row) => (Number.isNaN(parseFloat(textOf(row))) ? sign * Infinity : parseFloat(textOf(row)));
  const before = (a, b) => (isNumber ? Math.sign(numberOf(a) - numberOf(b)) || 0 : byText.compare(textOf(a), textOf(b)));
  for (const group of table.tBodies) group.append(...rowsOf(group).sort((a, b) => sign * before(a, b)));
}

// Show the rows that contain the text of the filter, and levels whose title does.
function filter() {
  const wanted = byId("filter").value.trim().toLowerCase(), contains = (row) => row.textContent.toLowerCase().includes(wanted);
  let shown = 0;
  for (const group of table.tBodies) {
    const title = group.querySelector(".level"), rows = rowsOf(group);
    if (wanted) open(group, true);
    for (const row of rows) row.hidden = !contains(row) && !(title && contains(title));
    const left = rows.filter((row) => !row.hidden).length;
    if (title) title.hidden = left === 0;
    shown += left;
  }
  byId("shown").textContent = wanted ? `${shown} of ${tableRows.size}` : "";
}

function open(group, isOpen) {
  group.classList.toggle("closed", !isOpen);
  group.querySelector(".level button")?.setAttribute("aria-expanded", isOpen);
}

// The rows that the filter shows; a text that a spreadsheet would take for a formula begins with an apostrophe.
function csv() {
  const rows = [...table.tBodies].flatMap(rowsOf).filter((row) => !row.hidden);
  const cell = ({ textContent }) => `"${textContent.trim().replace(/^(?=[=+@-])/, "'").replaceAll('"', '""')}"`;
  return [table.tHead.rows[0], ...rows].map((row) => [...row.cells].map(cell).join(",") + "\r\n").join("");
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sortBy(column)));
for (const group of table.tBodies)
  group.querySelector(".level button")?.addEventListener("click", () => open(group, group.classList.contains("closed")));
byId("filter").addEventListener("input", filter);
byId("csv").addEventListener("click", () => save("modules.csv", new Blob(["\ufeff", csv()], { type: "text/csv" })));
addEventListener("hashchange", followAddress);
followAddress();
