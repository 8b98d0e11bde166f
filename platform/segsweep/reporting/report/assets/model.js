// The data of the page, what the reader chose, and what follows from both.

const data = JSON.parse(byId("segsweep-data").textContent);
const metrics = data.metrics;
const metricOf = Object.fromEntries(metrics.map((metric) => [metric.key, metric]));
const axes = data.axes;
const sweeps = data.sweeps;
const several = sweeps.length > 1;
const trials = readTrials(data.trials);
const FIRST = data.objectives[0];

const state = {
  average: data.designs.length > 0, // designs of several seeds as one point
  together: false, // one front over all sweeps instead of one each
  statuses: new Set(["complete", "stopped", "failed", "infeasible"]),
  sweeps: new Set(sweeps.map((_, index) => index)),
  onlyFront: false,
  levels: new Map(), // axis name -> Set of allowed levels, or [low, high]
  brush: null, // {x, y, x0, x1, y0, y1}: metric keys and shown values
  axisBrush: new Map(), // column key -> [low, high] as shares of the column, 0 at its foot
  hovered: null, // key of an item
  pinned: null,
};

let items = [];
let derived = { visible: [], chosen: new Set() };
const listeners = [];

// kind: "all" (what is visible changed), "brush" (what of it is chosen changed) or "point" (hovered or pinned)
const onChange = (listener) => listeners.push(listener);
let waiting = 0; // of a brush: at most one drawing for each frame of the screen

function notify(kind) {
  if (kind !== "point") derive();
  for (const listener of listeners) listener(kind);
}

function change(values, kind = "all") {
  Object.assign(state, values);
  if (kind === "brush") waiting = waiting || requestAnimationFrame(settle);
  else notify(kind);
}

// Draws now what a brush left for the next frame.
function settle() {
  if (!waiting) return;
  cancelAnimationFrame(waiting);
  waiting = 0;
  notify("brush");
}

function readTrials(columns) {
  return columns.id.map((id, index) => {
    const take = (name) => columns[name][index];
    const of = (group) => Object.fromEntries(Object.entries(group).map(([key, column]) => [key, column[index]]));
    return {
      index, id, number: take("number"), sweep: take("sweep"), status: take("status"), reason: take("reason"),
      source: take("source"), seconds: take("seconds"), epoch: take("epoch"), reached: take("reached"),
      curve: take("curve"), member: Boolean(take("member")), metrics: of(columns.metrics), axes: of(columns.axes),
    };
  });
}

const isKnee = (trial) => Object.values(sweeps[trial.sweep].knees).includes(trial.id);

function designName(trial) {
  const [kind, ...rest] = trial.source.split(":");
  return kind === "seed" && rest.length ? rest.join(":") : `#${trial.number}`;
}

// An item is what is drawn as one point: a trial, or the trials of one design with several seeds.
function makeItem(group) {
  const first = group[0];
  const values = {};
  const spread = {};
  for (const { key } of metrics) {
    const known = group.map((trial) => trial.metrics[key]).filter((value) => value !== null);
    values[key] = known.length === group.length ? mean(known) : null;
    spread[key] = known.length === group.length && known.length > 1 ? deviation(known) : 0;
  }
  return {
    key: group.map((trial) => `${trial.sweep}:${trial.id}`).join("+"), trials: group, first, values, spread,
    sweep: state.average ? data.families[first.sweep] : first.sweep, status: first.status, axes: first.axes,
    name: designName(first), member: group.some((trial) => trial.member), knee: group.some(isKnee),
  };
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

function deviation(values) {
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
}

function derive() {
  const grouped_ = new Set(state.average ? data.designs.flat() : []);
  const groups = state.average ? data.designs.map((rows) => rows.map((row) => trials[row])) : [];
  const wanted = (trial) => state.sweeps.has(trial.sweep) && state.statuses.has(trial.status) && levelsAllow(trial.axes);
  const shown = groups.map((group) => group.filter(wanted)).filter((group) => group.length);
  const single = trials.filter((trial) => !grouped_.has(trial.index) && wanted(trial)).map((trial) => [trial]);
  items = [...shown, ...single].map(makeItem).filter((item) => !state.onlyFront || item.member);
  const brushed = state.brush !== null || state.axisBrush.size > 0;
  const chosen = brushed ? items.filter((item) => brushHolds(item) && axisBrushHolds(item)) : items;
  derived = { visible: items, chosen: new Set(chosen), brushed };
  if (state.hovered && !itemOf(state.hovered)) state.hovered = null;
}

function levelsAllow(values) {
  for (const [name, allowed] of state.levels) {
    const value = values[name];
    if (Array.isArray(allowed)) {
      if (value === null || value < allowed[0] || value > allowed[1]) return false;
    } else if (!allowed.has(value)) return false;
  }
  return true;
}

function brushHolds(item) {
  const box = state.brush;
  if (!box) return true;
  const x = item.values[box.x];
  const y = item.values[box.y];
  return x !== null && y !== null && x >= box.x0 && x <= box.x1 && y >= box.y0 && y <= box.y1;
}

function axisBrushHolds(item) {
  for (const [key, [low, high]] of state.axisBrush) {
    const column = columnOf(key);
    const place = column ? column.place(item) : null;
    if (place === null || place < low || place > high) return false;
  }
  return true;
}

const itemOf = (key) => items.find((item) => item.key === key) || null;
const itemOfTrial = (sweep, id) =>
  items.find((item) => item.trials.some((trial) => trial.id === id && trial.sweep === sweep)) || null;
const groupName = (index) => {
  if (!state.average) return sweeps[index].id;
  const members = sweeps.filter((_, other) => data.families[other] === data.families[index]);
  return members.length > 1 ? `${sweeps[index].method}, ${members.length} seeds` : sweeps[index].id;
};
const color = (index) => sweeps[index].color;

function resetAll() {
  change({
    statuses: new Set(["complete", "stopped", "failed", "infeasible"]), sweeps: new Set(sweeps.map((_, index) => index)),
    onlyFront: false, levels: new Map(), brush: null, axisBrush: new Map(), hovered: null, pinned: null,
  });
}
