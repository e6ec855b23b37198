// Where there are more models than are compared: a list of all that they say, and the choice of whose pictures are shown.

import { byId, chip, make, number } from "./dom.js";
import { choose, COMPARED, current, judged, state } from "./state.js";

/** Draws the list anew. */
export function fillChoice() {
  const image = current();
  const place = byId("choice");
  place.hidden = state.models.length <= COMPARED || state.study.open || !image?.answer;
  if (place.hidden) return;
  const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
  byId("choice-list").replaceChildren(...state.models.map((model, index) => item(image, model, index)));
  if (focused) byId(focused)?.focus();
}

function item(image, model, index) {
  const judgement = judged(image, index);
  const share = judgement?.percentile ?? null;
  const numbers = judgement ? `${number(judgement.value)}${share === null ? "" : ` · ${Math.floor(share)} %`}` : image.answer.results[index].error;
  const isShown = state.shown.includes(index);
  return make("li", {}, make("button", { type: "button", id: `choice-${index}`, "aria-pressed": String(isShown), onclick: () => choose(index) },
    make("strong", {}, model.label), ...(judgement ? [chip(judgement)] : []), make("span", { class: judgement ? "numbers" : "failed" }, numbers)));
}
