// The list of open radiographs: thumbnails with their state and the models' decisions.

import { byId, make, sign, verdict } from "./dom.js";
import { finished } from "./files.js";
import { pictureCanvas } from "./picture.js";
import { COMPARED, judged, show, state } from "./state.js";

const SIDE = 92;
const STATES = { waiting: "waiting", sent: "analysing", failed: "cannot be used" };

/** Draws the list anew. */
export function fillStrip() {
  const focused = document.activeElement?.closest("#strip li");
  const place = focused ? [...focused.parentElement.children].indexOf(focused) : -1;
  byId("strip-list").replaceChildren(...state.images.map(item));
  byId("strip").hidden = state.images.length === 0;
  if (place >= 0) byId("strip-list").children[Math.min(place, state.images.length - 1)]?.firstChild.focus();
  const done = finished();
  const busy = done < state.images.length;
  byId("progress").hidden = !busy;
  Object.assign(byId("progress-bar"), { max: Math.max(state.images.length, 1), value: done });
  byId("progress-text").textContent = `${done} of ${state.images.length}`;
}

/** Marks the one that is shown. */
export function markCurrent() {
  [...byId("strip-list").children].forEach((entry, position) => {
    const isCurrent = position === state.current;
    entry.firstChild.setAttribute("aria-current", String(isCurrent));
    if (isCurrent) entry.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function item(image, position) {
  const button = make("button", { type: "button", class: `thumb ${image.status}`, title: image.name, "aria-label": described(image), "aria-current": String(position === state.current), onclick: () => show(position) });
  const stage = make("span", { class: "thumb-picture", "aria-hidden": "true" });
  if (image.answer) stage.append(thumbnail(image));
  else stage.append(make("span", { class: image.status === "failed" ? "sign" : "spinner" }, image.status === "failed" ? "!" : ""));
  const dots = state.models.map((_, index) => dot(judged(image, index)));
  button.append(stage, make("span", { class: "thumb-name" }, image.name), make("span", { class: "dots", "aria-hidden": "true" }, ...(image.answer ? dots : [STATES[image.status] ?? ""])));
  return make("li", {}, button);
}

/** A model's decision and, where two models at most leave the room, its percentile. */
function dot(judgement) {
  const [mark, kind] = judgement ? sign(judgement) : ["!", "unknown"];
  const share = judgement?.percentile ?? null;
  const isAlone = share === null || judgement.notComparable.length || state.models.length > COMPARED;
  return make("span", { class: `dot ${kind}` }, isAlone ? mark : `${mark} ${Math.floor(share)} %`);
}

function described(image) {
  if (!image.answer) return `${image.name}, ${STATES[image.status]}`;
  const said = state.models.map((model, index) => {
    const judgement = judged(image, index);
    return judgement ? `${model.label} ${verdict(judgement)}` : `${model.label} failed`;
  });
  return [image.name, ...said].join(", ");
}

/** A small canvas of a radiograph. */
export function thumbnail(image, side = SIDE) {
  const picture = pictureCanvas(image);
  const scale = Math.min(side / picture.width, side / picture.height) * 2; // sharp on dense screens
  const canvas = make("canvas", { width: Math.max(Math.round(picture.width * scale), 1), height: Math.max(Math.round(picture.height * scale), 1) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas;
}
