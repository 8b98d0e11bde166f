// The head of the page, the designs to look at first, and the filters.

function buildTop() {
  const theme = h("button", { type: "button", class: "small", onclick: () => {
    const next = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = next;
    theme.textContent = next === "dark" ? "light page" : "dark page";
  } }, isDark() ? "light page" : "dark page");
  const facts = several ? [...new Set(sweeps.map((sweep) => sweep.method))] : factsOf(sweeps[0]);
  byId("top").append(
    h("div", {}, h("p", { class: "eyebrow" }, `segsweep report · ${data.written}`), h("h1", {}, data.title),
      h("p", { class: "facts" }, facts.map((fact) => h("span", {}, fact)))),
    theme);
}

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
}

function factsOf(sweep) {
  const held = Object.fromEntries(sweep.conditions);
  const of = (name, text) => (held[name] ? text(held[name]) : null);
  return [
    held.method, held["data set"], of("input size", (value) => value.replace(/ pixels.*/, " px")), of("classes", (value) => `${value} classes`),
    `${sweep.epochs} epochs`, `seed ${held.seed}`, of("device of the speed measurement", (value) => `device ${value}`),
  ].filter(Boolean);
}

function buildSummary() {
  const section = byId("summary");
  for (const warning of data.warnings) section.append(h("p", { class: "warning", role: "note" }, warning));
  section.append(h("p", { class: "headline" }, headline()));
  section.append(several ? sweepTable() : h("div", { class: "cards" }, sweeps[0].cards.map((card) => cardOf(card))));
}

const trialOf = (sweep, id) => trials.find((trial) => trial.sweep === sweep && trial.id === id);
const bestOf = (index) => trials.filter((trial) => trial.sweep === index && trial.metrics[FIRST] !== null && trial.status === "complete")
  .sort((a, b) => (b.metrics[FIRST] - a.metrics[FIRST]) * (metricOf[FIRST].max ? 1 : -1))[0] || null;
const withUnit = (metric, trial) => `${formatMetric(metric, trial.metrics[metric.key])} ${shortLabel(metric).replace(/^mIoU \(%\)$/, "% mIoU")}`;

function headline() {
  const total = count(trials.length, "trial");
  const complete = trials.filter((trial) => trial.status === "complete").length;
  const cost = data.objectives.slice(1).map((key) => metricOf[key])[0];
  if (several) {
    const first = metricOf[FIRST];
    const leader = sweeps.map((_, index) => bestOf(index)).filter(Boolean).sort((a, b) => (b.metrics[FIRST] - a.metrics[FIRST]) * (first.max ? 1 : -1))[0];
    const best = leader ? ` The best of all is ${designName(leader)} of ${sweeps[leader.sweep].id}: ${withUnit(first, leader)}${cost ? ` at ${withUnit(cost, leader)}` : ""}.` : "";
    return `${total} in ${count(sweeps.length, "sweep")}, ${grouped.format(complete)} trained to the end.${best}`;
  }
  const [sweep] = sweeps;
  const start = `${total}, ${grouped.format(complete)} trained to the end; ${count(sweep.front, "design")} on the front.`;
  const knee = cost && trialOf(0, sweep.knees[cost.key]);
  const best = bestOf(0);
  if (!knee || !best) return start;
  if (knee === best) return `${start} ${designName(best)} is both the best and the knee: ${withUnit(metricOf[FIRST], best)} at ${withUnit(cost, best)}.`;
  const ratio = best.metrics[cost.key] / knee.metrics[cost.key];
  const gain = Math.abs(best.metrics[FIRST] - knee.metrics[FIRST]);
  return `${start} Beyond the knee (${designName(knee)}: ${withUnit(metricOf[FIRST], knee)} at ${withUnit(cost, knee)}) the best design gains ${formatMetric(metricOf[FIRST], gain)} ${FIRST === "miou" ? "points" : shortLabel(metricOf[FIRST])} for ${ratio.toFixed(1)} × the ${shortLabel(cost)}.`;
}

function pinTrial(sweep, id) {
  if (!itemOfTrial(sweep, id)) resetAll();
  const item = itemOfTrial(sweep, id);
  change({ pinned: item.key }, "point");
  byId("detail").scrollIntoView({ block: "nearest" });
}

function cardOf(card, sweep = 0) {
  const trial = trialOf(sweep, card.trial);
  const others = data.objectives.slice(1).map((key) => metricOf[key]);
  return h("button", { type: "button", class: "card", onclick: () => pinTrial(sweep, card.trial) },
    h("span", { class: "card-label" }, card.label),
    h("span", { class: "card-value" }, formatMetric(metricOf[FIRST], trial.metrics[FIRST]), h("small", {}, ` ${shortLabel(metricOf[FIRST])}`)),
    h("span", { class: "card-costs" }, others.map((metric) => h("span", {}, `${formatMetric(metric, trial.metrics[metric.key])} ${shortLabel(metric)}`))),
    h("span", { class: "card-name" }, designName(trial)));
}

function sweepTable() {
  const cost = metricOf[data.objectives[1]];
  const named = (index, trial) => (trial ? h("button", { type: "button", class: "link", onclick: () => pinTrial(index, trial.id) }, `${formatMetric(metricOf[FIRST], trial.metrics[FIRST])}`,
    cost ? h("small", {}, ` at ${formatMetric(cost, trial.metrics[cost.key])} ${shortLabel(cost)}`) : null) : "–");
  const corner = Object.entries(data.reference).map(([key, value]) => `${metricOf[key].label} ${formatTick(value)}`).join(", ");
  const head = ["sweep", "method", "complete", "stopped", "front", `best ${shortLabel(metricOf[FIRST])}`, "knee", "hypervolume"];
  const numbers = ["complete", "stopped", "front", "hypervolume"];
  const rows = sweeps.map((sweep, index) => h("tr", {},
    h("th", { scope: "row" }, h("span", { class: "swatch", css: { background: sweep.color } }), sweep.id),
    h("td", {}, sweep.method), h("td", { class: "number" }, sweep.counts.complete), h("td", { class: "number" }, sweep.counts.stopped),
    h("td", { class: "number" }, sweep.front), h("td", {}, named(index, bestOf(index))),
    h("td", {}, named(index, cost && trialOf(index, sweep.knees[cost.key]))),
    h("td", { class: "number" }, sweep.volume === null ? "–" : formatTick(Number(sweep.volume.toPrecision(4))))));
  const words = corner ? `Hypervolume of all objectives at the common reference point (${corner}), divided by the references of the costs.` : "The sweeps have different objectives, so there is no common hypervolume.";
  return h("div", {}, h("div", { class: "scroll" }, h("table", { class: "sweeps" }, h("thead", {}, h("tr", {}, head.map((name) => h("th", { scope: "col", class: numbers.includes(name) ? "number" : null }, name)))), h("tbody", {}, rows))), h("p", { class: "note" }, words));
}

function buildToolbar() {
  const bar = byId("toolbar");
  bar.append(h("div", { class: "chips", role: "group", "aria-label": "Filters" }), axisFilters(), h("p", { class: "count", role: "status" }));
}

function chip(label, pressed, onclick, title) {
  return h("button", { type: "button", class: "chip", "aria-pressed": String(pressed), onclick, title }, label);
}

function toggled(set, value) {
  const next = new Set(set);
  if (!next.delete(value)) next.add(value);
  return next;
}

function drawToolbar() {
  const chips = byId("toolbar").querySelector(".chips");
  const focused = [...chips.children].indexOf(document.activeElement);
  const of = (status) => trials.filter((trial) => trial.status === status).length;
  const statuses = ["complete", "stopped", "failed", "infeasible"].filter(of).map((status) =>
    chip([glyph(status), `${of(status)} ${status}`], state.statuses.has(status), () => change({ statuses: toggled(state.statuses, status) }), STATUS_WORDS[status]));
  const methods = [...new Set(sweeps.map((sweep) => sweep.method))];
  const inMethod = (method) => sweeps.map((sweep, index) => (sweep.method === method ? index : -1)).filter((index) => index >= 0);
  const methodChips = methods.length > 1 && methods.length < sweeps.length ? methods.map((method) => {
    const own = inMethod(method);
    const on = own.some((index) => state.sweeps.has(index));
    return chip(method, on, () => {
      const next = new Set(state.sweeps);
      for (const index of own) if (on) next.delete(index); else next.add(index);
      change({ sweeps: next });
    }, `sweeps of ${method}`);
  }) : [];
  const sweepChips = several ? sweeps.map((sweep, index) => chip([h("span", { class: "swatch", css: { background: sweep.color } }), sweep.id], state.sweeps.has(index), () => change({ sweeps: toggled(state.sweeps, index) }))) : [];
  const front = chip("only fronts", state.onlyFront, () => change({ onlyFront: !state.onlyFront }), "only designs on the front of all objectives of their sweep");
  const joint = several ? chip("one common front", state.together, () => change({ together: !state.together }), "one front over all sweeps instead of one each") : null;
  const average = data.designs.length ? chip("mean of seeds", state.average, () => change({ average: !state.average, pinned: null }), "designs that were trained with several seeds as one point with error bars") : null;
  clear(chips).append(...[...statuses, ...methodChips, ...sweepChips, front, joint, average].filter(Boolean), h("button", { type: "button", class: "small reset", onclick: resetAll }, "reset"));
  if (focused >= 0 && chips.children[focused]) chips.children[focused].focus();
  drawCount();
  for (const sync of axisSyncs) sync();
}

function drawCount() {
  const shown = items.reduce((sum, item) => sum + item.trials.length, 0);
  const merged = shown > items.length ? ` as ${count(items.length, "design")}` : "";
  const chosen = derived.brushed ? `, ${grouped.format(derived.chosen.size)} of them in the brush` : "";
  byId("toolbar").querySelector(".count").textContent = `${grouped.format(shown)} of ${count(trials.length, "trial")} shown${merged}${chosen}`;
}

const axisSyncs = [];

function axisFilters() {
  const free = axes.filter((axis) => axis.levels.length > 1);
  const body = h("div", { class: "axis-filters" }, free.map((axis) => h("fieldset", {}, h("legend", {}, axis.name),
    axis.levels.length <= 12 ? levelChips(axis) : axis.numeric ? rangeInputs(axis) : h("span", { class: "note" }, `${axis.levels.length} values: use the table`))));
  return h("details", { class: "filter" }, h("summary", {}, "filter by design axis"), body);
}

function levelChips(axis) {
  const levels = axis.partial ? [...axis.levels, null] : axis.levels;
  return h("div", { class: "chips" }, levels.map((level) => {
    const allowed = () => state.levels.get(axis.name) || new Set(levels);
    const button = chip(level === null ? "not active" : formatLevel(level), true, () => {
      const next = new Map(state.levels);
      const set = toggled(allowed(), level);
      if (set.size === levels.length) next.delete(axis.name);
      else next.set(axis.name, set);
      change({ levels: next });
    });
    axisSyncs.push(() => button.setAttribute("aria-pressed", String(allowed().has(level))));
    return button;
  }));
}

function rangeInputs(axis) {
  const ends = [axis.levels[0], axis.levels[axis.levels.length - 1]];
  const inputs = ["least", "most"].map((name, side) => h("input", { type: "number", step: "any", value: ends[side], "aria-label": `${name} ${axis.name}`, onchange: () => {
    const next = new Map(state.levels);
    const range = inputs.map((input, index) => (input.value === "" ? ends[index] : Number(input.value)));
    if (range[0] <= ends[0] && range[1] >= ends[1]) next.delete(axis.name);
    else next.set(axis.name, range);
    change({ levels: next });
  } }));
  axisSyncs.push(() => {
    if (!state.levels.has(axis.name)) inputs.forEach((input, side) => { input.value = String(ends[side]); });
  });
  return h("div", { class: "range" }, inputs[0], " to ", inputs[1]);
}
