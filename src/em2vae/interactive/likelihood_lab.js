import { button, bytesOf, frameBudget, h, interactive, plot, seededRandom, select, sentence, signed, slider } from "./shared.js";

const LEVELS = 256;
const HALF_LOG_2PI = 0.5 * Math.log(2 * Math.PI);
const CELL_VARIANCE = LEVELS ** -2 / 12; // of a point drawn uniformly from a cell
const SURE = [Number.EPSILON, 1 - Number.EPSILON]; // a probability of 0 or 1 counts as these
const STEP = 0.05; // of log10(scale), between the points of a curve
const MOST_BITS = 12; // on show in the plot of the whole picture
const DARKEST = 16; // bits that are black in the picture of bits
const [CUT, TALLEST, FAINT] = [1.25, 4, 5e-4]; // end levels are cut at TALLEST times the highest other, unless that is FAINT
const MARK = "#d55e00"; // on a picture, which is black and white in every theme
const CURVES = [
  { name: "normal, density", short: "density", color: 3, dash: [2, 4] },
  { name: "normal, dequantized", short: "dequantized", color: 2, dash: [8, 4] },
  { name: "normal, mass of cells", short: "cells", color: "text", dash: [] },
  { name: "discretized logistic", short: "logistic", color: 0, dash: [] },
];
const SQUARED = ["normal, density", "normal, dequantized"]; // whose bits are squared errors and a constant
const CAPTION =
  "How likely one pixel of a decoder's picture makes each grey level, and how many bits the true level costs. Click into a picture, or slide row and column, to choose " +
  "another pixel; drag in a plot, or slide, to change its mean or the scale of all. Make the scale smaller: where the mean is wrong, a normal pays far more than a logistic. " +
  "Give a normal the mean 0 and compare its dequantized bound with its mass of cells: what lies outside [0, 1] is lost there, and goes to the end levels here. " +
  "Then let a density run away: its mean on the level, and the smallest scale.";

// Likelihoods ----------------------------------------------------------------------------------

const within = (value, [low, high]) => Math.max(low, Math.min(high, value));

const logSigmoid = (v) => Math.min(v, 0) - Math.log1p(Math.exp(-Math.abs(v)));

/* log of the mass of a standard normal above x, to double precision however far out. */
export function logAbove(x) {
  if (x < 0) return Math.log1p(-Math.exp(logAbove(-x)));
  if (x === Infinity) return -Infinity;
  const logDensity = -0.5 * x * x - HALF_LOG_2PI;
  if (x < 3) {
    let sum = 0; // x + x^3 / 3 + x^5 / 15 + ...
    for (let n = 3, term = x; term > 1e-17 * sum; n += 2) {
      sum += term;
      term *= (x * x) / n;
    }
    return Math.log(0.5 - Math.exp(logDensity) * sum);
  }
  let fraction = x; // x + 1 / (x + 2 / (x + 3 / ...))
  for (let n = Math.ceil(8 + 450 / (x * x)); n > 0; n--) fraction = x + n / fraction;
  return logDensity - Math.log(fraction);
}

const NODES = [-0.9061798459386640, -0.5384693101056831, 0, 0.5384693101056831, 0.9061798459386640]; // Gauss-Legendre
const WEIGHTS = [0.2369268850561891, 0.4786286704993665, 0.5688888888888889, 0.4786286704993665, 0.2369268850561891];

/* log of the mass of a standard normal from a to b, ends at infinity among them. */
export function logMass(a, b) {
  if (a + b < 0) return logMass(-b, -a); // the upper tail, where no mass rounds to 1
  const [middle, half] = [0.5 * (a + b), 0.5 * (b - a)];
  if (half * (middle + half) < 0.5) {
    let sum = 0;
    for (let i = 0; i < 5; i++) sum += WEIGHTS[i] * Math.exp(-half * NODES[i] * (middle + 0.5 * half * NODES[i]));
    return Math.log(half * sum) - 0.5 * middle * middle - HALF_LOG_2PI;
  }
  if (a < 0) return Math.log1p(-Math.exp(logAbove(-a)) - Math.exp(logAbove(b)));
  return logAbove(a) + Math.log(-Math.expm1(logAbove(b) - logAbove(a)));
}

/* For a scale, what each likelihood says of level k and a mean: log P(k), or what is put in its
   place, in nats. A density in [0, 1] counts as that times the width of a cell. */
export const likelihoods = {
  Bernoulli: () => (k, mean) => {
    const p = within(mean, SURE);
    return k >= LEVELS / 2 ? Math.log(p) : Math.log1p(-p); // of a picture made black and white
  },
  "normal, density": (scale) => {
    const constant = -Math.log(scale) - HALF_LOG_2PI - Math.log(LEVELS);
    return (k, mean) => constant - 0.5 * ((k / (LEVELS - 1) - mean) / scale) ** 2;
  },
  // eq. dequantize-bound, the mean over u in closed form
  "normal, dequantized": (scale) => {
    const constant = -Math.log(scale) - HALF_LOG_2PI - Math.log(LEVELS);
    return (k, mean) => constant - (0.5 * (((k + 0.5) / LEVELS - mean) ** 2 + CELL_VARIANCE)) / scale ** 2;
  },
  "normal, mass of cells": (scale) => (k, mean) => {
    const a = k === 0 ? -Infinity : (k / LEVELS - mean) / scale;
    const b = k === LEVELS - 1 ? Infinity : ((k + 1) / LEVELS - mean) / scale;
    return logMass(a, b);
  },
  // eq. log-difference
  "discretized logistic": (scale) => {
    const inner = Math.log(-Math.expm1(-1 / (LEVELS * scale)));
    return (k, mean) => {
      if (k === 0) return logSigmoid((1 / LEVELS - mean) / scale);
      const above = logSigmoid((mean - k / LEVELS) / scale);
      return k === LEVELS - 1 ? above : logSigmoid(((k + 1) / LEVELS - mean) / scale) + above + inner;
    };
  },
};

/* Bits of each pixel: levels, means (D,) -> (D,). Plain loops: from() takes many times as long. */
export function bitsOf(name, scale, levels, means) {
  const logP = likelihoods[name](scale);
  const bits = new Float64Array(means.length);
  for (let d = 0; d < bits.length; d++) bits[d] = -logP(levels[d], means[d]) / Math.LN2;
  return bits;
}

export function meanOf(values) {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum / values.length;
}

/* The mass of the continuous distribution outside [0, 1]. */
export function outside(name, scale, mean) {
  const [below, above] = [-mean / scale, (1 - mean) / scale];
  const tail = name === "discretized logistic" ? (v) => Math.exp(logSigmoid(-v)) : (v) => Math.exp(logAbove(v));
  return tail(-below) + tail(above);
}

/* What a Bernoulli's formula, mean^x (1 - mean)^(1 - x), gives the 256 grey levels x in all. */
export function sumOfFormula(mean) {
  const p = within(mean, SURE);
  let sum = 0;
  for (let k = 0; k < LEVELS; k++) sum += (1 - p) * (p / (1 - p)) ** (k / (LEVELS - 1));
  return sum;
}

/* Levels drawn from uniform u and normal z (D,); beyond the first and the last, these. */
export function drawLevels(name, scale, means, { u, z }) {
  if (name === "Bernoulli") return means.map((mean, d) => (u[d] < mean ? LEVELS - 1 : 0));
  const noise = name === "discretized logistic" ? u.map((v) => Math.log(v) - Math.log1p(-v)) : z;
  return means.map((mean, d) => within(Math.floor(LEVELS * (mean + scale * noise[d])), [0, LEVELS - 1]));
}

/* Where a parabola through the values at x - step, x and x + step is lowest. */
function vertex(x, step, [left, middle, right]) {
  return x + (0.5 * step * (left - right)) / (left - 2 * middle + right);
}

/* The x of the lowest value of f, whose values on the grid of x's are known; null at an end. */
export function lowest(xs, values, f) {
  const i = values.indexOf(Math.min(...values));
  if (i === 0 || i === xs.length - 1) return null;
  const step = xs[i] - xs[i - 1];
  let x = vertex(xs[i], step, values.slice(i - 1, i + 2));
  for (const part of [10, 100]) x = vertex(x, step / part, [x - step / part, x, x + step / part].map(f));
  return x;
}

// Words ----------------------------------------------------------------------------------------

const inBits = (value) => (Math.abs(value) < 1000 ? signed(value) : signed(value, 0).replace(/\B(?=(\d{3})+$)/g, ","));
const share = (p) => (p < 1e-4 ? "under 0.01 %" : `${Number((100 * p).toPrecision(3))} %`);
const total = (sum) => (Math.abs(sum - 1) < 5e-4 ? "1" : String(Number(sum.toPrecision(3))));
const brief = (scale) => String(Number(scale.toPrecision(3)));

/* The level in whose cell a mean lies. */
const levelAt = (mean) => Math.min(LEVELS - 1, Math.floor(LEVELS * mean));

/* What the numbers of one pixel are, under each likelihood. */
function saysOfPixel(name, { k, p, bits, sum, lost, formula }) {
  const cost = `${inBits(bits)} bits`;
  if (name === "Bernoulli")
    return `In black and white it counts as ${k >= LEVELS / 2 ? "1" : "0"}, which has probability ${share(p)}: ${cost}, of another picture. Put grey levels into the formula, and what it gives all 256 adds up to ${total(formula)}, not to 1.`;
  if (name === "discretized logistic" || name === "normal, mass of cells")
    return `Its probability is ${share(p)}: ${cost}. All 256 add up to ${total(sum)}; the end levels take what lies outside [0, 1], ${share(lost)}.`;
  if (name === "normal, dequantized")
    return `The bound on its probability is ${share(p)}: at most ${cost}. The 256 bounds add up to ${total(sum)}; outside [0, 1], where no level is, ${share(lost)} of the normal is lost.`;
  return `The density there, times the width of a cell, is ${share(p)}: “${cost}”. It is no probability: the 256 numbers add up to ${total(sum)}, and nothing keeps one of them below 1.`;
}

function saysOfPicture({ name, scale, bits, nats, best, errors }) {
  const whole = `The whole picture: ${inBits(bits)} bits a pixel, ${inBits(nats)} nats.`;
  if (name === "Bernoulli") return whole;
  const parts = errors === null ? "" : ` The squared errors (x − μ)²/2τ² make ${inBits(errors)} of these bits${scale > 0.99 ? ": at scale 1, all that training can change" : ""}.`;
  if (!best) return `${whole}${parts} No scale in reach is best: the bits still fall at the end.`;
  const isThere = Math.abs(Math.log10(scale / best.scale)) < 0.005;
  return `${whole}${parts} ${isThere ? "No other single scale needs fewer" : `The best single scale, ${brief(best.scale)}, needs ${inBits(best.bits)}`}.`;
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, redraw, set }) => {
  // State
  const levels = bytesOf(model.get("_levels"));
  const view = model.get("_means");
  const decoded = Float64Array.from(levels, (_, d) => view.getFloat32(4 * d, true));
  const W = model.get("_width");
  const H = levels.length / W;
  const ends = model.get("_scales").map(Math.log10);
  const grid = Float64Array.from({ length: Math.round((ends[1] - ends[0]) / STEP) + 1 }, (_, i) => ends[0] + STEP * i);
  const totals = Object.fromEntries(CURVES.map(({ name }) => [name, new Float64Array(grid.length)])); // at the decoder's means
  const budget = frameBudget();
  let noise = {};
  let found = {}; // the curves and the best scale of a likelihood and a mean
  let hardest = 0; // the pixel with the most bits
  let shownBits = 0; // a pixel, of the whole picture

  const work = (function* () {
    for (const { name } of CURVES)
      for (let i = 0; i < grid.length; i++) {
        totals[name][i] = meanOf(bitsOf(name, 10 ** grid[i], levels, decoded));
        yield;
      }
  })();
  let done = false;
  function advance() {
    for (const end = budget(); !done && performance.now() < end; ) done = work.next().done;
    if (!done) redraw();
  }

  const pick = (row, column) => set({ row, column, mean: decoded[W * row + column] });
  const setScale = (log) => set({ scale: 10 ** within(log, ends) });

  function noiseOf(seed) {
    if (noise.seed !== seed) {
      const [uniform, normal] = [seededRandom(seed).uniform, seededRandom(seed).normal];
      noise = { seed, u: Float64Array.from(levels, uniform), z: Float64Array.from(levels, normal) };
    }
    return noise;
  }
  /* A curve of bits a pixel, with the chosen pixel's mean in place of the decoder's. */
  function curveOf(name, d, mean) {
    const change = (logP) => (logP(levels[d], decoded[d]) - logP(levels[d], mean)) / Math.LN2;
    return totals[name].map((value, i) => value + change(likelihoods[name](10 ** grid[i])) / levels.length);
  }
  function look(name, d, means) {
    const key = [name, d, means[d]].join();
    if (found.key === key) return found;
    found = { key, best: null, curves: Object.fromEntries(CURVES.map((curve) => [curve.name, curveOf(curve.name, d, means[d])])) };
    if (name === "Bernoulli") return found;
    const at = (log) => meanOf(bitsOf(name, 10 ** log, levels, means));
    const log = lowest(grid, found.curves[name], at);
    if (log !== null) found.best = { scale: 10 ** log, bits: at(log) };
    return found;
  }

  // Controls
  const names = model.get("_likelihoods");
  const likelihoodPicker = select({
    label: "Likelihood",
    options: names.map((name) => [name, name]),
    value: model.get("likelihood"),
    onchange: (likelihood) => set({ likelihood }),
  });
  const index = (label, count, oninput) =>
    slider({ label, min: 0, max: count - 1, step: 1, value: 0, format: String, oninput });
  const sliders = {
    mean: slider({ label: "Mean μ", min: 0, max: 1, step: 0.005, value: 0, format: (v) => v.toFixed(3), oninput: (mean) => set({ mean }) }),
    scale: slider({ label: "Scale τ", min: ends[0], max: ends[1], step: 0.02, value: 0, format: (log) => brief(10 ** log), oninput: setScale }),
    row: index("Row", H, (row) => pick(row, model.get("column"))),
    column: index("Column", W, (column) => pick(model.get("row"), column)),
  };
  const bestButton = button("Best scale", () => setScale(Math.log10(found.best.scale)));
  const drawButton = button("Draw again", () => set({ seed: model.get("seed") + 1 }));
  const meanButton = button("Decoder's mean", () => pick(model.get("row"), model.get("column")));
  const hardestButton = button("Hardest pixel", () => pick(Math.floor(hardest / W), hardest % W));

  // Draw
  const palette = model.get("_palette");
  const bars = plot({
    palette, x: [-36, 292], y: [0, 1], xLabel: "grey level", yLabel: "P of each level", aspect: 1.4,
    yFormat: (value) => `${Number((100 * value).toPrecision(3))} %`,
    onpick: (x) => set({ mean: within(x / LEVELS, [0, 1]) }),
    handles: () => [[LEVELS * model.get("mean"), 0]],
  });
  const whole = plot({
    palette, x: [ends[0], ends[1]], y: [0, MOST_BITS], xTicks: 4, xLabel: "one scale for all pixels", yLabel: "bits a pixel, whole picture", minor: true,
    aspect: 1.217, // as high as the bars, whose column is 1.15 times as wide
    xFormat: (log) => String(Number((10 ** log).toPrecision(2))),
    onpick: (x) => model.get("likelihood") !== "Bernoulli" && setScale(x),
    handles: () => [[Math.log10(model.get("scale")), shownBits]],
  });
  const zoom = Math.max(2, Math.floor(224 / Math.max(H, W)));
  const small = h("canvas", { width: W, height: H });
  function picture(text, name) {
    const canvas = h("canvas", { width: W * zoom, height: H * zoom, class: "em2vae-digit em2vae-draggable", role: "img" });
    canvas.addEventListener("click", ({ clientX, clientY }) => {
      const box = canvas.getBoundingClientRect();
      const at = (offset, length, count) => within(Math.floor((offset / length) * count), [0, count - 1]);
      pick(at(clientY - box.top, box.height, H), at(clientX - box.left, box.width, W));
    });
    let painted = "";
    /* Shows how dark each pixel is, 0 to 1, and where the chosen one is; the same key, the same picture. */
    function paint(d, key, darkness) {
      if (`${d} ${key}` === painted) return;
      painted = `${d} ${key}`;
      const image = new ImageData(W, H);
      const pixels = new Uint32Array(image.data.buffer); // opaque, the same in all three channels
      darkness().forEach((value, i) => (pixels[i] = 0xff000000 | (Math.round(255 * (1 - within(value, [0, 1]))) * 0x10101)));
      small.getContext("2d").putImageData(image, 0, 0);
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, canvas.width, canvas.height);
      const [left, top] = [[d % W, W], [Math.floor(d / W), H]].map(([at, count]) => within(zoom * at - 2, [2, zoom * (count - 1) - 6]));
      for (const [style, width] of [["#fff", 7], [MARK, 3]]) {
        Object.assign(context, { strokeStyle: style, lineWidth: width });
        context.strokeRect(left, top, zoom + 4, zoom + 4);
      }
      canvas.setAttribute("aria-label", `${name}, ${W} by ${H} pixels; row ${Math.floor(d / W)}, column ${d % W} is chosen`);
    }
    return { paint, element: h("div", { class: "em2vae-picture" }, canvas, h("span", {}, text)) };
  }
  const pictures = {
    truth: picture("The true picture", "The true picture"),
    mean: picture("Its mean picture", "The mean picture"),
    draw: picture("A draw", "A draw of the likelihood"),
    bits: picture(`Its bits (black: ${DARKEST})`, "Bits of each pixel"),
  };
  const said = sentence();

  /* How high the plot goes: to the inner levels and, in sight of these, to the end levels. */
  function topOf(heights) {
    const inner = Math.max(...heights.slice(1, -1));
    const outer = Math.max(heights[0], heights.at(-1));
    const top = CUT * Math.max(inner, inner > FAINT ? Math.min(TALLEST * inner, outer) : outer);
    const power = 10 ** Math.floor(Math.log10(top));
    return power * [1, 1.25, 1.5, 2, 3, 5, 7, 10].find((factor) => factor * power >= top);
  }

  /* The continuous distribution behind the levels, as a curve: levels, and mass a level. */
  function densityOf(name, scale, mean) {
    const logistic = name === "discretized logistic";
    const reach = logistic ? 14 : 6;
    const at = Array.from({ length: 161 }, (_, i) => reach * (i / 80 - 1));
    const edges = [-mean / scale, (1 - mean) / scale];
    const units = [...at, ...edges].sort((a, b) => a - b);
    const log = (v) => (logistic ? logSigmoid(v) + logSigmoid(-v) : -0.5 * v * v - HALF_LOG_2PI);
    return { xs: units.map((v) => LEVELS * (mean + scale * v)), ys: units.map((v) => Math.exp(log(v)) / (scale * LEVELS)) };
  }

  function drawBars({ name, scale, mean, k, heights, sum, lost, bits, p }) {
    const binary = name === "Bernoulli";
    const top = binary ? 1.25 : topOf(heights);
    bars.range.y = [0, top];
    const [left, width] = binary ? [(k >= LEVELS / 2 ? 1 : 0) * 128, 128] : [k, 1];
    const what = binary ? "Probability of 0 and 1" : "Bars, what the likelihood gives each of 256 levels";
    bars.canvas.setAttribute("aria-label", `${what}, in all ${total(sum)}; the mean at level ${levelAt(mean)}; the true level ${k} has ${share(p)}, ${inBits(bits)} bits${binary ? "" : `; ${share(lost)} of the mass lies outside`}`);
    if (!bars.start()) return;
    const step = LEVELS / heights.length;
    const xs = Float64Array.from({ length: 2 * heights.length }, (_, i) => step * Math.ceil(i / 2));
    const ys = xs.map((_, i) => heights[i >> 1]);
    bars.area(xs, ys, { color: 0, alpha: 0.6 });
    bars.area([left, left + width], [p, p], { color: "accent", alpha: 1 });
    if (!binary) {
      const { xs: at, ys: density } = densityOf(name, scale, mean);
      for (const isOut of [(x) => x <= 0, (x) => x >= LEVELS]) {
        const [ox, oy] = [at, density].map((values) => values.filter((_, i) => isOut(at[i])));
        if (ox.length > 1) bars.area(ox, oy, { color: "text", alpha: 0.25 });
      }
      bars.line(at, density, { width: 1.5 });
      for (const edge of [0, LEVELS]) bars.line([edge, edge], [0, top], { color: "text", width: 1, dash: [2, 3] });
      for (const end of [0, LEVELS - 1])
        if (heights[end] > top) bars.text(`level ${end}: ${share(heights[end])}`, end ? LEVELS - 3 : 3, 0.78 * top, { align: end ? "right" : "left", color: 0 });
    }
    bars.points([LEVELS * mean], [0.03 * top], { shape: "triangle", radius: 6 });
    bars.line([k + 0.5, k + 0.5], [0, 0.88 * top], { color: "accent", dash: [6, 4] });
    bars.text(`level ${k}: ${inBits(bits)} bits`, k + 0.5, top, { align: k < 90 ? "left" : k > 166 ? "right" : "center", baseline: "top", color: "accent" });
  }

  function drawWhole({ name, scale, bits, curves, best }) {
    const least = Math.min(...CURVES.map((curve) => Math.min(...curves[curve.name])));
    whole.range.y = [Math.max(-8, Math.min(0, Math.floor(least))), MOST_BITS];
    const at = CURVES.map((curve) => `${curve.name} ${inBits(curves[curve.name].at(-1))}`).join(", ");
    const here = name === "Bernoulli" ? "" : `; the ${name} now ${inBits(bits)} at scale ${brief(scale)}${best ? `, at its best ${inBits(best.bits)} at ${brief(best.scale)}` : ""}`;
    whole.canvas.setAttribute("aria-label", `Bits a pixel of the whole picture against the scale, at scale 1: ${at}${here}`);
    if (!whole.start()) return;
    for (const curve of CURVES)
      whole.line(grid, curves[curve.name], { ...curve, width: curve.name === name ? 4 : 1.5 });
    let room = Infinity;
    for (const curve of [...CURVES].sort((a, b) => curves[b.name].at(-1) - curves[a.name].at(-1))) {
      room = Math.min(curves[curve.name].at(-1), room - 1.2);
      whole.text(curve.short, ends[1] - 0.05, room, { align: "right", color: curve.color });
    }
    if (name === "Bernoulli") return;
    if (best) whole.points([Math.log10(best.scale)], [best.bits], { shape: "cross", radius: 6 });
    whole.points([Math.log10(scale)], [Math.min(bits, MOST_BITS)], { color: "accent", radius: 7 });
  }

  function drawControls(name, scale, d, mean) {
    for (const [trait, { update }] of Object.entries(sliders)) update(trait === "scale" ? Math.log10(scale) : model.get(trait));
    likelihoodPicker.input.value = name;
    sliders.scale.input.disabled = name === "Bernoulli";
    meanButton.disabled = mean === decoded[d];
    hardestButton.disabled = d === hardest;
  }

  function drawPictures(name, scale, d, means, costs) {
    const grey = (values) => new Float64Array(values).map((level) => level / (LEVELS - 1));
    const dark = (values) => (model.get("_ink") ? values : values.map((value) => 1 - value));
    const seed = model.get("seed");
    const state = [name, scale, means[d]].join();
    pictures.truth.paint(d, "", () => dark(grey(levels)));
    pictures.mean.paint(d, means[d], () => dark(means));
    pictures.draw.paint(d, `${state} ${seed}`, () => dark(grey(drawLevels(name, scale, means, noiseOf(seed)))));
    pictures.bits.paint(d, state, () => costs.map((value) => value / DARKEST));
  }

  /* What a likelihood says of all levels of one pixel, and of its true one, k. */
  function saidOf(name, scale, mean, k) {
    const logP = likelihoods[name](scale);
    const shown = name === "Bernoulli" ? [0, LEVELS - 1] : [...Array(LEVELS).keys()];
    const heights = Float64Array.from(shown, (level) => Math.exp(logP(level, mean)));
    return {
      name, scale, mean, k, heights, p: Math.exp(logP(k, mean)), bits: -logP(k, mean) / Math.LN2,
      sum: heights.reduce((a, b) => a + b, 0), lost: outside(name, scale, mean), formula: sumOfFormula(mean),
    };
  }

  function draw() {
    advance();
    if (!done) return false;
    const [name, mean, scale] = ["likelihood", "mean", "scale"].map((trait) => model.get(trait));
    const d = W * model.get("row") + model.get("column");
    const means = decoded.slice();
    means[d] = mean;
    const costs = bitsOf(name, scale, levels, means);
    const bits = (shownBits = meanOf(costs));
    hardest = costs.indexOf(Math.max(...costs));
    const one = saidOf(name, scale, mean, levels[d]);
    drawControls(name, scale, d, mean);
    drawPictures(name, scale, d, means, costs);
    drawBars(one);
    const { curves, best } = look(name, d, means);
    bestButton.disabled = !best || Math.abs(best.scale / scale - 1) < 1e-6;
    drawWhole({ name, scale, bits, curves, best });
    const errors = SQUARED.includes(name) ? bits + likelihoods["normal, density"](scale)(0, 0) / Math.LN2 : null;
    said.say(
      `Row ${model.get("row")}, column ${model.get("column")}: level ${levels[d]}, mean ${mean.toFixed(3)} (level ${levelAt(mean)}). ` +
      `${saysOfPixel(name, one)} ${saysOfPicture({ name, scale, bits, nats: bits * levels.length * Math.LN2, best, errors })}`,
    );
  }

  return {
    buttons: [likelihoodPicker.element, bestButton, drawButton, meanButton, hardestButton],
    content: [
      h("div", { class: "em2vae-bench" },
        h("div", { class: "em2vae-body" }, bars.canvas, whole.canvas),
        h("div", { class: "em2vae-sliders" }, ...Object.values(sliders).map(({ element }) => element)),
        h("div", { class: "em2vae-four" }, ...Object.values(pictures).map(({ element }) => element)),
      ),
      said.element,
    ],
    caption: CAPTION,
    draw,
    traits: ["likelihood", "row", "column", "mean", "scale", "seed"],
  };
});
