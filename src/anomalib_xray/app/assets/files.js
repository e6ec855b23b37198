// Radiographs come in by picker, drop or paste, and go to the server one or two at a time.

import { announce, byId, verdict } from "./dom.js";
import { judged, show, state, tell } from "./state.js";
import { analyse, Refused } from "./wire.js";

const AT_ONCE = 2;
const PAUSE = 700; // milliseconds before a busy server is asked again
const BUSY = 503;
let active = 0;

/** Adds files to the list and has them analysed. Those of a folder carry their path as `path`. */
export function add(files) {
  const added = [...files].map((file) => ({ file, name: file.path || file.name || "pasted image", status: "waiting", error: null, answer: null, inStudy: true, cache: new Map() }));
  if (!added.length) return;
  const first = state.images.length;
  state.images.push(...added);
  tell("images");
  announce(`${added.length} ${added.length === 1 ? "radiograph" : "radiographs"} added.`);
  // A single new radiograph is what one wants to see; of many, the first.
  show(first);
  work();
}

/** How many of the list are finished. */
export const finished = () => state.images.filter((image) => image.status === "done" || image.status === "failed").length;

function work() {
  while (active < AT_ONCE) {
    const image = state.images.find((candidate) => candidate.status === "waiting");
    if (!image) return;
    active += 1;
    image.status = "sent";
    tell("images");
    send(image).finally(() => {
      active -= 1;
      work();
    });
  }
}

async function send(image) {
  try {
    if (image.file.size > state.limits.bytes) {
      throw new Refused(`The file is larger than ${state.limits.bytes / 1e6} megabytes, the most that is taken.`, 413);
    }
    if (image.file.size === 0) throw new Refused("The file is empty: choose another one.", 400);
    const { header, plane } = await patiently(image);
    Object.assign(image, { status: "done", answer: header, plane, window: [...header.windows[0]] });
  } catch (error) {
    image.status = "failed";
    image.error = error instanceof Refused ? error.message : "The file cannot be read: choose it again.";
  }
  if (image.removed) return;
  tell("images");
  if (state.images[state.current] === image) tell("current");
  announce(spoken(image));
}

/** Waits its turn where others keep the server busy. */
async function patiently(image) {
  for (;;) {
    try {
      return await analyse(image.file);
    } catch (error) {
      if (error.status !== BUSY || image.removed) throw error;
      if (!image.isQueued) {
        image.isQueued = true;
        tell("images");
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
  }
}

function spoken(image) {
  if (image.status === "failed") return `${image.name}: ${image.error}`;
  const said = state.models.map((model, index) => {
    const judgement = judged(image, index);
    return judgement ? `${model.label} ${verdict(judgement)}` : `${model.label} failed`;
  });
  return `${image.name} analysed: ${said.join(", ")}. ${finished()} of ${state.images.length} done.`;
}

/** Listens to picker, drop and paste. */
export function listenForFiles() {
  const input = byId("files");
  const open = () => input.click();
  byId("open").addEventListener("click", open);
  byId("open-here").addEventListener("click", open);
  input.addEventListener("change", () => {
    add(input.files);
    input.value = ""; // the same file can be chosen again
  });
  document.addEventListener("paste", (event) => add(event.clipboardData?.files ?? []));
  listenForDrops();
}

function listenForDrops() {
  let depth = 0;
  const shown = (inside) => {
    depth = inside;
    byId("dropping").hidden = depth === 0;
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    shown(depth + 1);
  });
  document.addEventListener("dragleave", () => shown(Math.max(depth - 1, 0)));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    shown(0);
    const entries = [...(event.dataTransfer?.items ?? [])].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const plain = [...(event.dataTransfer?.files ?? [])];
    add(entries.some((entry) => entry.isDirectory) ? (await Promise.all(entries.map(below))).flat() : plain);
  });
}

/** All files of a dropped folder, in the order of their paths; not those that file systems and disks add. */
async function below(entry) {
  if (entry.name.startsWith(".") || entry.name.toUpperCase() === "DICOMDIR") return [];
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    return [Object.assign(file, { path: entry.fullPath.replace(/^\//, "") })];
  }
  const reader = entry.createReader();
  const children = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) break;
    children.push(...some);
  }
  children.sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
  return (await Promise.all(children.map(below))).flat();
}
