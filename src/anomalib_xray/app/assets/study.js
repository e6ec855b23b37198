// All open radiographs as one study: a table of their scores, and the study's own.

import { byId, chip, make, number } from "./dom.js";
import { decision, judged, show, state, tell } from "./state.js";
import { thumbnail } from "./strip.js";

const RULES = { mean: "mean over the images", max: "largest of the images" };

/** Opens or closes the view. */
export function toggleStudy(open = !state.study.open) {
  state.study.open = open;
  byId("study-toggle").setAttribute("aria-pressed", String(open));
  tell("current");
}

/** Score and decision of the study by a model: over its ticked images that the model could score; null without any.
 * The rule is the mean, as for MURA's studies; a maximum grows with the number of images. */
export function studyJudgement(index) {
  const judgements = members().map((image) => judged(image, index)).filter(Boolean);
  if (!judgements.length) return null;
  const values = judgements.map((judgement) => judgement.value);
  const value = state.study.rule === "max" ? Math.max(...values) : values.reduce((sum, each) => sum + each, 0) / values.length;
  const { score, threshold } = judgements[0];
  return { score, rule: state.study.rule, images: values.length, value, threshold, isAnomalous: decision(value, threshold) };
}

export const members = () => state.images.filter((image) => image.inStudy && image.answer);

/** Draws the table. */
export function fillStudy() {
  const place = byId("study");
  place.hidden = !state.study.open || !state.images.length;
  if (place.hidden) return place.replaceChildren();
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  place.replaceChildren(heading(), table());
  if (focused) byId(focused)?.focus();
}

function heading() {
  const rule = make("select", { id: "study-rule", onchange: (event) => setRule(event.target.value) });
  rule.append(...Object.entries(RULES).map(([value, text]) => make("option", { value }, text)));
  rule.value = state.study.rule;
  return make("header", { class: "study-head" }, make("h2", {}, "Study"),
    make("p", { class: "quiet" }, "The ticked images count as one study: open one patient's at a time."),
    make("label", { class: "rule" }, "Study score ", rule));
}

function setRule(rule) {
  state.study.rule = rule;
  tell("settings");
}

function table() {
  const head = make("tr", {}, make("th", { scope: "col" }, "In study"), make("th", { scope: "col" }, "Image"),
    ...state.models.map((model, index) => make("th", { scope: "col" }, model.label, make("span", { class: "quiet" }, ` ${state.settings[index].score}`))));
  const foot = make("tr", { class: "total" }, make("td", {}), make("th", { scope: "row" }, `Study, ${RULES[state.study.rule]}`),
    ...state.models.map((_, index) => total(studyJudgement(index))));
  return make("table", {}, make("caption", { class: "hidden-visually" }, "Scores of the study"), make("thead", {}, head), make("tbody", {}, ...state.images.map(row)), make("tfoot", {}, foot));
}

function row(image, position) {
  const tick = make("input", { type: "checkbox", id: `in-study-${position}`, "aria-label": `${image.name} in the study`, onchange: (event) => setMember(image, event.target.checked) });
  tick.checked = image.inStudy;
  tick.disabled = !image.answer;
  const link = make("button", { type: "button", class: "link", id: `study-image-${position}`, onclick: () => open(position) }, image.name);
  const picture = image.answer ? thumbnail(image, 56) : make("span", { class: "no-picture" }, image.status === "failed" ? "!" : "…");
  const cells = image.answer ? state.models.map((_, index) => cell(judged(image, index))) : [make("td", { colspan: state.models.length, class: "quiet" }, image.error ?? "waiting")];
  return make("tr", { class: image.inStudy ? "" : "out" }, make("td", {}, tick), make("th", { scope: "row" }, make("span", { class: "study-image" }, picture, link)), ...cells);
}

function setMember(image, isIn) {
  image.inStudy = isIn;
  tell("settings");
}

function open(position) {
  toggleStudy(false);
  show(position);
  byId("viewer").focus();
}

function cell(judgement) {
  if (!judgement) return make("td", { class: "quiet" }, "failed");
  const share = judgement.percentile === null ? "" : `above ${Math.floor(judgement.percentile * 10) / 10} % of normal`;
  return make("td", {}, make("span", { class: "cell" }, make("strong", {}, number(judgement.value)), make("span", { class: "quiet" }, share), chip(judgement.isAnomalous)));
}

function total(judgement) {
  if (!judgement) return make("td", { class: "quiet" }, "none");
  return make("td", {}, make("span", { class: "cell" }, make("strong", {}, number(judgement.value)), make("span", { class: "quiet" }, `threshold ${number(judgement.threshold)}`), chip(judgement.isAnomalous)));
}
