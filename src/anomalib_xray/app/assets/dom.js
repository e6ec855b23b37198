// Elements are made by code, never from text that is read as HTML: file names and answers are foreign.

/** The element of an id. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes, listeners (keys that begin with "on") and children (elements or texts). */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Says something to those who listen to a screen reader. */
export function announce(text) {
  byId("live").textContent = text;
}

/** A raw score or map value, four digits. */
export function number(value) {
  if (value === null || value === undefined) return "none";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-4 ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

/** "higher than 97.3 % of 400 normal images" */
export function rank(percentile, count = null) {
  if (percentile === null || percentile === undefined) return "no normal images to compare with";
  const share = Math.floor(percentile * 10) / 10;
  return `higher than ${share} % of ${count === null ? "" : `${count} `}normal images`;
}

const VERDICTS = new Map([[true, "anomalous"], [false, "not anomalous"], [null, "no threshold"]]);

/** A decision in words, with the reasons where there must be none. */
export function verdict({ isAnomalous, notComparable }) {
  return notComparable.length ? `not comparable: ${notComparable.join("; ")}` : VERDICTS.get(isAnomalous);
}

/** Sign and kind of a decision, so that no colour is needed to read it. */
export function sign({ isAnomalous, notComparable }) {
  if (notComparable.length) return ["✕", "barred"];
  if (isAnomalous === null) return ["–", "unknown"];
  return isAnomalous ? ["▲", "anomalous"] : ["●", "ordinary"];
}

/** The chip that shows a decision: a sign, words and a colour. */
export function chip(judgement) {
  const [mark, kind] = sign(judgement);
  return make("span", { class: `chip ${kind}` }, make("span", { "aria-hidden": "true" }, mark), ` ${verdict(judgement)}`);
}
