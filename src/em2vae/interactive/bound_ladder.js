import {
  button, bytesOf, counted, digitCanvas, drawDigit, forward, frameBudget, h, interactive, logNormal,
  plot, plural, seededRandom, sentence, signed, slider, unpackHalves, unpackNetwork,
} from "./shared.js";

const SPANS = [2, 4, 8, 16, 32, 64, 128]; // of the histogram's axis below log p(x), in nats
const BINS = 36;
const CAPTION =
  "Slide k and watch the bound climb. Left: the log weights of the draws of z; what lies off the axis is counted in the first bar. " +
  "Right: the bound with k draws, the thin lines one standard error away; the dashed line is the exact log p(x). Then make q narrower or wider than the encoder does, and climb again: " +
  "what a narrow q hardly ever draws, no average over its draws contains.";

const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

function logMeanExp(values, start, end) {
  let most = -Infinity;
  for (let i = start; i < end; i++) most = Math.max(most, values[i]);
  let sum = 0;
  for (let i = start; i < end; i++) sum += Math.exp(values[i] - most);
  return most + Math.log(sum / (end - start));
}

/* The bound with k draws, eq. iwae: the mean over groups of k, and its standard error. */
function rung(logWeights, k) {
  const groups = Math.floor(logWeights.length / k);
  const bounds = Array.from({ length: groups }, (_, g) => logMeanExp(logWeights, g * k, (g + 1) * k));
  const mean = bounds.reduce((sum, bound) => sum + bound, 0) / groups;
  const squares = bounds.reduce((sum, bound) => sum + (bound - mean) ** 2, 0);
  return { k, mean, error: groups > 1 ? Math.sqrt(squares / (groups - 1) / groups) : NaN };
}

export default interactive(({ model, redraw, set }) => {
  // State
  const N = model.get("_n_draws");
  const rungs = Math.log2(N);
  const logP = model.get("log_p");
  const decoder = unpackNetwork(model.get("_decoder"), model.get("_decoder_weights"));
  const [means, sigmas] = ["_means", "_sigmas"].map((name) => unpackHalves(model.get(name)));
  const bits = bytesOf(model.get("_images"));
  const image = (n) => Float32Array.from({ length: 784 }, (_, i) => (bits[98 * n + (i >> 3)] >> (7 - (i & 7))) & 1);
  const budget = frameBudget();
  let run = { key: "" }; // the draws for one digit, width and seed

  /* log w = log p(x|z) + log p(z) - log q(z), with eps from the stream of draws. */
  function logWeight({ x, mu, sigma, normal }) {
    const eps = [normal(), normal()];
    const z = eps.map((e, k) => mu[k] + sigma[k] * e);
    let sum = 0;
    forward(decoder, z).forEach((logit, d) => (sum += x[d] * logit - softplus(logit)));
    z.forEach((value, k) => (sum += logNormal(value, 0, 1) - logNormal(value, mu[k], sigma[k])));
    return sum;
  }

  function update() {
    const [digit, width, seed] = ["digit", "width", "seed"].map((name) => model.get(name));
    const key = [digit, width, seed].join();
    if (key !== run.key) {
      const pair = (values) => [...values.subarray(2 * digit, 2 * digit + 2)];
      const sigma = pair(sigmas).map((value) => width * value);
      const { normal } = seededRandom(seed);
      run = { key, digit, x: image(digit), mu: pair(means), sigma, normal, all: new Float64Array(N), done: 0 };
    }
    if (run.done === N) return;
    const end = budget();
    do run.all[run.done++] = logWeight(run);
    while (run.done < N && performance.now() < end);
    run.logWeights = run.all.subarray(0, run.done);
    run.ladder = Array.from({ length: Math.floor(Math.log2(run.done)) + 1 }, (_, n) => rung(run.logWeights, 2 ** n));
    if (run.done < N) redraw();
  }

  // Controls
  const size = slider({
    label: "Draws",
    note: "k",
    min: 0,
    max: rungs,
    step: 1,
    value: Math.log2(model.get("n_samples")),
    format: (power) => counted(2 ** power),
    oninput: (power) => set({ n_samples: 2 ** power }),
  });
  const width = slider({
    label: "Width of q",
    min: 0.2,
    max: 3,
    step: 0.1,
    value: model.get("width"),
    format: (value) => `× ${value.toFixed(1)}`,
    oninput: (value) => set({ width: value }),
  });

  // Draw
  const palette = model.get("_palette");
  const histogram = plot({ palette, x: [-1, 0], y: [0, 1], xLabel: "log w, nats", yLabel: "draws", aspect: 1.4 });
  const ladder = plot({
    palette,
    x: [-0.3, rungs + 0.6],
    y: [-1, 0],
    xLabel: "draws in the bound, k",
    yLabel: "nats",
    aspect: 1.217, // as high as the histogram, whose column is 1.15 times as wide
    xFormat: (power) => counted(2 ** power),
  });
  const shown = digitCanvas("");
  const said = sentence();

  function drawHistogram(exact, bound) {
    const sorted = run.logWeights.slice().sort();
    const low = sorted[Math.floor(0.02 * sorted.length)];
    const span = SPANS.find((nats) => exact - nats <= low) ?? SPANS.at(-1);
    const high = Math.max(exact + 0.25 * span, sorted.at(-1) + 0.05 * span);
    histogram.range.x = [exact - span, high];
    const counts = new Array(BINS).fill(0);
    const step = (high - exact + span) / BINS;
    const bin = (value) => Math.max(0, Math.min(BINS - 1, Math.floor((value - exact + span) / step)));
    for (const value of run.logWeights) counts[bin(value)]++;
    const top = Math.max(...counts);
    histogram.range.y = [0, 1.45 * top]; // room for the names of the two lines
    if (!histogram.start()) return;
    counts.forEach((count, i) => {
      const left = exact - span + i * step;
      histogram.area([left, left + step], [count, count], { color: 0, alpha: 0.7 });
    });
    histogram.line([exact, exact], [0, 1.45 * top], { dash: [7, 5] });
    histogram.line([bound, bound], [0, 1.45 * top], { color: "accent", width: 3 });
    histogram.text("the bound ", bound, 1.08 * top, { color: "accent", align: bound - exact < -0.7 * span ? "left" : "right" });
    histogram.text("exact ", exact, 1.26 * top, { align: "right" });
  }

  function drawLadder(exact, current) {
    const ks = run.ladder.map(({ k }) => Math.log2(k));
    const means = run.ladder.map(({ mean }) => mean);
    const lowest = Math.min(run.ladder[0].mean, exact);
    const highest = Math.max(exact, ...means);
    const room = 0.12 * (highest - lowest) + 0.05;
    ladder.range.y = [lowest - room, highest + 2 * room];
    if (!ladder.start()) return;
    ladder.line(ladder.range.x, [exact, exact], { dash: [7, 5] });
    ladder.text("exact log p(x)", -0.2, exact + 0.25 * room, { align: "left" });
    const known = run.ladder.slice(0, -1); // the top rung is one group, without a standard error
    for (const side of [-1, 1])
      ladder.line(ks.slice(0, -1), known.map(({ mean, error }) => mean + side * error), { color: 0, width: 1 });
    ladder.line(ks, means, { color: 0, width: 2.5 });
    ladder.points([Math.log2(current.k)], [current.mean], { color: "accent", radius: 7 });
  }

  function draw() {
    update();
    const exact = logP[run.digit];
    const k = model.get("n_samples");
    const current = run.ladder[Math.log2(k)] ?? run.ladder.at(-1);
    size.update(Math.log2(k));
    width.update(model.get("width"));
    drawHistogram(exact, current.mean);
    drawLadder(exact, current);
    drawDigit(shown, run.x);
    shown.setAttribute("aria-label", `The binary digit x, number ${run.digit + 1} of ${logP.length}`);
    if (run.done < N) {
      for (const { canvas } of [histogram, ladder]) canvas.setAttribute("aria-label", "Draws are coming in");
      return; // a voice need not read out every frame
    }
    const total = logMeanExp(run.logWeights, 0, N);
    const best = Math.exp(Math.max(...run.logWeights) - total) / N;
    const miss = current.mean - exact;
    said.say(
      `k = ${counted(k)}: the bound is ${signed(current.mean)} nats, ${Math.abs(miss).toFixed(2)} ${miss < 0 ? "below" : "above"} the exact ` +
      `${signed(exact)}. Of ${plural(N, "draw")} the best carries ${Math.round(100 * best)} % of the average weight.`,
    );
    histogram.canvas.setAttribute(
      "aria-label",
      `Histogram of ${counted(N)} log weights; the bound at ${signed(current.mean)} nats, the exact log p(x) at ${signed(exact)}`,
    );
    ladder.canvas.setAttribute(
      "aria-label",
      `The bound against k: ${run.ladder.map((r) => `${signed(r.mean)} at ${counted(r.k)}`).join(", ")}`,
    );
  }

  return {
    buttons: [
      button("New draws", () => set({ seed: model.get("seed") + 1 })),
      button("Another digit", () => set({ digit: (model.get("digit") + 1) % logP.length })),
    ],
    content: [
      h("div", { class: "em2vae-body" }, histogram.canvas, ladder.canvas),
      h(
        "div",
        { class: "em2vae-beside" },
        shown,
        h("div", {}, h("div", { class: "em2vae-sliders" }, size.element, width.element), said.element),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["n_samples", "width", "digit", "seed"],
  };
});
