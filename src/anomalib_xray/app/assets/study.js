// All open radiographs as one study: a table of their scores, and the study's own.

import { byId, chip, make, number } from "./dom.js";
import { COMPARED, decision, judged, show, state, tell } from "./state.js";
import { thumbnail } from "./strip.js";

const NARROW = matchMedia("(max-width: 700px)"); // a table with a column for each model would not fit
const RULES = { mean: "mean over the images", max: "largest of the images" };

NARROW.addEventListener("change", fillStudy);

/** Opens or closes the view. */
export function toggleStudy(open = !state.study.open) {
  state.study.open = open;
  byId("study-toggle").setAttribute("aria-pressed", String(open));
  tell("current");
}

/** The ticked images that a model can have scored, one patient's together: files of different patients are never one
 * study. A file that names no patient (PNG and JPEG never do) belongs to the unknown one. */
export function studies() {
  const known = [...new Set(state.images.map((image) => image.answer?.patient).filter(Boolean))];
  const groups = new Map();
  for (const image of state.images.filter((each) => each.inStudy && each.answer)) {
    const patient = image.answer.patient ?? null;
    if (!groups.has(patient)) groups.set(patient, { patient: patient && known.indexOf(patient) + 1, images: [] });
    groups.get(patient).images.push(image);
  }
  return [...groups.values()];
}

/** Score and decision of a study by a model: over those of its images that the model could score; null without any.
 * The rule is the mean, as for MURA's studies; a maximum grows with the number of images. */
export function studyJudgement({ images }, index) {
  const judgements = images.map((image) => judged(image, index));
  const scored = judgements.filter(Boolean);
  if (!scored.length) return null;
  const values = scored.map((judgement) => judgement.value);
  const value = state.study.rule === "max" ? Math.max(...values) : values.reduce((sum, each) => sum + each, 0) / values.length;
  const { score, threshold } = scored[0];
  const notComparable = [...new Set(scored.flatMap((judgement) => judgement.notComparable))];
  return { score, rule: state.study.rule, images: values.length, value, threshold, isAnomalous: notComparable.length ? null : decision(value, threshold), notComparable };
}

/** What a study is called. */
const nameOf = ({ patient }) => (patient ? `Patient ${patient}` : "Unknown patient");

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
  const [text, isWarning] = owners();
  return make("header", { class: "study-head" }, make("h2", {}, "Study"),
    make("p", { class: isWarning ? "flags" : "quiet", id: "study-owners", role: "status" }, text),
    make("label", { class: "rule" }, "Study score ", rule));
}

/** Whose the ticked images are, in a sentence, and whether it is a warning. */
function owners() {
  const found = studies();
  if (found.length > 1) return [`The ticked images are not of one patient: ${found.map(nameOf).join(", ")}. Each has a score of its own.`, true];
  if (!found.length) return ["No image is ticked.", false];
  if (!found[0].patient) return ["The files do not say whose they are: tick those of one patient only.", false];
  const visits = new Set(found[0].images.map((image) => image.answer.study)).size;
  return visits > 1 ? [`The ticked images are of one patient, but of ${visits} studies.`, true] : ["The ticked images are of one patient.", false];
}

function setRule(rule) {
  state.study.rule = rule;
  tell("settings");
}

/** The roles are said again, because a browser forgets them where the rows are laid out as blocks. */
function table() {
  const found = studies();
  const head = make("tr", { role: "row" }, make("th", { scope: "col", role: "columnheader" }, "In study"), make("th", { scope: "col", role: "columnheader" }, "Image"),
    ...state.models.map((model, index) => make("th", { scope: "col", role: "columnheader" }, model.label, make("span", { class: "quiet" }, ` ${state.settings[index].score}`))));
  const totals = found.map((study) => make("tr", { class: "total", role: "row" }, make("td", { role: "cell" }), make("th", { scope: "row", role: "rowheader" }, `${found.length > 1 ? nameOf(study) : "Study"}, ${RULES[state.study.rule]}`),
    ...state.models.map((_, index) => total(studyJudgement(study, index), index))));
  const group = { role: "rowgroup" };
  return make("table", { role: "table", class: state.models.length > COMPARED || NARROW.matches ? "blocks" : "" }, make("caption", { class: "hidden-visually" }, "Scores of the study"),
    make("thead", group, head), make("tbody", group, ...state.images.map((image, position) => row(image, position, found.length > 1))), make("tfoot", group, ...totals));
}

function row(image, position, isMixed) {
  const tick = make("input", { type: "checkbox", id: `in-study-${position}`, "aria-label": `${image.name} in the study`, onchange: (event) => setMember(image, event.target.checked) });
  tick.checked = image.inStudy;
  tick.disabled = !image.answer;
  const link = make("button", { type: "button", class: "link", id: `study-image-${position}`, onclick: () => open(position) }, image.name);
  const picture = image.answer ? thumbnail(image, 56) : make("span", { class: "no-picture" }, image.status === "failed" ? "!" : "…");
  const owner = isMixed ? studies().find((study) => study.images.includes(image)) : null;
  const cells = image.answer ? state.models.map((_, index) => cell(judged(image, index), index)) : [make("td", { colspan: state.models.length, class: "quiet", role: "cell" }, image.error ?? "waiting")];
  return make("tr", { class: image.inStudy ? "" : "out", role: "row" }, make("td", { role: "cell" }, tick),
    make("th", { scope: "row", role: "rowheader" }, make("span", { class: "study-image" }, picture, link, owner ? make("span", { class: "tag" }, nameOf(owner)) : null)), ...cells);
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

function cell(judgement, index) {
  if (!judgement) return labelled(index, "quiet", "failed");
  const share = judgement.percentile === null ? "" : `above ${Math.floor(judgement.percentile * 10) / 10} % of normal`;
  return labelled(index, "", numbers(judgement, share));
}

function total(judgement, index) {
  return judgement ? labelled(index, "", numbers(judgement, `threshold ${number(judgement.threshold)}`)) : labelled(index, "quiet", "none");
}

const numbers = (judgement, note) => make("span", { class: "cell" }, make("strong", {}, number(judgement.value)), make("span", { class: "quiet" }, note), chip(judgement));

/** A cell that says of which model it is, for where it does not stand below its head. */
const labelled = (index, kind, content) => make("td", { class: kind, role: "cell" }, make("span", { class: "cell-model", "aria-hidden": "true" }, state.models[index].label), content);
