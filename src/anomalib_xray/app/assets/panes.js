// Pictures side by side: one a model, and the original. They zoom and move together.

import { byId, chip, make, number, verdict } from "./dom.js";
import { heatAt, heatCanvas, levelAt, outline, pictureCanvas } from "./picture.js";
import { current, judged, resultOf, state, tell } from "./state.js";

const LARGEST_ZOOM = 12;
const ORIGINAL = -1;
/** What the frame means. */
export const FRAMED = "blue frame: what was looked at";
let panes = [];
let requested = false;
let pointers = new Map();

/** Builds the panes that are to be seen, and paints them. */
export function layPanes() {
  const wanted = [...(state.display.original ? [ORIGINAL] : []), ...[...state.shown].sort((one, other) => one - other)];
  if (String(wanted) !== String(panes.map((pane) => pane.index))) {
    panes.forEach((pane) => observer.unobserve(pane.canvas));
    panes = wanted.map(pane);
    byId("panes").replaceChildren(...panes.map((entry) => entry.figure));
    byId("panes").dataset.count = panes.length;
    panes.forEach((entry) => observer.observe(entry.canvas));
  }
  paint();
}

/** Paints soon, once, however often it is asked for. */
export function paint() {
  if (requested) return;
  requested = true;
  requestAnimationFrame(() => {
    requested = false;
    panes.forEach(paintPane);
    byId("zoom-value").textContent = `${Math.round(state.display.zoom * 100)} %`;
  });
}

/** Zooms about a place in a pane (pixels from its middle). */
export function zoom(factor, x = 0, y = 0) {
  const { display } = state;
  const next = Math.min(Math.max(display.zoom * factor, 1), LARGEST_ZOOM);
  const ratio = next / display.zoom;
  display.x = next === 1 ? 0 : x - (x - display.x) * ratio;
  display.y = next === 1 ? 0 : y - (y - display.y) * ratio;
  display.zoom = next;
  tell("display");
}

/** Draws a radiograph with what a model says of it into a rectangle of a context; line is the outline's width. */
export function drawInto(context, image, index, box, line) {
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.drawImage(pictureCanvas(image), box.x, box.y, box.width, box.height);
  if (index === ORIGINAL) return;
  drawFrames(context, image, index, box, line);
  if (!state.display.heat) return;
  const colours = heatCanvas(image, index);
  if (!colours) return;
  context.globalAlpha = state.display.opacity;
  context.drawImage(colours, box.x, box.y, box.width, box.height);
  context.globalAlpha = 1;
  if (!state.display.outline) return;
  context.save();
  context.translate(box.x, box.y);
  context.scale(box.width / colours.width, box.height / colours.height);
  context.lineWidth = (line * colours.width) / box.width;
  context.strokeStyle = "rgba(255, 255, 255, 0.9)";
  context.stroke(outline(image, index));
  context.restore();
}

/** Surrounds what the model looked at, where it left out some of the radiograph; the colour is that of `predict`. */
function drawFrames(context, image, index, box, line) {
  context.strokeStyle = "#5a96c8";
  context.lineWidth = 1.5 * line;
  for (const frame of resultOf(image, index)?.frames ?? []) {
    context.beginPath();
    for (const [x, y] of frame) context.lineTo(box.x + ((x + 0.5) / image.answer.width) * box.width, box.y + ((y + 0.5) / image.answer.height) * box.height);
    context.closePath();
    context.stroke();
  }
}

const observer = new ResizeObserver(() => paint());

function pane(index) {
  const canvas = make("canvas", { role: "img", tabindex: "-1" });
  const caption = make("figcaption", {});
  const readout = make("p", { class: "readout", "aria-hidden": "true" });
  const entry = { index, canvas, caption, readout, figure: make("figure", { class: "pane" }, caption, canvas, readout) };
  listen(entry);
  return entry;
}

function paintPane(entry) {
  const { canvas, index } = entry;
  const image = current();
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (!image?.answer) return;
  drawInto(context, image, index, boxOf(image, width, height, scale), 1.4 * scale);
  label(entry, image);
}

/** Where the radiograph lies in a canvas of a size. */
function boxOf(image, width, height, scale = 1) {
  const { zoom: factor, x, y } = state.display;
  const fit = Math.min(width / image.answer.width, height / image.answer.height) * factor;
  const size = { width: image.answer.width * fit, height: image.answer.height * fit };
  return { ...size, x: (width - size.width) / 2 + x * scale, y: (height - size.height) / 2 + y * scale };
}

function label(entry, image) {
  const { index, canvas, caption } = entry;
  if (index === ORIGINAL) {
    caption.replaceChildren(make("strong", {}, "Original"));
    canvas.setAttribute("aria-label", `${image.name}, the radiograph itself`);
    return;
  }
  const model = state.models[index];
  const judgement = judged(image, index);
  const name = make("strong", {}, model.label);
  if (!judgement) {
    caption.replaceChildren(name, make("span", { class: "failed" }, image.answer.results[index].error));
    canvas.setAttribute("aria-label", `${image.name}: ${model.label} failed`);
    return;
  }
  const result = resultOf(image, index);
  const notes = [result.heat_map ? null : "no heat map", result.frames.length ? FRAMED : null].filter(Boolean);
  const share = judgement.percentile === null ? "" : `, above ${Math.floor(judgement.percentile * 10) / 10} % of normal`;
  const score = make("span", { class: "quiet" }, `${number(judgement.value)}${share}`);
  caption.replaceChildren(name, chip(judgement), score, ...notes.map((note) => make("span", { class: "quiet" }, note)));
  canvas.setAttribute("aria-label", [`${image.name} under the heat map of ${model.label}, score ${number(judgement.value)}`, verdict(judgement), ...notes].join(", "));
}

function listen(entry) {
  const { canvas, readout } = entry;
  const fromMiddle = (event) => {
    const bounds = canvas.getBoundingClientRect();
    return [event.clientX - bounds.left - bounds.width / 2, event.clientY - bounds.top - bounds.height / 2];
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(-event.deltaY * 0.0015), ...fromMiddle(event));
  }, { passive: false });
  canvas.addEventListener("dblclick", () => zoom(0));
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  canvas.addEventListener("pointermove", (event) => {
    if (pointers.has(event.pointerId)) moved(event, fromMiddle);
    readout.textContent = read(entry, event);
  });
  canvas.addEventListener("pointerleave", () => (readout.textContent = ""));
}

/** One pointer moves, two zoom. */
function moved(event, fromMiddle) {
  const before = pointers.get(event.pointerId);
  if (pointers.size === 1) {
    if (state.display.zoom === 1) return;
    state.display.x += event.clientX - before.clientX;
    state.display.y += event.clientY - before.clientY;
  } else {
    const other = [...pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    const apart = (pointer) => Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
    zoom(apart(event) / Math.max(apart(before), 1), ...fromMiddle(event));
  }
  pointers.set(event.pointerId, event);
  tell("display");
}

function read(entry, event) {
  const image = current();
  if (!image?.answer) return "";
  const bounds = entry.canvas.getBoundingClientRect();
  const box = boxOf(image, bounds.width, bounds.height);
  const x = (event.clientX - bounds.left - box.x) / box.width;
  const y = (event.clientY - bounds.top - box.y) / box.height;
  if (x < 0 || y < 0 || x >= 1 || y >= 1) return "";
  const place = `${Math.floor(x * image.answer.width)}, ${Math.floor(y * image.answer.height)} px · level ${number(levelAt(image, x, y))}`;
  const value = entry.index === ORIGINAL ? null : heatAt(image, entry.index, x, y);
  return value === null ? place : `${place} · map ${number(value)}`;
}
