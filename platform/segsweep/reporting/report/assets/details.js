// The words beside a point: a small card at the pointer, and the whole record of the design that is kept.

function showTooltip(item, left, top) {
  const box = byId("tooltip");
  clear(box).append(...tooltipRows(item));
  box.hidden = false;
  const { width, height } = box.getBoundingClientRect();
  const x = left + 18 + width > window.innerWidth ? left - width - 14 : left + 18;
  const y = Math.min(Math.max(8, top - height / 2), window.innerHeight - height - 8);
  box.style.setProperty("left", `${Math.max(8, x)}px`);
  box.style.setProperty("top", `${y}px`);
}

function hideTooltip() {
  byId("tooltip").hidden = true;
}

function tooltipRows(item) {
  const { first } = item;
  const title = h("div", { class: "name" }, h("span", { class: "swatch", css: { background: color(item.sweep) } }), `${item.name}${item.name.startsWith("#") ? "" : ` #${first.number}`}`,
    h("span", { class: "where" }, several ? groupName(item.sweep) : sweeps[first.sweep].method));
  return [title, statusLine(item), metricList(item), axisList(first)];
}

function statusLine(item) {
  const { first } = item;
  const epochs = sweeps[first.sweep].epochs;
  if (first.status === "complete") {
    const place = item.knee ? "knee" : item.member ? "on the front" : "dominated";
    const seeds = item.trials.length > 1 ? ` · mean of ${item.trials.length} seeds ± 1 standard deviation` : "";
    return h("p", { class: "status" }, `${place}${seeds}`);
  }
  const reached = first.reached === null ? "" : `, at ${formatMetric(metricOf.miou || metrics[0], first.reached)} % mIoU (not final)`;
  const when = first.epoch ? ` after ${first.epoch} of ${epochs} epochs${reached}` : "";
  return h("p", { class: `status ${first.status}` }, glyph(first.status), ` ${first.status}${when}${first.reason ? `: ${first.reason}` : ""}`);
}

function metricList(item) {
  const known = metrics.filter((metric) => item.values[metric.key] !== null);
  return h("dl", { class: "values" }, known.map((metric) => [
    h("dt", {}, `${metric.label} ${arrow(metric)}`), h("dd", {}, valueText(item, metric)),
  ]));
}

function valueText(item, metric) {
  const spread = item.spread[metric.key];
  return `${formatMetric(metric, item.values[metric.key])}${spread ? ` ± ${formatMetric(metric, spread)}` : ""}`;
}

function axisList(trial) {
  const own = axes.filter((axis) => trial.axes[axis.name] !== null);
  return h("dl", { class: "axes" }, own.map((axis) => [h("dt", {}, axis.name), h("dd", {}, formatLevel(trial.axes[axis.name]))]));
}

function drawDetail() {
  const section = clear(byId("detail"));
  const item = state.pinned && itemOf(state.pinned);
  section.hidden = !item;
  if (!item) return;
  const { first } = item;
  const close = h("button", { type: "button", class: "small", "aria-label": "let this design go", onclick: () => change({ pinned: null }, "point") }, "×");
  const title = h("header", {}, h("h2", {}, h("span", { class: "swatch", css: { background: color(item.sweep) } }), item.name, " ", h("code", {}, first.id)), h("span", { class: "gap" }), close);
  const facts = h("dl", { class: "values" },
    h("dt", {}, "sweep"), h("dd", {}, item.trials.map((trial) => sweeps[trial.sweep].id).join(", ")),
    h("dt", {}, "proposed by"), h("dd", {}, first.source),
    h("dt", {}, "wall time"), h("dd", {}, duration(mean(item.trials.map((trial) => trial.seconds)))));
  section.append(title, h("div", { class: "detail-grid" },
    h("div", {}, statusLine(item), metricList(item), facts),
    h("div", {}, h("h3", {}, "Design"), axisList(first)),
    learningCurves(item)));
}

const duration = (seconds) => (seconds >= 5400 ? `${(seconds / 3600).toFixed(1)} h` : seconds >= 90 ? `${(seconds / 60).toFixed(1)} min` : `${seconds.toFixed(1)} s`);

function learningCurves(item) {
  const curves = item.trials.map((trial) => trial.curve).filter(([epochs]) => epochs.length > 1);
  if (!curves.length) return h("div", {});
  const [width, height, left, bottom] = [330, 170, 40, 26];
  const all = curves.flatMap(([, values]) => values);
  const x = makeScale(0, Math.max(...curves.flatMap(([epochs]) => epochs)), left, width - 8, false);
  const [low, high] = domain(all, false, 0.08);
  const y = makeScale(low, high, height - bottom, 8, false);
  const svg = s("svg", { class: "plot curve", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Validation mIoU by epoch; the last is ${all[all.length - 1]} %` });
  const grid = s("g", { class: "grid" });
  for (const value of ticks(y, 4)) {
    grid.append(s("line", { x1: left, x2: width - 8, y1: y(value), y2: y(value) }), s("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end" }, formatTick(value)));
  }
  for (const value of ticks(x, 5).filter(Number.isInteger)) grid.append(s("text", { x: x(value), y: height - 8, "text-anchor": "middle" }, formatTick(value)));
  svg.append(grid);
  for (const [epochs, values] of curves) {
    svg.append(s("path", { class: "stairs", css: { "--ink": color(item.sweep) }, d: `M${epochs.map((epoch, index) => `${x(epoch)},${y(values[index])}`).join("L")}` }));
  }
  return h("div", {}, h("h3", {}, "Validation mIoU (%) by epoch"), svg);
}
