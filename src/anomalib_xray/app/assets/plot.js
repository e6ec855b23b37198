// Where a score lies among those of normal images: a small histogram, the threshold as a line, the score as a mark.

import { number } from "./dom.js";

const SPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, BASE, TOP] = [300, 74, 56, 12];
const BINS = 36;
const ROOM = 1.6; // how far beyond the normal images the scale may reach, in their ranges

/** Draws quantiles (0 to 100 %) of normal images, with a score and a threshold, which may be null. */
export function plot(quantiles, value, threshold) {
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "plot", role: "img" });
  drawing.setAttribute("aria-label", spoken(quantiles, value, threshold));
  const [low, high] = ends(quantiles, value, threshold);
  const x = (raw) => 6 + Math.min(Math.max((raw - low) / (high - low), 0), 1) * (WIDTH - 12);
  drawing.append(...bars(quantiles, low, high, x));
  drawing.append(shape("line", { x1: 0, x2: WIDTH, y1: BASE, y2: BASE, class: "axis" }));
  const labels = [[quantiles[50], "normal median"]];
  for (const [raw, text] of labels) drawing.append(label(x(raw), HEIGHT - 4, text, "faint"));
  if (threshold !== null) {
    drawing.append(shape("line", { x1: x(threshold), x2: x(threshold), y1: TOP, y2: BASE, class: "threshold" }));
    drawing.append(label(x(threshold), TOP - 3, "threshold", "faint"));
  }
  if (value !== null) drawing.append(mark(x(value), value > high));
  return drawing;
}

function bars(quantiles, low, high, x) {
  const step = (high - low) / BINS;
  const shares = Array.from({ length: BINS }, (_, bin) => below(quantiles, low + (bin + 1) * step) - below(quantiles, low + bin * step));
  const tallest = Math.max(...shares, 1e-9);
  return shares.flatMap((share, bin) => {
    if (share <= 0) return [];
    const height = Math.max((share / tallest) * (BASE - TOP - 6), 1);
    const left = x(low + bin * step);
    return [shape("rect", { x: left + 0.5, y: BASE - height, width: Math.max(x(low + (bin + 1) * step) - left - 1, 1), height, class: "bin" })];
  });
}

/** Share of normal images below a value. */
function below(quantiles, value) {
  if (value <= quantiles[0]) return 0;
  const place = quantiles.findIndex((quantile) => quantile >= value);
  if (place < 0) return 1;
  const [from, to] = [quantiles[place - 1], quantiles[place]];
  return (place - 1 + (to > from ? (value - from) / (to - from) : 1)) / (quantiles.length - 1);
}

function ends(quantiles, value, threshold) {
  const [first, last] = [quantiles[0], quantiles.at(-1)];
  const range = last - first || Math.abs(last) || 1;
  const wanted = [value, threshold].filter((raw) => raw !== null);
  const low = Math.max(Math.min(first, ...wanted), first - ROOM * range);
  const high = Math.min(Math.max(last, ...wanted), last + ROOM * range);
  const margin = (high - low || range) * 0.04;
  return [low - margin, high + margin];
}

function mark(x, isBeyond) {
  const points = isBeyond ? `${x - 8},${BASE - 22} ${x + 2},${BASE - 15} ${x - 8},${BASE - 8}` : `${x - 6},${BASE - 12} ${x + 6},${BASE - 12} ${x},${BASE - 1}`;
  const group = shape("g", { class: "mark" });
  if (!isBeyond) group.append(shape("line", { x1: x, x2: x, y1: TOP + 6, y2: BASE - 10 }));
  group.append(shape("polygon", { points }));
  return group;
}

function label(x, y, text, kind) {
  const anchor = x < 40 ? "start" : x > WIDTH - 40 ? "end" : "middle";
  const element = shape("text", { x, y, class: kind, "text-anchor": anchor });
  element.textContent = text;
  return element;
}

function spoken(quantiles, value, threshold) {
  const range = `Normal images score ${number(quantiles[0])} to ${number(quantiles.at(-1))}, median ${number(quantiles[50])}`;
  return `${range}; threshold ${number(threshold)}; this image ${number(value)}.`;
}

function shape(tag, attributes) {
  const element = document.createElementNS(SPACE, tag);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}
