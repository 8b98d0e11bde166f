// What the mouse, a finger and the keyboard do in a panel, and its heading.

const REACH = 26; // pixels from the pointer to a point that it means
const DRAG = 6; // pixels after which a press is a brush

function connectInput(panel) {
  let start = null;
  const place = (event) => {
    const box = panel.svg.getBoundingClientRect();
    const unit = panel.svg.viewBox.baseVal.width / box.width || 1;
    return { x: (event.clientX - box.left) * unit, y: (event.clientY - box.top) * unit };
  };
  panel.svg.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (start && (start.moved || Math.hypot(at.x - start.x, at.y - start.y) > DRAG)) {
      start.moved = true;
      setBrush(panel, start, at);
      return;
    }
    hover(nearest(panel, at), event);
  });
  panel.svg.addEventListener("pointerleave", () => !start && hover(null));
  panel.svg.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !panel.scaleX) return;
    start = { ...place(event), moved: false };
    panel.svg.setPointerCapture(event.pointerId);
  });
  const end = (event) => {
    if (!start) return;
    const { moved } = start;
    start = null;
    if (moved) return;
    const found = nearest(panel, place(event));
    if (found) change({ pinned: state.pinned === found.item.key ? null : found.item.key }, "point");
    else if (state.brush) change({ brush: null }, "brush");
  };
  panel.svg.addEventListener("pointerup", end);
  panel.svg.addEventListener("pointercancel", () => { start = null; });
  // A ring around the panel is for those who came by keyboard.
  panel.svg.addEventListener("keyup", () => panel.svg.classList.add("by-key"));
  panel.svg.addEventListener("keydown", (event) => onKey(panel, event));
  panel.svg.addEventListener("blur", () => {
    panel.svg.classList.remove("by-key");
    hover(null);
  });
}

function nearest(panel, { x, y }) {
  let best = null;
  let least = REACH;
  for (const point of panel.placed) {
    const distance = Math.hypot(point.x - x, point.y - y);
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

function setBrush(panel, a, b) {
  const within = (value, low, high) => Math.min(Math.max(value, low), high);
  const { left, right, top, bottom } = panel.frame;
  const xs = [a.x, b.x].map((x) => panel.scaleX.invert(within(x, left, right))).sort((p, q) => p - q);
  const ys = [a.y, b.y].map((y) => panel.scaleY.invert(within(y, top, bottom))).sort((p, q) => p - q);
  change({ brush: { x: panel.x, y: panel.y, x0: xs[0], x1: xs[1], y0: ys[0], y1: ys[1] } }, "brush");
}

function drawBrush(panel) {
  const box = state.brush;
  if (!box || box.x !== panel.x || box.y !== panel.y) return;
  const [x0, x1, y0, y1] = [panel.scaleX(box.x0), panel.scaleX(box.x1), panel.scaleY(box.y1), panel.scaleY(box.y0)];
  panel.svg.append(s("rect", { class: "brush", x: x0, y: y0, width: Math.max(0, x1 - x0), height: Math.max(0, y1 - y0) }));
}

function onKey(panel, event) {
  const order = panel.placed.filter(({ item }) => derived.chosen.has(item)).sort((a, b) => a.x - b.x || b.y - a.y);
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (step && order.length) {
    const now = order.findIndex(({ item }) => item.key === state.hovered);
    const next = order[now < 0 ? (step > 0 ? 0 : order.length - 1) : (now + step + order.length) % order.length];
    const box = panel.svg.getBoundingClientRect();
    const unit = box.width / panel.svg.viewBox.baseVal.width;
    hover(next, { clientX: box.left + next.x * unit, clientY: box.top + next.y * unit });
  } else if (event.key === "Enter" && state.hovered) {
    change({ pinned: state.hovered }, "point");
  } else if (event.key === "Escape") {
    change({ brush: null, axisBrush: new Map(), pinned: null, hovered: null });
    hideTooltip();
  } else return;
  event.preventDefault();
}

function hover(found, event) {
  const key = found ? found.item.key : null;
  if (key !== state.hovered) change({ hovered: key }, "point");
  if (found) showTooltip(found.item, event.clientX, event.clientY);
  else hideTooltip();
}

// Rings and guides of the hovered and the pinned design: drawn over a panel without drawing it again.
function drawPoint(panel) {
  if (!panel.overlay) return;
  clear(panel.overlay);
  if (!panel.scaleX) return;
  for (const [key, kind] of [[state.pinned, "pinned"], [state.hovered, "hovered"]]) {
    const point = key && panel.placed.find(({ item }) => item.key === key);
    if (!point) continue;
    const { x, y } = point;
    const { left, bottom, strip } = panel.frame;
    panel.overlay.append(s("path", { class: `guide ${kind}`, d: `M${x},${y}V${bottom + strip}${point.foot ? "" : `M${x},${y}H${left}`}` }));
    panel.overlay.append(s("circle", { class: `ring ${kind}`, cx: x, cy: y, r: 8 }));
  }
}

function drawHead(panel) {
  if (panel.head.childElementCount) return;
  const choose = (name) => {
    const select = h("select", { "aria-label": `${name} axis`, onchange: () => {
      panel[name] = select.value;
      panel.log = null;
      if (state.brush) state.brush = null;
      change({});
    } }, metrics.map((metric) => h("option", { value: metric.key, selected: metric.key === panel[name] }, `${shortLabel(metric)} ${arrow(metric)}`)));
    return select;
  };
  const logButton = h("button", { type: "button", class: "small", title: "logarithmic x axis on or off", onclick: () => {
    panel.log = !panel.isLog;
    drawPanel(panel);
    logButton.setAttribute("aria-pressed", String(panel.isLog));
  } }, "log");
  const remove = h("button", { type: "button", class: "small", "aria-label": "remove this panel", title: "remove this panel", onclick: () => {
    panels.splice(panels.indexOf(panel), 1);
    panel.element.remove();
  } }, "×");
  panel.head.append(choose("y"), h("span", { class: "against" }, "against"), choose("x"), h("span", { class: "gap" }), logButton, remove);
}

