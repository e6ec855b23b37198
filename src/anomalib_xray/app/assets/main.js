// The page's beginning: what listens to what.

import { announce, byId } from "./dom.js";
import { fillSaving, listenForSaving } from "./download.js";
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
on("current", showCurrent);
on("current settings", fillPanel);
on("settings display", layPanes);
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
  byId("waiting-text").textContent = image.status === "waiting" ? `${image.name} waits its turn.` : `Analysing ${image.name}…`;
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
  const top = image.answer.bits === 16 ? 65535 : 255;
  const span = Math.max(image.answer.window[1] * 1.25, 1);
  Object.assign(byId("width"), { max: Math.min(span, top), value: high - low });
  Object.assign(byId("level"), { max: Math.min(span, top), value: (low + high) / 2 });
  byId("width-value").textContent = Math.round(high - low);
  byId("level-value").textContent = Math.round((low + high) / 2);
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
  if (image?.answer) image.window = [...image.answer.window];
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
  byId("empty-facts").textContent = `${state.models.map((model) => model.label).join(" and ")} ready; files up to ${state.limits.bytes / 1e6} MB.`;
  buildPanel();
  fillPanel();
  fillStrip();
  fillDisplay();
  byId("open").dataset.ready = "";
  new ResizeObserver(paint).observe(byId("panes"));
}

start();
