// One metric against another: dots, staircases, error bars, and at the foot what has no final value.

const HEIGHT = 350;
const STRIP = 22; // pixels at the foot for trials without a final value
const LABELS = 12; // names in one panel
const panels = [];

function makePanel(x, y) {
  const panel = { x, y, log: null, placed: [], fronts: {}, scaleX: null, scaleY: null, focus: -1 };
  panel.svg = s("svg", { class: "plot", tabindex: "0", role: "application" });
  panel.note = h("p", { class: "note" });
  panel.head = h("header", {});
  panel.element = h("article", { class: "panel" }, panel.head, panel.svg, panel.note);
  connectInput(panel);
  panels.push(panel);
  return panel;
}

function drawPanel(panel) {
  drawHead(panel);
  const width = Math.max(280, panel.svg.clientWidth || panel.element.clientWidth - 24 || 460);
  const metricX = metricOf[panel.x];
  const metricY = metricOf[panel.y];
  const series = seriesOf(panel.x, panel.y);
  const points = series.flatMap((one) => one.points);
  const unfinished = items.filter((item) => item.status !== "complete" && item.values[panel.x] !== null && item.values[panel.y] === null);
  const strip = unfinished.length ? STRIP : 0;
  const frame = { left: 52, right: width - 14, top: 30, bottom: HEIGHT - 42 - strip, strip };
  clear(panel.svg);
  fill(panel.svg, {
    viewBox: `0 0 ${width} ${HEIGHT}`, height: HEIGHT,
    "aria-label": `${metricY.label} against ${metricX.label}: ${count(points.length, "complete trial")}. Arrow keys go from design to design, Enter keeps one, Escape clears.`,
  }, []);
  panel.placed = [];
  panel.fronts = {};
  panel.knees = {};
  panel.marks = []; // dots that a name must not cover
  panel.walls = []; // the upright parts of the stairs, which names keep off
  panel.frame = frame;
  panel.width = panel.svg.clientWidth;
  const xs = [...points.map((point) => point.x), ...unfinished.map((item) => item.values[panel.x])];
  if (!xs.length || !points.length) {
    panel.scaleX = null;
    panel.svg.append(s("text", { class: "empty", x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, "no complete trial to draw"));
    panel.overlay = s("g");
    panel.note.textContent = unfinished.length ? `${count(unfinished.length, "trial")} without a final value` : "";
    return;
  }
  setScales(panel, xs, points, frame);
  drawAxes(panel, metricX, metricY, frame);
  const clip = `clip-${panels.indexOf(panel)}`;
  panel.svg.append(s("clipPath", { id: clip }, s("rect", { x: frame.left, y: frame.top, width: frame.right - frame.left, height: frame.bottom - frame.top })));
  const inside = s("g", { "clip-path": `url(#${clip})` });
  panel.svg.append(inside);
  const labels = [];
  for (const one of series) drawSeries(panel, one, { target: inside, labels, alone: series.length === 1 });
  drawUnfinished(panel, unfinished, frame);
  drawBetter(panel, metricX, metricY, frame);
  drawLabels(panel, labels, frame);
  drawBrush(panel);
  panel.overlay = s("g", { class: "overlay" });
  panel.svg.append(panel.overlay);
  drawNote(panel, series, unfinished);
  drawPoint(panel);
}

function setScales(panel, xs, points, frame) {
  const metricX = metricOf[panel.x];
  const metricY = metricOf[panel.y];
  const positive = Math.min(...xs) > 0;
  const auto = positive && spansRatios(metricX, xs);
  panel.isLog = positive && (panel.log === null ? auto : panel.log);
  const ys = points.flatMap(({ item, y }) => [y - item.spread[panel.y], y + item.spread[panel.y]]);
  const logY = Math.min(...ys) > 0 && spansRatios(metricY, ys);
  const [x0, x1] = domain(xs, panel.isLog, 0.07);
  const [y0, y1] = domain(ys, logY, 0.1);
  panel.scaleX = makeScale(x0, x1, frame.left, frame.right, panel.isLog);
  panel.scaleY = makeScale(y0, y1, frame.bottom, frame.top, logY);
}

// Costs that differ by factors are read on a logarithmic axis, a score never.
const spansRatios = (metric, values) => metric.log && Math.max(...values) > 4 * Math.min(...values);

function drawAxes(panel, metricX, metricY, frame) {
  const grid = s("g", { class: "grid" });
  for (const value of ticks(panel.scaleX, Math.floor((frame.right - frame.left) / 80))) {
    const x = panel.scaleX(value);
    grid.append(s("line", { x1: x, x2: x, y1: frame.top, y2: frame.bottom + frame.strip }));
    grid.append(s("text", { x, y: frame.bottom + frame.strip + 16, "text-anchor": "middle" }, formatTick(value)));
  }
  for (const value of ticks(panel.scaleY, 5)) {
    const y = panel.scaleY(value);
    grid.append(s("line", { x1: frame.left, x2: frame.right, y1: y, y2: y }));
    grid.append(s("text", { x: frame.left - 8, y: y + 4, "text-anchor": "end" }, formatTick(value)));
  }
  grid.append(s("line", { class: "frame", x1: frame.left, x2: frame.right, y1: frame.bottom, y2: frame.bottom }));
  const middle = (frame.left + frame.right) / 2;
  const logNote = panel.isLog ? ", logarithmic" : "";
  grid.append(s("text", { class: "title", x: middle, y: HEIGHT - 6, "text-anchor": "middle" }, `${metricX.label} ${arrow(metricX)}${logNote}`));
  grid.append(s("text", { class: "title", x: 4, y: 14, "text-anchor": "start" }, `${metricY.label} ${arrow(metricY)}`));
  panel.svg.append(grid);
}

function drawSeries(panel, series, { target, labels, alone }) {
  const at = ({ item, x, y }) => ({ item, x: panel.scaleX(x), y: panel.scaleY(y), vx: x, vy: y });
  const onFront = new Set(series.front.map((point) => point.item));
  const placed = series.points.map(at);
  panel.placed.push(...placed);
  const ink = series.name === -1 ? "var(--line)" : color(series.name);
  const group = s("g", { css: { "--ink": ink } });
  const pale = placed.filter(({ item }) => !onFront.has(item) && !item.member);
  const dots = (list) => list.map(({ x, y }) => `M${x.toFixed(1)},${y.toFixed(1)}h.01`).join("");
  group.append(s("path", { class: "pale out", d: dots(pale.filter(({ item }) => !derived.chosen.has(item))) }));
  group.append(s("path", { class: "pale", d: dots(pale.filter(({ item }) => derived.chosen.has(item))) }));
  const line = staircase(series.front, metricOf[panel.x].max, metricOf[panel.y].max, {
    x0: panel.scaleX.low, x1: panel.scaleX.high, y0: panel.scaleY.low, y1: panel.scaleY.high,
  });
  group.append(s("path", { class: "stairs", d: "M" + line.map(([x, y]) => `${panel.scaleX(x).toFixed(1)},${panel.scaleY(y).toFixed(1)}`).join("L") }));
  line.slice(1).forEach(([x, y], index) => {
    if (x !== line[index][0]) return;
    const ends = [panel.scaleY(y), panel.scaleY(line[index][1])];
    panel.walls.push({ x0: panel.scaleX(x) - 2, x1: panel.scaleX(x) + 2, y0: Math.min(...ends), y1: Math.max(...ends) });
  });
  group.append(s("path", { class: "bars", d: placed.map((point) => errorBars(panel, point)).join("") }));
  for (const point of placed) {
    const { item, x, y } = point;
    if (!onFront.has(item) && !item.member) continue;
    panel.marks.push({ x0: x - 6, x1: x + 6, y0: y - 6, y1: y + 6 });
    const out = derived.chosen.has(item) ? "" : " out";
    group.append(s("circle", { class: (onFront.has(item) ? "front" : "member") + out, cx: x, cy: y, r: 5 }));
    const knee = series.knee.item === item;
    if (knee) group.append(s("circle", { class: "knee" + out, cx: x, cy: y, r: 9 }));
    if (onFront.has(item) && (alone || knee)) labels.push({ ...point, knee });
  }
  target.append(group);
  panel.fronts[series.name] = series.front.map(({ item }) => item.key);
  panel.knees[series.name] = series.knee.item.key;
}

function errorBars(panel, { item, x, y, vx, vy }) {
  const dx = item.spread[panel.x];
  const dy = item.spread[panel.y];
  const up = dy ? `M${x},${panel.scaleY(vy - dy)}V${panel.scaleY(vy + dy)}m-3,0h6M${x - 3},${panel.scaleY(vy - dy)}h6` : "";
  const low = Math.max(vx - dx, panel.scaleX.low);
  return up + (dx ? `M${panel.scaleX(low)},${y}H${panel.scaleX(vx + dx)}` : "");
}

function drawUnfinished(panel, unfinished, frame) {
  if (!unfinished.length) return;
  const y = frame.bottom + frame.strip / 2 + 1;
  const group = s("g", { class: "strip" });
  group.append(s("rect", { x: frame.left, y: frame.bottom + 1, width: frame.right - frame.left, height: frame.strip - 1 }));
  for (const item of unfinished) {
    const x = panel.scaleX(item.values[panel.x]);
    const out = derived.chosen.has(item) ? "" : " out";
    group.append(s("path", { class: `mark ${item.status}${out}`, d: GLYPHS[item.status](x, y, 3.6) }));
    panel.placed.push({ item, x, y, foot: true });
  }
  panel.svg.append(group);
}

// An arrow towards the corner that every design would like to reach: above the plot, or in its foot where less is better.
function drawBetter(panel, metricX, metricY, frame) {
  const x = metricX.max ? frame.right - 2 : 138;
  const y = metricY.max ? 5 : frame.bottom - 6;
  const [dx, dy] = [metricX.max ? -1 : 1, metricY.max ? 1 : -1];
  panel.svg.append(s("g", { class: "better" },
    s("path", { d: `M${x + 14 * dx},${y + 14 * dy}L${x},${y}M${x + 7 * dx},${y}H${x}V${y + 7 * dy}` }),
    s("text", { x: x + 19 * dx, y: y + (metricY.max ? 13 : -4), "text-anchor": metricX.max ? "end" : "start" }, "better")));
}

function drawLabels(panel, labels, frame) {
  const taken = [...panel.marks];
  const group = s("g", { class: "labels" });
  let drawn = 0;
  for (const { item, x, y, knee } of labels.sort((a, b) => Number(b.knee) - Number(a.knee))) {
    if (drawn >= LABELS) break;
    const name = item.name.length > 26 ? `${item.name.slice(0, 25)}…` : item.name;
    const words = knee ? `${name} · knee` : name;
    const width = words.length * 6.1;
    const place = freePlace(x, y, width, [...taken, ...panel.walls], frame) || freePlace(x, y, width, taken, frame);
    if (!place) continue;
    taken.push(place.box);
    drawn += 1;
    group.append(s("text", { x: place.x, y: place.y, "text-anchor": place.anchor, class: knee ? "knee-name" : null }, words));
  }
  panel.svg.append(group);
}

function freePlace(x, y, width, taken, frame) {
  for (const [dx, dy, anchor] of [[-9, -7, "end"], [10, -7, "start"], [11, 15, "start"], [-9, 15, "end"], [0, -13, "middle"], [0, 22, "middle"]]) {
    const left = anchor === "end" ? x + dx - width : anchor === "start" ? x + dx : x - width / 2;
    const box = { x0: left - 1, x1: left + width + 1, y0: y + dy - 10, y1: y + dy + 3 };
    const inside = box.x0 > frame.left && box.x1 < frame.right && box.y0 > frame.top - 8 && box.y1 < frame.bottom;
    const free = !taken.some((other) => box.x0 < other.x1 && box.x1 > other.x0 && box.y0 < other.y1 && box.y1 > other.y0);
    if (inside && free) return { x: x + dx, y: y + dy, anchor, box };
  }
  return null;
}

function drawNote(panel, series, unfinished) {
  const front = series.reduce((sum, one) => sum + one.front.length, 0);
  const total = series.reduce((sum, one) => sum + one.points.length, 0);
  const parts = [`${front} of ${count(total, state.average ? "complete design" : "complete trial")} on the front of this panel`];
  const kinds = ["stopped", "failed", "infeasible"].map((status) => [status, unfinished.filter((item) => item.status === status).length]);
  const foot = kinds.filter(([, number]) => number).map(([status, number]) => `${number} ${status}`).join(", ");
  if (foot) parts.push(`at the foot: ${foot} (cost known, no final value)`);
  panel.note.replaceChildren(`${parts.join(" · ")}.`);
  const mixed = [panel.x, panel.y].filter((key) => data.mixed_speed.includes(key));
  if (mixed.length) panel.note.append(h("strong", { class: "mixed" }, " Speeds of different devices or settings: do not compare across them."));
}
