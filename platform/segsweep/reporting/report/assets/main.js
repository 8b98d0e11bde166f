// Puts the page together, and tells tests and other pages what it shows.

function buildPanels() {
  const section = byId("panels");
  const scores = data.objectives.slice(0, 1);
  const others = [...data.objectives.slice(1), ...metrics.map((metric) => metric.key).filter((key) => !data.objectives.includes(key))];
  const liked = others.filter((key) => data.objectives.includes(key) || ["num_params", "latency_ms_p90"].includes(key)).slice(0, 4);
  section.append(
    h("header", { class: "with-buttons" }, h("h2", {}, "Fronts"), legend(), h("span", { class: "gap" }),
      h("button", { type: "button", class: "small", onclick: () => addPanel(FIRST, others[others.length - 1] || FIRST) }, "add a panel")),
    h("div", { id: "panel-grid" }));
  const xs = liked.length ? liked : others.slice(0, 1);
  for (const x of xs) for (const y of scores) addPanel(x, y);
}

function legend() {
  const mark = (kind, draw) => s("svg", { class: `glyph legend-${kind}`, viewBox: "-8 -8 16 16", "aria-hidden": "true" }, draw);
  const entry = (kind, draw, words) => h("span", {}, mark(kind, draw), words);
  return h("p", { class: "legend" },
    entry("front", [s("path", { d: "M-8,4H0V-4H8" }), s("circle", { r: 4 })], "front of the panel"),
    entry("member", s("circle", { r: 4 }), "only on the front of all objectives"),
    entry("pale", s("circle", { r: 4 }), "dominated"),
    entry("knee", [s("circle", { r: 3 }), s("circle", { class: "halo", r: 6.5 })], "knee"));
}

function addPanel(x, y) {
  const panel = makePanel(x, y);
  byId("panel-grid").append(panel.element);
  drawPanel(panel);
  new ResizeObserver(() => {
    if (panel.element.isConnected && panel.svg.clientWidth !== panel.width) drawPanel(panel);
  }).observe(panel.element);
}

function drawAll() {
  drawToolbar();
  for (const panel of panels) drawPanel(panel);
  drawParallel();
  drawTable();
  drawPoints();
}

// After a brush: items and axes are the same, what is chosen of them is not.
function drawChosen() {
  drawCount();
  for (const panel of panels) drawPanel(panel);
  drawParallelBrush();
  drawTable();
  drawPoints();
}

function drawPoints() {
  for (const panel of panels) drawPoint(panel);
  drawParallelPoint();
  drawDetail();
  markPinnedRow();
}

function snapshot() {
  settle();
  const ids = (list) => list.flatMap((item) => item.trials.map((trial) => trial.id));
  return {
    trials: trials.length, visible: ids(items), chosen: ids([...derived.chosen]), brushed: derived.brushed,
    hovered: state.hovered ? ids([itemOf(state.hovered)]) : [], pinned: state.pinned && itemOf(state.pinned) ? ids([itemOf(state.pinned)]) : [],
    lines: parallel.lines.length, theme: isDark() ? "dark" : "light",
    panels: panels.map((panel) => ({
      x: panel.x, y: panel.y, drawn: panel.placed.filter((point) => !point.foot).length, foot: panel.placed.filter((point) => point.foot).length,
      fronts: Object.fromEntries(Object.entries(panel.fronts).map(([name, keys]) => [name, keys.flatMap((key) => ids([itemOf(key)]))])),
      knees: Object.fromEntries(Object.entries(panel.knees).map(([name, key]) => [name, ids([itemOf(key)])])),
    })),
  };
}

// Where a trial is drawn in a panel, in pixels of the window; null if it is not.
function whereIs(index, id) {
  const panel = panels[index];
  const point = panel.placed.find(({ item }) => item.trials.some((trial) => trial.id === id));
  if (!point) return null;
  const box = panel.svg.getBoundingClientRect();
  const unit = box.width / panel.svg.viewBox.baseVal.width;
  return { x: box.left + point.x * unit, y: box.top + point.y * unit };
}

window.segsweepReport = { snapshot, whereIs };
derive();
buildTop();
buildSummary();
buildToolbar();
buildPanels();
buildParallel();
buildImportance();
buildPictures();
buildTable();
buildConditions();
onChange((kind) => ({ all: drawAll, brush: drawChosen, point: drawPoints })[kind]());
drawAll();
