// Messages between the page and its server: a JSON header and raw planes.

const HEADER = 4;
const ALIGNMENT = 8;
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, float32: Float32Array };
const JSON_LIMIT = 65536;

/** An answer of the server that says what is wrong. */
export class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** What the server knows without a radiograph. */
export async function fetchModels() {
  return (await asked("/api/models")).json();
}

/** Sends a radiograph; returns the header, and a function from a plane's entry to its values. */
export async function analyse(file) {
  const buffer = await (await asked("/api/analyse?stages=1", file)).arrayBuffer();
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER, length)));
  const start = HEADER + length;
  const plane = (entry) => ({
    width: entry.width,
    height: entry.height,
    values: new TYPES[entry.type](buffer, start + entry.offset, entry.width * entry.height),
  });
  return { header, plane };
}

/** Makes a DICOM secondary capture of a canvas that shows what a model says of the source, a file; the scale is in pixels of
 * the canvas to one of the radiograph. */
export async function secondaryCapture(canvas, source, { keepPatient, model, digest, scale }) {
  const { width, height } = canvas;
  const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
  const colours = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    colours[to++] = data[from];
    colours[to++] = data[from + 1];
    colours[to++] = data[from + 2];
  }
  const about = { height, width, keep_patient: keepPatient, model, digest, scale };
  const header = new TextEncoder().encode(JSON.stringify(about));
  const padding = " ".repeat((ALIGNMENT - ((header.length + HEADER) % ALIGNMENT)) % ALIGNMENT);
  const length = new Uint8Array(new Uint32Array([header.length + padding.length]).buffer);
  const message = new Blob([length, header, padding, colours, source]);
  return (await asked("/api/secondary-capture", message)).blob();
}

async function asked(address, body = null) {
  const request = body
    ? { method: "POST", body, headers: { "content-type": "application/octet-stream" } }
    : { method: "GET" };
  let response;
  try {
    response = await fetch(address, request);
  } catch {
    throw new Refused("The viewer's server does not answer: is it still running?", 0);
  }
  if (response.ok) return response;
  const text = (await response.text()).slice(0, JSON_LIMIT);
  let sentence = `The server answered with the status ${response.status}.`;
  try {
    sentence = JSON.parse(text).error ?? sentence;
  } catch {
    // a proxy's page, for example
  }
  throw new Refused(sentence, response.status);
}
