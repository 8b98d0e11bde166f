// Two-dimensional fronts and their staircases, in shown units.

// Members in order of x. A member is dominated by none that is at least as good in both and better in one; equal
// points stand together.
function frontOf(points, maxX, maxY) {
  const better = (max, a, b) => (max ? a > b : a < b);
  const order = [...points].sort((a, b) => (a.x !== b.x ? (better(maxX, a.x, b.x) ? -1 : 1) : better(maxY, a.y, b.y) ? -1 : 1));
  const front = [];
  let best = null; // of y among strictly better x
  for (const point of order) {
    const last = front[front.length - 1];
    const equal = last && last.x === point.x && last.y === point.y;
    if (equal || best === null || better(maxY, point.y, best)) {
      front.push(point);
      best = point.y;
    }
  }
  return front.sort((a, b) => a.x - b.x || a.y - b.y);
}

// Corners of the boundary of what the front dominates, carried on to the edges of the frame.
function staircase(front, maxX, maxY, frame) {
  if (!front.length) return [];
  const worst = maxY ? frame.y0 : frame.y1;
  const corners = maxX ? [[frame.x0, front[0].y]] : [[front[0].x, worst]];
  front.forEach((point, index) => {
    const before = front[index - 1];
    if (before) corners.push(maxX ? [before.x, point.y] : [point.x, before.y]);
    corners.push([point.x, point.y]);
  });
  const last = front[front.length - 1];
  corners.push(maxX ? [last.x, worst] : [frame.x1, last.y]);
  return corners;
}

// The member nearest to the ideal point by the sum of what it lacks, each metric scaled over the front and costs on a
// logarithmic scale (as pareto/knee.py); of several the one with the better y.
function kneeOf(front, metricX, metricY) {
  const lacks = (metric, values) => {
    const bend = metric.log && Math.min(...values) > 0 ? Math.log10 : (value) => value;
    const bent = values.map(bend);
    const [low, high] = [Math.min(...bent), Math.max(...bent)];
    return bent.map((value) => (metric.max ? high - value : value - low) / (high - low || 1));
  };
  const x = lacks(metricX, front.map((point) => point.x));
  const y = lacks(metricY, front.map((point) => point.y));
  let best = null;
  front.forEach((point, index) => {
    const sum = x[index] + y[index];
    const tied = best && Math.abs(sum - best.sum) <= 1e-9;
    if (!best || (tied ? y[index] < best.y : sum < best.sum)) best = { point, sum, y: y[index] };
  });
  return best ? best.point : null;
}

// The visible complete items by series, each with its front of this pair of metrics.
function seriesOf(xKey, yKey) {
  const series = new Map();
  for (const item of items) {
    if (item.status !== "complete" || item.values[xKey] === null || item.values[yKey] === null) continue;
    const apart = data.mixed_speed.includes(xKey) || data.mixed_speed.includes(yKey); // never one front over two devices
    const name = state.together && !apart ? -1 : item.sweep;
    if (!series.has(name)) series.set(name, []);
    series.get(name).push({ item, x: item.values[xKey], y: item.values[yKey] });
  }
  return [...series.entries()].map(([name, points]) => {
    const front = frontOf(points, metricOf[xKey].max, metricOf[yKey].max);
    return { name, points, front, knee: kneeOf(front, metricOf[xKey], metricOf[yKey]) };
  });
}
