// What the page knows: the models, the open radiographs, and how they are shown. Parts of the page listen to `bus`.

/** How many models are compared at once; more pictures side by side are slivers. The others are listed. */
export const COMPARED = 2;

export const bus = new EventTarget();

/** Tells that something changed: "images" (list, status), "current" (another radiograph or its answer), "settings"
 * (scores, thresholds), "display" (all that only changes how the pixels look). */
export const tell = (name) => bus.dispatchEvent(new Event(name));
export const on = (names, listener) => names.split(" ").forEach((name) => bus.addEventListener(name, listener));

export const state = {
  models: [],
  limits: { bytes: Infinity, pixels: Infinity },
  notice: "",
  version: "",
  images: [],
  current: -1,
  /** Per model: name of the score that decides, threshold of each score, threshold of the heat map. */
  settings: [],
  /** Indices of the models whose pictures are shown, the one chosen last at the end. */
  shown: [],
  display: { heat: true, outline: true, original: false, opacity: 0.6, invert: false, zoom: 1, x: 0, y: 0 },
  study: { open: false, rule: "mean" },
  stages: true,
};

export const current = () => state.images[state.current] ?? null;

/** Takes what the server says of its models. */
export function takeModels(facts) {
  Object.assign(state, { models: facts.models, limits: facts.limits, notice: facts.notice, version: facts.version });
  state.settings = facts.models.map((model) => ({
    score: model.score,
    thresholds: { ...model.thresholds },
    heat: heatDefault(model),
  }));
  state.shown = [...facts.models.keys()].slice(0, COMPARED);
  state.display.original = facts.models.length === 1;
}

/** Where the heat map's colour is full: the bundle's own threshold, or the largest value of normal images. */
export function heatDefault(model) {
  return model.pixel_threshold ?? model.map_limits?.[1] ?? null;
}

/** The heat map threshold of a model on an image: without any from the bundle it is half of the map's largest value. */
export function heatThreshold(index, image) {
  return state.settings[index].heat ?? (resultOf(image, index)?.largest ?? 0) / 2;
}

/** Shows a model's pictures in the place of the one chosen first, or takes them away while others are shown. */
export function choose(index) {
  const others = state.shown.filter((shown) => shown !== index);
  if (others.length === state.shown.length) state.shown = [...others.slice(1 - COMPARED), index];
  else if (others.length) state.shown = others;
  tell("choice");
}

/** What a model says of an image, or null. */
export function resultOf(image, index) {
  const result = image?.answer?.results[index];
  return result && !result.error ? result : null;
}

/** Score, percentile, threshold and decision of a model on an image, by the score and threshold that are chosen; no
 * decision where the image must not be compared, for the reasons given. */
export function judged(image, index) {
  const result = resultOf(image, index);
  if (!result) return null;
  const { score, thresholds } = state.settings[index];
  const value = result.scores[score];
  const threshold = thresholds[score] ?? null;
  return {
    score,
    value,
    percentile: result.percentiles[score] ?? null,
    threshold,
    isAnomalous: result.not_comparable.length ? null : decision(value, threshold),
    notComparable: result.not_comparable,
  };
}

/** Mean of the models' percentiles on an image, as `predict` fuses several bundles; null for a single model, and where
 * one does not know its normal images, or the image is not comparable with them. */
export function fusedPercentile(image) {
  const judgements = state.models.map((_, index) => judged(image, index));
  const shares = judgements.map((judgement) => (judgement?.notComparable.length ? null : (judgement?.percentile ?? null)));
  if (shares.length < 2 || shares.includes(null)) return null;
  return shares.reduce((sum, share) => sum + share, 0) / shares.length;
}

/** The same comparison as everywhere in the project: a score that equals its threshold is anomalous. */
export const decision = (value, threshold) => (threshold === null ? null : value >= threshold);

/** Shows another radiograph. */
export function show(position) {
  if (!state.images.length) state.current = -1;
  else state.current = Math.min(Math.max(position, 0), state.images.length - 1);
  Object.assign(state.display, { zoom: 1, x: 0, y: 0 });
  tell("current");
}

/** Takes a radiograph off the list. */
export function remove(image) {
  const position = state.images.indexOf(image);
  if (position < 0) return;
  state.images.splice(position, 1);
  image.removed = true;
  tell("images");
  show(position < state.current ? state.current - 1 : state.current);
}
