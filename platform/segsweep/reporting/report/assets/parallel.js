// Parallel coordinates: every design as a line over the axes of its space and the objectives that it reached.

const PARALLEL = { height: 340, top: 52, bottom: 26, side: 64 };
const ABSENT = -0.09; // share of a column at which an axis that is not active is drawn
const parallel = { svg: null, overlay: null, lines: [], columns: null };

const columnOf = (key) => (parallel.columns || (parallel.columns = makeColumns())).find((column) => column.key === key);

function makeColumns() {
  const designAxes = axes.filter((axis) => axis.levels.length + Number(axis.partial) > 1).map(axisColumn);
  const reached = data.objectives.map((key) => metricColumn(metricOf[key]));
  return [...designAxes, ...reached.filter(Boolean)];
}

function axisColumn(axis) {
  const scale = axis.numeric && axis.levels.length > 1
    ? makeScale(axis.levels[0], axis.levels[axis.levels.length - 1], 0, 1, axis.log)
    : (value) => (axis.levels.length > 1 ? axis.levels.indexOf(value) / (axis.levels.length - 1) : 0.5);
  const shown = axis.levels.length <= 9 ? axis.levels : axis.numeric ? ticks(scale, 5) : axis.levels.filter((_, index) => index % Math.ceil(axis.levels.length / 9) === 0);
  return {
    key: `axis:${axis.name}`, name: axis.name, partial: axis.partial, isAxis: true,
    place: (item) => (item.axes[axis.name] === null ? ABSENT : scale(item.axes[axis.name])),
    ticks: shown.map((level) => [scale(level), formatLevel(level)]),
  };
}

function metricColumn(metric) {
  const known = trials.map((trial) => trial.metrics[metric.key]).filter((value) => value !== null);
  if (!known.length) return null;
  const low = Math.min(...known);
  const high = Math.max(...known);
  const scale = low === high ? () => 0.5 : makeScale(low, high, 0, 1, metric.log && low > 0);
  return {
    key: metric.key, name: `${shortLabel(metric)} ${arrow(metric)}`, isAxis: false,
    place: (item) => (item.values[metric.key] === null ? null : scale(item.values[metric.key])),
    ticks: (low === high ? [low] : ticks(scale, 5)).map((value) => [scale(value), formatTick(value)]),
  };
}

function buildParallel() {
  const section = byId("parallel");
  columnOf("");
  if (parallel.columns.filter((column) => column.isAxis).length < 2) return;
  parallel.svg = s("svg", { class: "plot parallel", role: "img", "aria-label": "Parallel coordinates: one line for each design. The design axis filters above do by keyboard what a drag along a column does." });
  const scroller = h("div", { class: "scroll" }, parallel.svg);
  const constant = axes.filter((axis) => axis.levels.length === 1 && !axis.partial).map((axis) => `${axis.name} = ${formatLevel(axis.levels[0])}`);
  fill(section, {}, [
    h("h2", {}, "Which choices lead where"),
    h("p", { class: "lead" }, `One line is one design, coloured by ${several ? "sweep" : shortLabel(metricOf[FIRST])}. Drag along a column to keep only the designs that pass there; click a column to let them go.`),
    scroller,
    constant.length ? h("p", { class: "note" }, `Equal in all trials: ${constant.join(", ")}.`) : null,
  ]);
  parallel.svg.addEventListener("pointermove", (event) => {
    const found = nearestLine(event);
    hover(found ? { item: found } : null, event);
  });
  parallel.svg.addEventListener("pointerleave", () => hover(null));
  parallel.svg.addEventListener("click", (event) => {
    const found = nearestLine(event);
    if (found) change({ pinned: state.pinned === found.key ? null : found.key }, "point");
  });
  new ResizeObserver(() => parallel.width !== scroller.clientWidth && drawParallel()).observe(scroller);
}

function drawParallel() {
  if (!parallel.svg) return;
  const { columns, svg } = parallel;
  parallel.width = svg.parentElement.clientWidth;
  const width = Math.max(parallel.width, columns.length * 88);
  const gap = (width - 2 * PARALLEL.side) / Math.max(columns.length - 1, 1);
  const foot = PARALLEL.height - PARALLEL.bottom - (columns.some((column) => column.partial) ? 22 : 0);
  const y = (share) => foot - share * (foot - PARALLEL.top);
  const x = (index) => PARALLEL.side + index * gap;
  Object.assign(parallel, { x, y, gap, full: width, foot });
  clear(svg);
  fill(svg, { viewBox: `0 0 ${width} ${PARALLEL.height}`, width, height: PARALLEL.height }, []);
  parallel.paths = new Map();
  const places = items.map((item) => ({ item, line: columns.map((column) => column.place(item)) }));
  parallel.lines = places;
  const group = s("g", { class: "lines" });
  const order = (one) => (one.item.status !== "complete" ? -1 : one.item.member ? 2 : 1);
  for (const one of [...places].sort((a, b) => order(a) - order(b) || better(a.item, b.item))) {
    const path = lineOf(one);
    parallel.paths.set(one.item.key, path);
    group.append(path);
  }
  svg.append(group);
  columns.forEach((column, index) => svg.append(drawColumn(column, x(index))));
  parallel.brushes = s("g", { class: "overlay" });
  svg.append(parallel.brushes);
  parallel.overlay = s("g", { class: "overlay" });
  svg.append(parallel.overlay);
  drawParallelBrush();
  drawParallelPoint();
}

// What the brushes leave, without drawing the lines again.
function drawParallelBrush() {
  if (!parallel.svg) return;
  for (const item of items) parallel.paths.get(item.key).classList.toggle("out", !derived.chosen.has(item));
  clear(parallel.brushes);
  parallel.columns.forEach((column, index) => {
    const range = state.axisBrush.get(column.key);
    if (!range) return;
    const [top, foot] = [parallel.y(range[1]), parallel.y(range[0])];
    parallel.brushes.append(s("rect", { class: "brush", x: parallel.x(index) - 9, width: 18, y: top, height: Math.max(2, foot - top) }));
  });
}

const better = (a, b) => (a.values[FIRST] - b.values[FIRST]) * (metricOf[FIRST].max ? 1 : -1) || 0;

function lineOf({ item, line }) {
  const kind = item.status !== "complete" ? "unfinished" : item.member ? "on-front" : "dominated";
  return s("path", { class: kind, d: linePath(line), css: { "--ink": several ? color(item.sweep) : ramp(item) } });
}

function linePath(line) {
  let path = "";
  let pen = false;
  line.forEach((share, index) => {
    if (share === null) {
      pen = false;
      return;
    }
    path += `${pen ? "L" : "M"}${parallel.x(index).toFixed(1)},${parallel.y(share).toFixed(1)}`;
    pen = true;
  });
  return path;
}

// From pale to strong with the share of the first objective's range; mixed by the style, so it fits light and dark.
function ramp(item) {
  const column = columnOf(FIRST);
  const share = column ? column.place(item) : null;
  if (share === null) return "var(--quiet)";
  return `color-mix(in oklab, var(--ramp-high) ${Math.round(100 * (metricOf[FIRST].max ? share : 1 - share))}%, var(--ramp-low))`;
}

function drawColumn(column, x) {
  const { y, foot } = parallel;
  const group = s("g", { class: "column" });
  const parts = column.isAxis ? column.name.split(".") : [column.name];
  const room = Math.max(8, Math.floor(parallel.gap / 6.4));
  const cut = (text) => (text.length > room ? `${text.slice(0, room - 1)}…` : text);
  group.append(s("title", {}, column.name));
  if (parts.length > 1) group.append(s("text", { class: "prefix", x, y: 16, "text-anchor": "middle" }, cut(parts.slice(0, -1).join("."))));
  group.append(s("text", { class: "name", x, y: 32, "text-anchor": "middle" }, cut(parts[parts.length - 1])));
  group.append(s("line", { x1: x, x2: x, y1: PARALLEL.top - 6, y2: foot + 6 }));
  for (const [share, text] of column.ticks) {
    group.append(s("text", { class: "level", x: x + 6, y: y(share) + 4 }, cut(text)));
  }
  if (column.partial) group.append(s("text", { class: "level absent", x: x + 6, y: y(ABSENT) + 4 }, "not active"));
  const hit = s("rect", { class: "hit", x: x - 12, width: 24, y: PARALLEL.top - 14, height: foot - PARALLEL.top + 48 });
  hit.addEventListener("pointerdown", (event) => dragColumn(column, event));
  hit.addEventListener("click", (event) => event.stopPropagation());
  group.append(hit);
  return group;
}

function dragColumn(column, event) {
  event.preventDefault();
  const share = (move) => {
    const box = parallel.svg.getBoundingClientRect();
    const at = ((move.clientY - box.top) / box.height) * PARALLEL.height;
    return (parallel.foot - at) / (parallel.foot - PARALLEL.top);
  };
  const start = share(event);
  let moved = false;
  const set = (range) => {
    const brushes = new Map(state.axisBrush);
    if (range) brushes.set(column.key, range);
    else brushes.delete(column.key);
    change({ axisBrush: brushes }, "brush");
  };
  const onMove = (move) => {
    const now = share(move);
    if (!moved && Math.abs(now - start) < 0.02) return;
    moved = true;
    set([Math.min(start, now), Math.max(start, now)]);
  };
  const onUp = () => {
    window.removeEventListener("pointermove", onMove);
    window.removeEventListener("pointerup", onUp);
    if (!moved) set(null);
  };
  window.addEventListener("pointermove", onMove);
  window.addEventListener("pointerup", onUp);
}

function nearestLine(event) {
  if (!parallel.lines.length || event.buttons) return null;
  const box = parallel.svg.getBoundingClientRect();
  const px = ((event.clientX - box.left) / box.width) * parallel.full;
  const py = ((event.clientY - box.top) / box.height) * PARALLEL.height;
  const left = Math.floor((px - PARALLEL.side) / parallel.gap);
  if (left < 0 || left >= parallel.columns.length - 1) return null;
  const t = (px - parallel.x(left)) / parallel.gap;
  let best = null;
  let least = 8;
  for (const { item, line } of parallel.lines) {
    if (line[left] === null || line[left + 1] === null || !derived.chosen.has(item)) continue;
    const distance = Math.abs(parallel.y(line[left] * (1 - t) + line[left + 1] * t) - py);
    if (distance < least) [best, least] = [item, distance];
  }
  return best;
}

function drawParallelPoint() {
  if (!parallel.overlay) return;
  clear(parallel.overlay);
  for (const [key, kind] of [[state.pinned, "pinned"], [state.hovered, "hovered"]]) {
    const one = key && parallel.lines.find(({ item }) => item.key === key);
    if (one) parallel.overlay.append(s("path", { class: `highlight ${kind}`, d: linePath(one.line) }));
  }
}
