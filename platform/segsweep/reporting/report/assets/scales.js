// Values to pixels, and the ticks of an axis.

function makeScale(low, high, from, to, logarithmic) {
  const bend = logarithmic ? Math.log10 : (value) => value;
  const unbend = logarithmic ? (value) => 10 ** value : (value) => value;
  const [a, b] = [bend(low), bend(high)];
  const scale = (value) => from + ((bend(value) - a) / (b - a || 1)) * (to - from);
  scale.invert = (pixel) => unbend(a + ((pixel - from) / (to - from || 1)) * (b - a));
  scale.low = low;
  scale.high = high;
  scale.log = logarithmic;
  return scale;
}

// Room around the values; a linear axis of positive values does not start below zero.
function domain(values, logarithmic, share) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  if (logarithmic) {
    const room = Math.max((high / low) ** share, 1.05);
    return [low / room, high * room];
  }
  const room = share * (high - low || Math.abs(high) || 1);
  return [low >= 0 ? Math.max(low - room, 0) : low - room, high + room];
}

function ticks(scale, wanted) {
  return scale.log ? logTicks(scale, wanted) : linearTicks(scale, wanted);
}

function linearTicks({ low, high }, wanted) {
  const raw = (high - low) / Math.max(wanted, 1);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw);
  const found = [];
  for (let index = Math.ceil(low / step); index * step <= high; index += 1) found.push(Number((index * step).toPrecision(12)));
  return found;
}

function logTicks({ low, high }, wanted) {
  const within = (factors) => {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const factor of factors) {
        const value = Number((factor * 10 ** power).toPrecision(12));
        if (value >= low && value <= high) found.push(value);
      }
    }
    return found;
  };
  for (const factors of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7]]) {
    const found = within(factors);
    if (found.length >= Math.min(wanted, 4) - 1 && found.length >= 2) return found.length > 9 ? within([1]) : found;
  }
  return linearTicks({ low, high }, wanted);
}
