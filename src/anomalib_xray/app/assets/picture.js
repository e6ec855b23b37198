// Pixels: a radiograph through its window, a heat map through its threshold.

import { heatThreshold, resultOf, state } from "./state.js";

const FADE_IN = 0.5; // share of the threshold at which colour begins, as in the overlays of `predict`
const END = 2;

/** The radiograph as a canvas, as bright as the window says. */
export function pictureCanvas(image) {
  const [low, high] = image.window.map((value) => levelOfValue(image, value)).sort((one, other) => one - other);
  const { invert } = state.display;
  return cached(image, "picture", `${low} ${high} ${invert}`, () => {
    const { width, height, values } = image.plane(image.answer.picture);
    const table = lookup(values instanceof Uint16Array ? 65536 : 256, low, high, invert);
    const canvas = blank(width, height);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let index = 0; index < values.length; index += 1) words[index] = table[values[index]];
    context.putImageData(pixels, 0, 0);
    return canvas;
  });
}

/** A grey plane as it is, for thumbnails and stages. */
export function greyCanvas({ width, height, values }) {
  const canvas = blank(width, height);
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  const words = new Uint32Array(pixels.data.buffer);
  for (let index = 0; index < values.length; index += 1) words[index] = 0xff000000 | (values[index] * 0x010101);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The colours of a model's heat map, transparent where there is nothing to see; null without a map. */
export function heatCanvas(image, index) {
  const result = resultOf(image, index);
  if (!result?.heat_map) return null;
  const threshold = heatThreshold(index, image);
  return cached(image, `heat ${index}`, String(threshold), () => {
    const { width, height, values } = image.plane(result.heat_map);
    const level = levelOf(values, threshold);
    const canvas = blank(width, height);
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let place = 0; place < values.length; place += 1) words[place] = colour(level(values[place]));
    context.putImageData(pixels, 0, 0);
    return canvas;
  });
}

/** The line around what reaches the threshold, in pixels of the heat map (marching squares). */
export function outline(image, index) {
  const result = resultOf(image, index);
  if (!result?.heat_map) return null;
  const threshold = heatThreshold(index, image);
  return cached(image, `outline ${index}`, String(threshold), () => {
    const path = new Path2D();
    trace(image.plane(result.heat_map), threshold, path);
    return path;
  });
}

/** The value of a model's heat map at a place of the radiograph (shares of width and height), or null. */
export function heatAt(image, index, x, y) {
  const result = resultOf(image, index);
  if (!result?.heat_map) return null;
  return valueAt(image.plane(result.heat_map), x, y);
}

/** The grey level at a place of the radiograph, in the file's own units. */
export function levelAt(image, x, y) {
  const [first, last] = image.answer.ends;
  return first + ((last - first) * valueAt(image.plane(image.answer.picture), x, y)) / topOf(image);
}

const topOf = (image) => (image.answer.picture.type === "uint16" ? 65535 : 255);

/** Where a value in the file's own units lies among the levels of what was sent. */
function levelOfValue(image, value) {
  const [first, last] = image.answer.ends;
  return ((value - first) / (last - first)) * topOf(image);
}

/** Colour and opacity of a level (1 = at the threshold) as CSS, for the key. */
export function cssColour(level) {
  const word = colour(level);
  return `rgba(${word & 255}, ${(word >> 8) & 255}, ${(word >> 16) & 255}, ${((word >>> 24) / 255).toFixed(3)})`;
}

function valueAt({ width, height, values }, x, y) {
  const column = Math.min(Math.floor(x * width), width - 1);
  const row = Math.min(Math.floor(y * height), height - 1);
  return values[row * width + column];
}

/** Level of a raw value: 0 at the bottom of the scale, 1 at the threshold. Only a map that goes below 0, or a threshold
 * there, needs a bottom of its own. */
function levelOf(values, threshold) {
  let bottom = 0;
  if (threshold <= 0) for (const value of values) bottom = Math.min(bottom, value);
  const unit = threshold - bottom;
  if (unit <= 0) return (value) => (value >= threshold && value !== 0 ? END : 0);
  return (value) => (value - bottom) / unit;
}

/** Yellow to red, as a little-endian word ABGR. */
function colour(level) {
  if (!(level > FADE_IN)) return 0;
  const opacity = Math.min((level - FADE_IN) / (1 - FADE_IN), 1);
  const red = Math.min((level - FADE_IN) / (END - FADE_IN), 1);
  return ((Math.round(opacity * 255) << 24) | (Math.round(235 * (1 - red)) << 8) | 255) >>> 0;
}

function lookup(size, low, high, invert) {
  const table = new Uint32Array(size);
  const span = Math.max(high - low, 1e-9);
  for (let level = 0; level < size; level += 1) {
    const share = Math.min(Math.max((level - low) / span, 0), 1);
    table[level] = 0xff000000 | (Math.round(255 * (invert ? 1 - share : share)) * 0x010101);
  }
  return table;
}

function trace({ width, height, values }, threshold, path) {
  const share = (from, to) => (threshold - from) / (to - from);
  for (let row = 0; row < height - 1; row += 1) {
    for (let column = 0; column < width - 1; column += 1) {
      const place = row * width + column;
      const [a, b, c, d] = [values[place], values[place + 1], values[place + width + 1], values[place + width]];
      const kind = (a >= threshold) | ((b >= threshold) << 1) | ((c >= threshold) << 2) | ((d >= threshold) << 3);
      if (kind === 0 || kind === 15) continue;
      const [x, y] = [column + 0.5, row + 0.5];
      const sides = [];
      if ((a >= threshold) !== (b >= threshold)) sides.push([x + share(a, b), y]);
      if ((b >= threshold) !== (c >= threshold)) sides.push([x + 1, y + share(b, c)]);
      if ((d >= threshold) !== (c >= threshold)) sides.push([x + share(d, c), y + 1]);
      if ((a >= threshold) !== (d >= threshold)) sides.push([x, y + share(a, d)]);
      for (let side = 0; side + 1 < sides.length; side += 2) {
        path.moveTo(...sides[side]);
        path.lineTo(...sides[side + 1]);
      }
    }
  }
}

export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/** What was made of an image before, if it is still what is wanted; only the latest is kept. */
function cached(image, name, key, build) {
  const known = image.cache.get(name);
  if (known?.key === key) return known.value;
  const value = build();
  image.cache.set(name, { key, value });
  return value;
}
