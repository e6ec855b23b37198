// The page's beginning: what listens to what.

import { fillChoice } from "./choice.js";
import { announce, byId, make, number } from "./dom.js";
import { fillSaving, listenForSaving, untickPatient } from "./download.js";
import { listenForFiles } from "./files.js";
import { listenForKeys, setOpacity, toggleStages } from "./keys.js";
import { buildPanel, fillPanel, words } from "./panel.js";
import { layPanes, paint, zoom } from "./panes.js";
import { fillStages } from "./stages.js";
import { current, on, remove, show, state, takeModels, tell } from "./state.js";
import { fillStrip, markCurrent } from "./strip.js";
import { fillStudy, toggleStudy } from "./study.js";
import { fetchModels } from "./wire.js";

on("images", fillStrip);
on("images", () => current() && fillFacts(current()));
on("images settings", fillStudy);
on("settings", fillStrip);
on("images settings", fillSaving);
on("current", showCurrent);
on("current", untickPatient);
on("current settings choice", fillPanel);
on("current settings choice", fillChoice);
on("settings display choice", layPanes);
on("display", fillDisplay);

function showCurrent() {
  const image = current();
  const { open } = state.study;
  const shown = !state.images.length ? "empty" : open ? "study" : { done: "picture", failed: "problem" }[image.status] ?? "waiting";
  for (const id of ["empty", "waiting", "problem", "picture"]) byId(id).hidden = id !== shown;
  markCurrent();
  fillStudy();
  fillStages();
  fillSaving();
  if (image) fillFacts(image);
  fillDisplay();
  if (shown === "picture") layPanes();
}

function fillFacts(image) {
  byId("waiting-text").textContent = image.status === "waiting" ? `${image.name} waits its turn.` : image.isQueued ? `The viewer is busy with other radiographs; ${image.name} waits its turn.` : `Analysing ${image.name}…`;
  byId("problem-title").textContent = image.name;
  byId("problem-text").textContent = image.error ?? "";
  byId("position").textContent = `${state.current + 1} / ${state.images.length}`;
  byId("previous").disabled = state.current === 0;
  byId("next").disabled = state.current === state.images.length - 1;
  if (!image.answer) return;
  const { format, width, height, bits, tags, results } = image.answer;
  const place = [tags.BodyPartExamined, tags.ViewPosition, tags.ImageLaterality ?? tags.Laterality].filter(Boolean);
  byId("picture-name").textContent = image.name;
  byId("picture-facts").textContent = [`${width} × ${height}`, `${bits} bit`, format, ...place].join(" · ");
  const flags = [...new Set(results.flatMap((result) => result.flags ?? []))];
  byId("picture-flags").textContent = flags.map(words).join(", ");
}

function fillDisplay() {
  const { display } = state;
  for (const name of ["heat", "outline", "original", "invert"]) byId(name).checked = display[name];
  byId("opacity").value = Math.round(display.opacity * 100);
  byId("opacity-value").textContent = `${Math.round(display.opacity * 100)} %`;
  const image = current();
  for (const name of ["width", "level"]) byId(name).disabled = !image?.answer;
  if (!image?.answer) return;
  const [low, high] = image.window;
  const [least, most] = rangeOf(image);
  const step = most - least > 100 ? 1 : "any";
  Object.assign(byId("width"), { min: step === 1 ? 1 : (most - least) / 1000, max: most - least, step, value: high - low });
  Object.assign(byId("level"), { min: least, max: most, step, value: (low + high) / 2 });
  byId("width-value").textContent = grey(high - low);
  byId("level-value").textContent = grey((low + high) / 2);
  fillPresets(image);
}

const grey = (value) => (Math.abs(value) < 100 ? number(value) : String(Math.round(value)));

/** Darkest and brightest value that a window may reach, in the file's own units. */
function rangeOf({ answer: { ends, windows, format } }) {
  const least = Math.min(...ends, ...windows.flat());
  const top = Math.max(...ends);
  const brightest = Math.max(...windows.flat());
  // A 16-bit PNG rarely uses all of its levels; of a DICOM file the ends are those of the picture itself.
  return [least, format === "DICOM" ? Math.max(top, brightest) : Math.min(Math.max(brightest * 1.25, least + 1), top)];
}

/** The windows that the file suggests, where there are several. */
function fillPresets(image) {
  const { windows } = image.answer;
  byId("preset-label").hidden = windows.length < 2;
  const chosen = windows.findIndex((window) => String(window) === String(image.window));
  const options = windows.map(([low, high], place) => make("option", { value: place }, `${place + 1}: W ${grey(high - low)} L ${grey((low + high) / 2)}`));
  byId("preset").replaceChildren(make("option", { value: "", disabled: true, hidden: true }, "moved"), ...options);
  byId("preset").value = chosen < 0 ? "" : String(chosen);
}

function choosePreset(event) {
  const image = current();
  image.window = [...image.answer.windows[event.target.value]];
  tell("display");
}

function listen() {
  for (const name of ["heat", "outline", "original", "invert"]) {
    byId(name).addEventListener("change", (event) => {
      state.display[name] = event.target.checked;
      tell("display");
    });
  }
  byId("opacity").addEventListener("input", (event) => setOpacity(event.target.value / 100));
  for (const name of ["width", "level"]) byId(name).addEventListener("input", setWindow);
  byId("preset").addEventListener("change", choosePreset);
  byId("display-reset").addEventListener("click", resetDisplay);
  byId("zoom-in").addEventListener("click", () => zoom(1.25));
  byId("zoom-out").addEventListener("click", () => zoom(0.8));
  byId("zoom-reset").addEventListener("click", () => zoom(0));
  byId("previous").addEventListener("click", () => show(state.current - 1));
  byId("next").addEventListener("click", () => show(state.current + 1));
  byId("problem-remove").addEventListener("click", () => remove(current()));
  byId("study-toggle").addEventListener("click", () => toggleStudy());
  byId("stages-toggle").addEventListener("click", toggleStages);
  byId("help-open").addEventListener("click", () => byId("help").showModal());
}

function setWindow() {
  const image = current();
  if (!image?.answer) return;
  const [width, level] = [Number(byId("width").value), Number(byId("level").value)];
  image.window = [level - width / 2, level + width / 2];
  tell("display");
}

function resetDisplay() {
  const image = current();
  if (image?.answer) image.window = [...image.answer.windows[0]];
  Object.assign(state.display, { invert: false, opacity: 0.6, heat: true, outline: true });
  zoom(0);
}

async function start() {
  listen();
  listenForFiles();
  listenForKeys();
  listenForSaving();
  try {
    takeModels(await fetchModels());
  } catch (error) {
    byId("empty-facts").textContent = error.message;
    announce(error.message);
    return;
  }
  byId("empty-facts").textContent = `${state.models.map((model) => model.label).join(", ")} ready; files up to ${state.limits.bytes / 1e6} MB.`;
  buildPanel();
  fillPanel();
  fillChoice();
  fillStrip();
  fillDisplay();
  byId("open").dataset.ready = "";
  new ResizeObserver(paint).observe(byId("panes"));
}

start();
