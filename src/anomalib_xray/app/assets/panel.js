// A card for each model: its score, percentile and decision, and the thresholds that the reader may move.

import { byId, chip, make, number, rank } from "./dom.js";
import { cssColour } from "./picture.js";
import { plot } from "./plot.js";
import { current, fusedPercentile, heatDefault, heatThreshold, judged, resultOf, state, tell } from "./state.js";

const STEPS = 1000;
let cards = [];

/** Builds the cards; once, as the models stay the same. */
export function buildPanel() {
  cards = state.models.map(card);
  byId("cards").replaceChildren(...cards.map((entry) => entry.element));
}

/** Shows what is said of the current radiograph. */
export function fillPanel() {
  cards.forEach(fill);
  cards.forEach((entry) => (entry.element.hidden = !state.shown.includes(entry.index)));
  const fused = fusedPercentile(current());
  byId("fused").hidden = fused === null;
  if (fused !== null) byId("fused").textContent = `All models: mean percentile ${Math.floor(fused * 10) / 10}`;
}

function card(model, index) {
  const title = make("h2", { id: `model-${index}` }, model.label);
  const entry = {
    model,
    index,
    verdict: make("span", { class: "verdict" }),
    score: make("select", { id: `score-${index}`, onchange: (event) => choose(index, event.target.value) }),
    value: make("output", { class: "value", for: `score-${index}` }),
    rank: make("p", { class: "rank" }),
    plot: make("div", { class: "plot-place" }),
    threshold: threshold("Decision threshold", `threshold-${index}`, (value) => setThreshold(index, value), () => setThreshold(index, model.thresholds[state.settings[index].score] ?? null)),
    heat: threshold("Heat map threshold", `heat-${index}`, (value) => setHeat(index, value), () => setHeat(index, heatDefault(model))),
    key: make("div", { class: "key", "aria-hidden": "true" }),
  };
  entry.score.append(...model.scores.map((name) => make("option", { value: name }, name)));
  entry.heat.element.append(entry.key);
  entry.element = make("section", { class: "card model", "aria-labelledby": `model-${index}` },
    make("header", {}, title, make("span", { class: "tag", title: "Precision of the model" }, model.precision), entry.verdict),
    make("div", { class: "score" }, make("label", { for: `score-${index}` }, "Score"), entry.score, entry.value),
    entry.rank, entry.plot, entry.threshold.element, entry.heat.element);
  return entry;
}

/** A slider with a number that can be typed, and a button back to the bundle's own. */
function threshold(text, id, change, reset) {
  const slider = make("input", { type: "range", id, min: 0, max: STEPS, step: 1 });
  const field = make("input", { type: "number", step: "any", id: `${id}-number`, "aria-label": `${text}, exact value`, placeholder: "none" });
  const entry = { slider, field, low: 0, high: 1 };
  slider.addEventListener("input", () => change(entry.low + (slider.value / STEPS) * (entry.high - entry.low)));
  field.addEventListener("change", () => change(field.value === "" ? null : Number(field.value)));
  const back = make("button", { type: "button", class: "small", "aria-label": `${text}: back to the bundle's own`, onclick: reset }, "Reset");
  entry.element = make("div", { class: "threshold" }, make("div", { class: "threshold-head" }, make("label", { for: id }, text), field, back), slider);
  return entry;
}

function choose(index, score) {
  state.settings[index].score = score;
  tell("settings");
}

function setThreshold(index, value) {
  const settings = state.settings[index];
  settings.thresholds[settings.score] = Number.isFinite(value) ? value : null;
  tell("settings");
}

function setHeat(index, value) {
  state.settings[index].heat = Number.isFinite(value) ? value : null;
  tell("settings");
}

function fill(entry) {
  const { model, index } = entry;
  const image = current();
  const { score, thresholds } = state.settings[index];
  const judgement = judged(image, index);
  const error = image?.answer?.results[index].error ?? null;
  const quantiles = model.distribution[score] ?? null;
  entry.element.classList.toggle("idle", !judgement);
  entry.score.value = score;
  entry.verdict.replaceChildren(...(judgement ? [chip(judgement)] : []));
  entry.value.textContent = judgement ? number(judgement.value) : "–";
  entry.rank.textContent = error ?? (judgement ? said(judgement, model) : "");
  entry.plot.replaceChildren(...(quantiles ? [plot(quantiles, judgement?.value ?? null, thresholds[score] ?? null)] : []));
  const values = [...(quantiles ?? []), model.thresholds[score], judgement?.value];
  slide(entry.threshold, thresholds[score] ?? null, values, 1.15);
  const result = resultOf(image, index);
  const hasMap = Boolean(result?.heat_map);
  entry.heat.element.hidden = Boolean(image?.answer) && !hasMap;
  const limit = heatThreshold(index, image);
  slide(entry.heat, limit || null, [0, heatDefault(model), result?.largest, limit], 1.5);
  if (hasMap) entry.key.replaceChildren(...key(limit));
}

function said(judgement, model) {
  const text = rank(judgement.percentile, model.normal_images);
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** Sets a slider's range so that all values of interest lie in it, and its place. */
function slide(entry, value, interesting, room) {
  const values = [...interesting, value].filter((raw) => Number.isFinite(raw));
  const [low, high] = values.length ? [Math.min(...values, 0), Math.max(...values)] : [0, 1];
  const { slider, field } = entry;
  if (document.activeElement !== slider || value < entry.low || value > entry.high) {
    entry.low = low;
    entry.high = high > low ? low + (high - low) * room : low + 1;
  }
  slider.value = value === null ? STEPS : Math.round(((value - entry.low) / (entry.high - entry.low)) * STEPS);
  slider.setAttribute("aria-valuetext", number(value));
  slider.classList.toggle("unset", value === null);
  if (document.activeElement !== field) field.value = value === null ? "" : number(value);
}

function key(limit) {
  const bar = make("canvas", { width: 200, height: 8 });
  const context = bar.getContext("2d");
  for (let x = 0; x < 200; x += 1) {
    context.fillStyle = "#4a4f55";
    context.fillRect(x, 0, 1, 8);
    context.fillStyle = cssColour((x / 199) * 2);
    context.fillRect(x, 0, 1, 8);
  }
  context.fillStyle = "#fff";
  context.fillRect(99, 0, 2, 8);
  return [bar, make("div", { class: "key-ends" }, make("span", {}, "0"), make("span", {}, number(limit)), make("span", {}, number(2 * limit)))];
}

/** "no_carrier" as words. */
export const words = (flag) => flag.replaceAll("_", " ");
