// All trials as a table that can be sorted and taken along.

const PAGE = 40; // rows at a time
const table = { sort: { key: FIRST, down: null }, page: 0, columns: [] };

function buildTable() {
  table.columns = tableColumns();
  const section = byId("table");
  section.append(
    h("header", { class: "with-buttons" }, h("h2", {}, "All trials"), h("span", { class: "gap" }),
      h("button", { type: "button", class: "small", onclick: () => take(csv(), "trials.csv") }, "copy CSV"),
      h("button", { type: "button", class: "small", onclick: () => take(json(), "trials.json") }, "copy JSON")),
    h("p", { class: "lead" }, "What the filters and the brush leave. A mIoU in italics was reached before the end and is not final; such trials are always below the others."),
    h("div", { class: "scroll" }, h("table", { class: "trials" }, h("thead", {}), h("tbody", {}))),
    h("p", { class: "pager" }), h("p", { class: "taken", role: "status" }), h("div", { class: "hand-copy" }));
}

function tableColumns() {
  const value = (key) => (trial) => trial.metrics[key];
  return [
    { key: "trial", name: "trial", read: (trial) => trial.number, text: (trial) => designName(trial), number: false },
    several ? { key: "sweep", name: "sweep", read: (trial) => sweeps[trial.sweep].id } : null,
    { key: "status", name: "status", read: (trial) => trial.status },
    { key: "place", name: "front", read: (trial) => (isKnee(trial) ? "knee" : trial.member ? "front" : "") },
    ...metrics.map((metric) => ({ key: metric.key, name: `${shortLabel(metric)} ${arrow(metric)}`, metric, read: value(metric.key), number: true, down: metric.max })),
    ...axes.map((axis) => ({ key: `axis:${axis.name}`, name: axis.name, axis, read: (trial) => trial.axes[axis.name], number: axis.numeric })),
    { key: "epochs", name: "epochs", read: (trial) => trial.epoch, number: true },
    { key: "seconds", name: "seconds", read: (trial) => trial.seconds, number: true },
    { key: "source", name: "proposed by", read: (trial) => trial.source },
  ].filter(Boolean);
}

function tableRows() {
  const rows = [...derived.chosen].flatMap((item) => item.trials);
  const column = table.columns.find(({ key }) => key === table.sort.key);
  const down = table.sort.down === null ? Boolean(column.down) : table.sort.down;
  const sign = down ? -1 : 1;
  const unfinished = (trial) => Number(column.metric && trial.status !== "complete");
  const compare = (a, b) => {
    const [x, y] = [column.read(a), column.read(b)];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
  };
  return rows.sort((a, b) => unfinished(a) - unfinished(b) || compare(a, b) || a.index - b.index);
}

function drawTable() {
  const section = byId("table");
  const rows = tableRows();
  const pages = Math.max(1, Math.ceil(rows.length / PAGE));
  table.page = Math.min(table.page, pages - 1);
  drawTableHead(section.querySelector("thead"));
  const body = clear(section.querySelector("tbody"));
  for (const trial of rows.slice(table.page * PAGE, (table.page + 1) * PAGE)) body.append(rowOf(trial));
  const turn = (by) => () => {
    table.page += by;
    drawTable();
  };
  const first = rows.length ? table.page * PAGE + 1 : 0;
  clear(section.querySelector(".pager")).append(
    h("button", { type: "button", class: "small", disabled: table.page === 0, onclick: turn(-1) }, "previous"),
    ` ${first}–${Math.min(rows.length, (table.page + 1) * PAGE)} of ${grouped.format(rows.length)} `,
    h("button", { type: "button", class: "small", disabled: table.page >= pages - 1, onclick: turn(1) }, "next"));
}

function drawTableHead(head) {
  const focused = head.contains(document.activeElement) ? [...head.querySelectorAll("button")].indexOf(document.activeElement) : -1;
  clear(head).append(h("tr", {}, table.columns.map((column) => {
    const sorted = table.sort.key === column.key;
    const down = table.sort.down === null ? Boolean(column.down) : table.sort.down;
    return h("th", { scope: "col", class: column.number ? "number" : null, "aria-sort": sorted ? (down ? "descending" : "ascending") : null },
      h("button", { type: "button", onclick: () => {
        table.sort = { key: column.key, down: sorted ? !down : null };
        table.page = 0;
        drawTable();
      } }, column.name, sorted ? (down ? " ▾" : " ▴") : ""));
  })));
  if (focused >= 0) head.querySelectorAll("button")[focused].focus();
}

function rowOf(trial) {
  const item = itemOfTrial(trial.sweep, trial.id);
  const keep = () => change({ pinned: state.pinned === item.key ? null : item.key }, "point");
  const row = h("tr", {
    class: [trial.status, trial.member ? "member" : "", item.key === state.pinned ? "pinned" : ""].join(" "),
    onpointerenter: () => change({ hovered: item.key }, "point"), onpointerleave: () => change({ hovered: null }, "point"),
  });
  row.dataset.key = item.key;
  for (const column of table.columns) row.append(cellOf(column, trial, keep));
  return row;
}

function cellOf(column, trial, keep) {
  if (column.key === "trial") {
    return h("th", { scope: "row" }, h("button", { type: "button", class: "link", onclick: keep, title: trial.id },
      h("span", { class: "swatch", css: { background: color(trial.sweep) } }), column.text(trial)));
  }
  if (column.key === "status") return h("td", { title: trial.reason || null }, glyph(trial.status), ` ${trial.status}`);
  const value = column.read(trial);
  const kind = column.number ? "number" : null;
  if (column.key === "miou" && value === null && trial.reached !== null) {
    return h("td", { class: "number partial", title: `after ${trial.epoch} of ${sweeps[trial.sweep].epochs} epochs: not final` }, h("em", {}, formatMetric(column.metric, trial.reached)));
  }
  return h("td", { class: kind }, column.metric ? formatMetric(column.metric, value) : formatLevel(value));
}

function markPinnedRow() {
  for (const row of byId("table").querySelectorAll("tbody tr")) {
    row.classList.toggle("pinned", row.dataset.key === state.pinned);
    row.classList.toggle("hovered", row.dataset.key === state.hovered);
  }
}

function records() {
  return tableRows().map((trial) => ({
    sweep: sweeps[trial.sweep].id, method: sweeps[trial.sweep].method, trial_id: trial.id, number: trial.number, status: trial.status,
    on_front: trial.member, knee: isKnee(trial), ...Object.fromEntries(metrics.map((metric) => [metric.name, trial.metrics[metric.key]])),
    miou_pct_not_final: trial.reached, epochs: trial.epoch, seconds: trial.seconds, source: trial.source, reason: trial.reason,
    ...Object.fromEntries(axes.map((axis) => [`point.${axis.name}`, trial.axes[axis.name]])),
  }));
}

const json = () => JSON.stringify(records(), null, 1);

function csv() {
  const rows = records();
  if (!rows.length) return "";
  const names = Object.keys(rows[0]);
  return [names, ...rows.map((row) => names.map((name) => row[name]))].map((cells) => cells.map(csvCell).join(",")).join("\r\n");
}

// RFC 4180; a text that a spreadsheet would run as a formula gets a quote before it.
function csvCell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// A sandboxed frame has no clipboard: then the old way, and where that is off too, a text to copy by hand.
async function take(text, name) {
  const said = byId("table").querySelector(".taken");
  const hand = clear(byId("table").querySelector(".hand-copy"));
  const area = h("textarea", { rows: 8, readonly: true, "aria-label": `${name}, to copy by hand` });
  area.value = text;
  hand.append(area);
  area.select();
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch (error) {
    done = document.execCommand("copy");
  }
  if (done) clear(hand);
  said.textContent = done ? `${count(tableRows().length, "trial")} copied as ${name}` : "This frame may not copy: the text below is selected, press Ctrl-C.";
}
