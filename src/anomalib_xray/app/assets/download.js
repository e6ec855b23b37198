// Save what is shown: the overlay as a picture or as DICOM, the numbers as JSON.

import { byId, number, rank, VERDICTS } from "./dom.js";
import { drawInto } from "./panes.js";
import { blank } from "./picture.js";
import { current, fusedPercentile, heatThreshold, judged, resultOf, state } from "./state.js";
import { members, studyJudgement } from "./study.js";
import { secondaryCapture } from "./wire.js";

const NARROWEST = 640; // pixels of a picture whose footer is legible
const FONT = "system-ui, sans-serif";

/** Makes the buttons work. */
export function listenForSaving() {
  byId("save-png").addEventListener("click", () => saving(async (image) => {
    const picture = await new Promise((resolve) => overlay(image, image.name).toBlob(resolve, "image/png"));
    offer(picture, `${stem(image)}_overlay.png`);
  }));
  byId("save-json").addEventListener("click", () => saving(async (image) => {
    const text = JSON.stringify(state.study.open ? studyReport() : imageReport(image), null, 2);
    offer(new Blob([text], { type: "application/json" }), `${state.study.open ? "study" : stem(image)}_scores.json`);
  }));
  byId("save-dicom").addEventListener("click", () => saving(async (image) => {
    const isDicom = image.answer.format === "DICOM";
    const keep = isDicom && byId("patient").checked;
    offer(await secondaryCapture(overlay(image, ""), isDicom ? image.file : null, keep), `${stem(image)}_overlay.dcm`);
  }));
}

/** Buttons that have something to save. */
export function fillSaving() {
  const image = current();
  for (const id of ["save-png", "save-json", "save-dicom"]) byId(id).disabled = !image?.answer;
  byId("save-json").textContent = state.study.open ? "Study JSON" : "Results JSON";
  byId("patient-label").hidden = image?.answer?.format !== "DICOM";
}

async function saving(save) {
  const image = current();
  const status = byId("save-status");
  if (!image?.answer) return;
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

const stem = (image) => image.name.replace(/\.[^./]*$/, "").replaceAll("/", "_") || "radiograph";

/** The radiograph under the heat map of each model, side by side, with what the numbers mean below. An archive is given
 * no file's name, which may be a patient's. */
function overlay(image, name) {
  const { width, height } = image.answer.picture;
  const scale = Math.max(1, NARROWEST / width);
  const [cell, tall] = [Math.round(width * scale), Math.round(height * scale)];
  const em = Math.max(15, Math.round(cell / 44));
  const canvas = blank(cell * state.models.length, tall + Math.round(em * 7.4));
  const context = canvas.getContext("2d");
  context.fillStyle = "#14181d";
  context.fillRect(0, 0, canvas.width, canvas.height);
  state.models.forEach((_, index) => {
    drawInto(context, image, index, { x: index * cell, y: 0, width: cell, height: tall }, Math.max(1.2, cell / 700));
    footer(context, image, name, index, { left: index * cell + em, top: tall, width: cell - 2 * em, em });
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
  const verdict = judgement ? VERDICTS.get(judgement.isAnomalous) : "failed";
  write(`${state.models[index].label}: ${verdict}`, 1.7, em, "#ffffff", 700);
  if (judgement) {
    write(`${judgement.score} ${number(judgement.value)}, threshold ${number(judgement.threshold)}; ${rank(judgement.percentile)}`, 3.2, em * 0.9, "#e8ecf1");
    const map = resultOf(image, index).heat_map ? `heat map threshold ${number(heatThreshold(index, image))}` : "no heat map";
    write(name ? `${name} · ${map}` : map, 4.7, em * 0.85, "#b4bdc8");
  }
  write(state.notice, 6.4, em * 0.85, "#b4bdc8");
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
  const scores = state.models.map((model, index) => ({ model: model.label, ...named(studyJudgement(index)) }));
  return { notice: state.notice, version: state.version, created: new Date().toISOString(), study: scores, images: members().map(numbers) };
}

function numbers(image) {
  const { format, width, height, bits } = image.answer;
  const models = state.models.map((model, index) => {
    const result = resultOf(image, index);
    if (!result) return { model: model.label, error: image.answer.results[index].error };
    return {
      model: model.label,
      precision: model.precision,
      ...named(judged(image, index)),
      scores: result.scores,
      percentiles: result.percentiles,
      heat_map_threshold: result.heat_map ? heatThreshold(index, image) : null,
      flags: result.flags,
    };
  });
  return { name: image.name, format, width, height, bits, fused_percentile: fusedPercentile(image), models };
}

function named(judgement) {
  if (!judgement) return {};
  const { isAnomalous, ...rest } = judgement;
  return { ...rest, is_anomalous: isAnomalous };
}
