// Save what is shown: the overlay as a picture or as DICOM, the numbers as JSON.

import { byId, number, rank, verdict } from "./dom.js";
import { drawInto, FRAMED } from "./panes.js";
import { blank } from "./picture.js";
import { current, fusedPercentile, heatThreshold, judged, resultOf, state } from "./state.js";
import { studies, studyJudgement } from "./study.js";
import { secondaryCapture } from "./wire.js";

const NARROWEST = 640; // pixels of a picture whose footer is legible
const TALLEST = 8192; // pixels that a picture is enlarged to
const IN_A_ROW = 4;
const MOST_PIXELS = 30e6; // of a picture of several models; browsers have limits, and Safari's is the lowest
const FONT = "system-ui, sans-serif";
let ticked = null;

/** Makes the buttons work. */
export function listenForSaving() {
  byId("save-png").addEventListener("click", () => saving(savePicture));
  byId("save-json").addEventListener("click", () => saving(async (image) => {
    const text = JSON.stringify(state.study.open ? studyReport() : imageReport(image), null, 2);
    offer(new Blob([text], { type: "application/json" }), `${state.study.open ? "study" : stem(image)}_scores.json`);
  }));
  byId("save-dicom").addEventListener("click", () => saving(saveCaptures));
}

/** Buttons that have something to save. */
export function fillSaving() {
  const image = current();
  for (const id of ["save-png", "save-dicom"]) byId(id).disabled = !image?.answer;
  byId("save-json").disabled = state.study.open ? !studies().length : !image?.answer;
  byId("save-json").textContent = state.study.open ? "Study JSON" : "Results JSON";
  byId("patient-label").hidden = image?.answer?.format !== "DICOM";
}

/** Takes the leave to copy the patient back as soon as another radiograph is shown: it was given for one. */
export function untickPatient() {
  if (current() !== ticked) byId("patient").checked = false;
  ticked = current();
}

async function savePicture(image) {
  const picture = await new Promise((resolve) => overlay(image, image.name, [...state.models.keys()]).toBlob(resolve, "image/png"));
  if (!picture) throw new Error("The browser cannot make so large a picture: save DICOM, which has a file for each model.");
  offer(picture, `${stem(image)}_overlay.png`);
}

/** A file for each model, one after the other: all in one would be larger than what the server takes. */
async function saveCaptures(image) {
  const keepPatient = image.answer.format === "DICOM" && byId("patient").checked;
  for (const [index, { label }] of state.models.entries()) {
    const picture = overlay(image, "", [index]);
    const about = { keepPatient, model: label, digest: resultOf(image, index)?.bundle_digest ?? "", scale: picture.width / image.answer.width };
    const capture = await secondaryCapture(picture, image.file, about);
    offer(capture, `${stem(image)}_${plain(label)}_overlay.dcm`);
  }
}

async function saving(save) {
  const image = current();
  const status = byId("save-status");
  if (!image) return;
  status.textContent = "Saving…";
  try {
    await save(image);
    status.textContent = "Saved.";
  } catch (error) {
    status.textContent = error.message;
  }
}

function offer(blob, name) {
  const address = URL.createObjectURL(blob);
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
}

const stem = (image) => plain(image.name.replace(/\.[^./]*$/, "")) || "radiograph";
const plain = (name) => name.replace(/[/\\:*?"<>|\s]+/g, "_");

/** The radiograph under the heat map of some models, with what the numbers mean below each. An archive is given no file's
 * name, which may be a patient's. */
function overlay(image, name, indices) {
  const { width, height } = image.answer.picture;
  const columns = Math.min(indices.length, IN_A_ROW);
  const rows = Math.ceil(indices.length / columns);
  const fit = Math.sqrt(MOST_PIXELS / (columns * rows * width * height));
  const scale = Math.max(Math.min(1, fit), Math.min(NARROWEST / width, TALLEST / height));
  const [cell, tall] = [Math.round(width * scale), Math.round(height * scale)];
  const em = Math.max(15, Math.round(cell / 44));
  const reasons = Math.max(...indices.map((index) => judged(image, index)?.notComparable.length ?? 0));
  const below = Math.round(em * (7.4 + 1.4 * reasons));
  const canvas = blank(cell * columns, (tall + below) * rows);
  const context = canvas.getContext("2d");
  context.fillStyle = "#14181d";
  context.fillRect(0, 0, canvas.width, canvas.height);
  indices.forEach((index, place) => {
    const [left, top] = [(place % columns) * cell, Math.floor(place / columns) * (tall + below)];
    context.save();
    context.beginPath();
    context.rect(left, top, cell, tall);
    context.clip();
    drawInto(context, image, index, { x: left, y: top, width: cell, height: tall }, Math.max(1.2, cell / 700));
    context.restore();
    footer(context, image, name, index, { left: left + em, top: top + tall, width: cell - 2 * em, em });
  });
  return canvas;
}

function footer(context, image, name, index, { left, top, width, em }) {
  const judgement = judged(image, index);
  const write = (text, row, size, colour, weight = 400) => {
    context.font = `${weight} ${size}px ${FONT}`;
    context.fillStyle = colour;
    context.fillText(fitted(context, text, width), left, top + Math.round(row * em));
  };
  const reasons = judgement?.notComparable ?? [];
  const said = judgement ? (reasons.length ? "not comparable" : verdict(judgement)) : "failed";
  write(`${state.models[index].label}: ${said}`, 1.7, em, "#ffffff", 700);
  if (judgement) {
    const result = resultOf(image, index);
    write(`${judgement.score} ${number(judgement.value)}, threshold ${number(judgement.threshold)}; ${rank(judgement.percentile)}`, 3.2, em * 0.9, "#e8ecf1");
    const map = result.heat_map ? `heat map threshold ${number(heatThreshold(index, image))}` : "no heat map";
    write([name, map, result.frames.length ? FRAMED : ""].filter(Boolean).join(" · "), 4.7, em * 0.85, "#b4bdc8");
  }
  write(state.notice, 6.4, em * 0.85, "#b4bdc8");
  reasons.forEach((reason, number) => write(reason, 7.8 + 1.4 * number, em * 0.85, "#ffce73"));
}

function fitted(context, text, width) {
  let shown = text;
  while (shown.length > 4 && context.measureText(shown).width > width) shown = `${shown.slice(0, -2)}…`;
  return shown;
}

function imageReport(image) {
  return { notice: state.notice, version: state.version, created: new Date().toISOString(), image: numbers(image) };
}

function studyReport() {
  const found = studies();
  const scores = found.flatMap((study) => state.models.map((model, index) => ({ model: model.label, bundle_digest: model.bundle_digest, patient: study.patient, ...named(studyJudgement(study, index)) })));
  const images = found.flatMap((study) => study.images.map((image) => ({ ...numbers(image), patient: study.patient })));
  return { notice: state.notice, version: state.version, created: new Date().toISOString(), study: scores, images };
}

function numbers(image) {
  const { format, width, height, bits, sop_instance_uid } = image.answer;
  const models = state.models.map((model, index) => {
    const result = resultOf(image, index);
    if (!result) return { model: model.label, bundle_digest: model.bundle_digest, error: image.answer.results[index].error };
    return {
      model: model.label,
      bundle_digest: model.bundle_digest,
      precision: model.precision,
      ...named(judged(image, index)),
      scores: result.scores,
      percentiles: result.percentiles,
      heat_map_threshold: result.heat_map ? heatThreshold(index, image) : null,
      flags: result.flags,
    };
  });
  return { name: image.name, sop_instance_uid, format, width, height, bits, fused_percentile: fusedPercentile(image), models };
}

function named(judgement) {
  if (!judgement) return {};
  const { isAnomalous, notComparable, ...rest } = judgement;
  return { ...rest, is_anomalous: isAnomalous, not_comparable: notComparable };
}
