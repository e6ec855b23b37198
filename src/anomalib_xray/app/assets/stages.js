// What the preparation made of the radiograph, step by step, for each model that prepares.

import { byId, make } from "./dom.js";
import { words } from "./panel.js";
import { greyCanvas } from "./picture.js";
import { current, resultOf, state } from "./state.js";

/** Shows the stages of the current radiograph. */
export function fillStages() {
  const image = current();
  const place = byId("stages");
  const rows = state.stages && !state.study.open && image?.answer ? rowsOf(image) : [];
  place.hidden = rows.length === 0;
  place.replaceChildren(...rows);
}

function rowsOf(image) {
  const rows = new Map(); // models that prepare in the same way share a row
  state.models.forEach((model, index) => {
    const views = resultOf(image, index)?.views ?? [];
    views.forEach((view, number) => {
      if (!view.stages.length) return;
      const name = views.length > 1 ? view.name : "";
      const print = fingerprint(image, view) + number;
      const row = rows.get(print);
      if (row) row.labels.push(model.label);
      else rows.set(print, { labels: [model.label], name, view });
    });
  });
  return [...rows.values()].map(({ labels, name, view }) => row(image, labels, name, view));
}

function row(image, labels, name, view) {
  const title = ["Preparation", name, labels.length < state.models.length ? `for ${labels.join(", ")}` : ""].filter(Boolean).join(" · ");
  const pictures = view.stages.map((stage, number) => {
    const canvas = greyCanvas(image.plane(stage.picture));
    const text = `${number + 1}. ${words(stage.name)}`;
    const button = make("button", { type: "button", class: "stage", "aria-label": `${text}, enlarge`, onclick: () => enlarge(canvas, `${image.name}: ${text}`) }, canvas, make("span", {}, text));
    return make("li", {}, button);
  });
  const flags = name && view.flags.length ? make("p", { class: "flags" }, view.flags.map(words).join(", ")) : null;
  return make("div", { class: "stage-row" }, make("h3", {}, title), make("ol", {}, ...pictures), ...(flags ? [flags] : []));
}

/** The same stages with the same pixels are the same preparation. */
function fingerprint(image, view) {
  return view.stages.map((stage) => {
    const { values, width, height } = image.plane(stage.picture);
    let sum = 0;
    for (let place = 0; place < values.length; place += 7) sum = (sum * 31 + values[place]) % 4294967291;
    return `${stage.name} ${width} ${height} ${sum}`;
  }).join("|");
}

function enlarge(canvas, title) {
  const dialog = byId("stage-dialog");
  const shown = byId("stage-canvas");
  Object.assign(shown, { width: canvas.width, height: canvas.height });
  shown.getContext("2d").drawImage(canvas, 0, 0);
  shown.setAttribute("aria-label", title);
  byId("stage-title").textContent = title;
  dialog.showModal();
}
