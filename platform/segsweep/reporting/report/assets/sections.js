// What stands still: importance of the axes, sample predictions, conditions.

function buildImportance() {
  const section = byId("importance");
  const groups = data.importance.filter((group) => group.metrics.length);
  if (!groups.length) return;
  section.append(h("h2", {}, "Which axes matter"),
    h("p", { class: "lead" }, "Share of the variance over the trials that each axis explains in an additive regression (mean growth of R² over the orders in which the axes may enter, Lindeman, Merenda and Gold 1980), scaled to the adjusted R². Costs on a logarithmic scale. What is missing to 100 % is interactions and noise."),
    ...groups.map((group) => groupOf(group)));
}

function groupOf(group) {
  const known = group.metrics.filter((entry) => Object.keys(entry.shares).length);
  const order = known.length ? Object.entries(known[0].shares).sort((a, b) => b[1] - a[1]).map(([axis]) => axis) : [];
  for (const entry of known) for (const axis of Object.keys(entry.shares)) if (!order.includes(axis)) order.push(axis);
  const missing = group.metrics.filter((entry) => !known.includes(entry)).map((entry) =>
    h("p", { class: "note" }, `${metricOf[entry.metric].label}: ${refusal(entry)}`));
  const heads = known.map((entry) => h("th", { scope: "col" }, shortLabel(metricOf[entry.metric]),
    h("small", {}, `${Math.round(100 * entry.explained)} % explained, ${count(entry.trials, "trial")}`)));
  const body = order.map((axis) => h("tr", {}, h("th", { scope: "row" }, axis), known.map((entry) => barCell(entry.shares[axis]))));
  return h("div", {}, several ? h("h3", {}, group.sweeps.join(", ")) : null,
    known.length ? h("div", { class: "scroll" }, h("table", { class: "importance" }, h("thead", {}, h("tr", {}, h("th", {}), heads)), h("tbody", {}, body))) : null, missing);
}

const refusal = (entry) => (entry.trials < entry.needed
  ? `${count(entry.trials, "trial")} with a value; fewer than ${entry.needed} say more about chance than about the axes.`
  : "no difference between the trials that the axes could explain.");

function barCell(share) {
  if (share === undefined) return h("td", {}, "–");
  const percent = Math.round(1000 * share) / 10;
  return h("td", {}, h("div", { class: "bar" }, h("span", { css: { width: `${Math.max(0, Math.min(100, percent))}%` } })), h("span", { class: "bar-value" }, `${percent.toFixed(percent < 10 ? 1 : 0)} %`));
}

function buildPictures() {
  if (!data.pictures.length) return;
  const section = byId("pictures");
  const headings = [...new Set(data.pictures.map((picture) => picture.heading))];
  section.append(h("h2", {}, "Sample predictions"), ...headings.map((heading) => {
    const trial = trials.find((one) => one.id === heading || `${sweeps[one.sweep].id}/${one.id}` === heading);
    const title = trial ? pictureTitle(trial) : heading;
    return h("figure", {}, h("figcaption", {}, title), h("div", { class: "samples" }, data.pictures.filter((picture) => picture.heading === heading)
      .map((picture, index) => h("img", { src: picture.data, alt: `${trial ? designName(trial) : heading}, sample ${index + 1}`, loading: "lazy" }))));
  }));
}

function pictureTitle(trial) {
  const cost = metricOf[data.objectives[1]];
  const words = ` · ${withUnit(metricOf[FIRST], trial)}${cost ? ` · ${withUnit(cost, trial)}` : ""}${isKnee(trial) ? " · knee" : ""}`;
  return [h("button", { type: "button", class: "link", onclick: () => pinTrial(trial.sweep, trial.id) }, designName(trial)), words];
}

function buildConditions() {
  const names = [...new Set(sweeps.flatMap((sweep) => sweep.conditions.map(([name]) => name)))];
  const values = sweeps.map((sweep) => Object.fromEntries(sweep.conditions));
  const rows = names.map((name) => {
    const cells = values.map((held) => held[name] || "–");
    const differs = new Set(cells).size > 1;
    return h("tr", { class: differs ? "differs" : null }, h("th", { scope: "row" }, name), cells.map((cell) => h("td", {}, cell)));
  });
  const head = several ? h("thead", {}, h("tr", {}, h("th", {}), sweeps.map((sweep) => h("th", { scope: "col" }, sweep.id)))) : null;
  byId("conditions").append(h("h2", {}, "Conditions"),
    h("div", { class: "scroll" }, h("table", { class: "conditions" }, head, h("tbody", {}, rows))),
    h("h2", {}, "How to read this"),
    h("ul", { class: "help" },
      h("li", {}, "mIoU comes from one confusion matrix over the whole validation split; only trials trained to the end have a final one. MACs are counted per image, 1 MAC = 2 FLOPs, matrix products included."),
      h("li", {}, "Every panel has its own front, recomputed for what the filters leave: no design that is drawn is better in both of the panel's metrics than a filled dot on the stairs. A hollow dot is on the front of all objectives of its sweep, though not on this panel's."),
      h("li", {}, "Each panel has a knee of its own: the member of its front nearest to the ideal point, costs on a logarithmic scale. Beyond it a step in one objective costs most in the other. The knee of all objectives together, which MLflow and recommend name, may be another design."),
      h("li", {}, "Point at a dot to read it; click to keep it. Drag over a panel or along a column to brush: all panels, lines and the table follow. Escape or a click beside the dots clears. In a panel the arrow keys go from design to design and Enter keeps one.")));
}
