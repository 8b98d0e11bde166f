// Elements and numbers as people read them. Texts from the data only ever become text nodes or attributes.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "css") for (const [key, item] of Object.entries(value)) element.style.setProperty(key, item);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

function clear(element) {
  element.replaceChildren();
  return element;
}

const grouped = new Intl.NumberFormat("en-US");
const count = (number, noun) => `${grouped.format(number)} ${noun}${number === 1 ? "" : "s"}`;

// A value of a metric with the decimals of its unit, more where it is so small that they would hide it.
function formatMetric(metric, value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  const decimals = size > 0 && size < 1 ? Math.max(metric.decimals, 2 - Math.floor(Math.log10(size))) : metric.decimals;
  return value.toLocaleString("en-US", { minimumFractionDigits: metric.decimals, maximumFractionDigits: Math.min(decimals, 8) });
}

function formatTick(value) {
  const size = Math.abs(value);
  if (size >= 1e5 || (size > 0 && size < 1e-3)) return value.toExponential(0).replace("e+", "e");
  return String(Number(value.toPrecision(6)));
}

function formatLevel(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number" && !Number.isInteger(value)) return String(Number(value.toPrecision(4)));
  return String(value);
}

const arrow = (metric) => (metric.max ? "↑" : "↓");
const shortLabel = (metric) => metric.label.replace(" per image", "");

// One glyph for each way in which a trial ended: told apart by shape, not only by colour.
const GLYPHS = {
  complete: (x, y, r) => `M${x - r},${y}a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0z`,
  stopped: (x, y, r) => `M${x - r},${y - r * 0.8}h${2 * r}L${x},${y + r}z`,
  failed: (x, y, r) => `M${x - r},${y - r}l${2 * r},${2 * r}M${x + r},${y - r}l${-2 * r},${2 * r}`,
  infeasible: (x, y, r) => `M${x - r},${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
};
const STATUS_WORDS = {
  complete: "trained to the end: its mIoU is final",
  stopped: "stopped early by the scheduler: no final mIoU",
  failed: "raised, diverged or was killed: no final mIoU",
  infeasible: "over a constraint: never trained",
};

function glyph(status) {
  return s("svg", { class: `glyph ${status}`, viewBox: "-6 -6 12 12", "aria-hidden": "true" },
    s("path", { d: GLYPHS[status](0, 0, 4) }));
}
