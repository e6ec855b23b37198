// The keyboard: arrows and single letters, which can be turned off for those whose tools type letters.

import { byId } from "./dom.js";
import { zoom } from "./panes.js";
import { current, remove, show, state, tell } from "./state.js";
import { toggleStudy } from "./study.js";

const STEP = 0.1;

/** Sets the heat map's opacity, 0 to 1. */
export function setOpacity(opacity) {
  state.display.opacity = Math.min(Math.max(opacity, 0), 1);
  tell("display");
}

/** Shows or hides the preparation. */
export function toggleStages() {
  state.stages = !state.stages;
  byId("stages-toggle").setAttribute("aria-pressed", String(state.stages));
  tell("current");
}

const KEYS = {
  ArrowLeft: () => show(state.current - 1),
  ArrowRight: () => show(state.current + 1),
  Home: () => show(0),
  End: () => show(state.images.length - 1),
  Delete: () => current() && remove(current()),
};

const LETTERS = {
  o: () => byId("files").click(),
  h: () => byId("heat").click(),
  i: () => byId("invert").click(),
  "[": () => setOpacity(state.display.opacity - STEP),
  "]": () => setOpacity(state.display.opacity + STEP),
  "+": () => zoom(1.25),
  "=": () => zoom(1.25),
  "-": () => zoom(0.8),
  0: () => zoom(0),
  s: () => toggleStudy(),
  p: toggleStages,
  "?": () => byId("help").showModal(),
};

/** Listens, except where a key means something else already. */
export function listenForKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const takesKeys = event.target.matches?.("input:not([type=checkbox]):not([type=file]), select");
    const letter = byId("letters").checked ? LETTERS[event.key.toLowerCase()] : undefined;
    const isSlider = event.target.matches?.("input[type=range]");
    const action = takesKeys ? (isSlider ? letter : undefined) : (KEYS[event.key] ?? letter);
    if (!action) return;
    event.preventDefault();
    action();
  });
}
