import {
  button, bytesOfLayers, counted, digitCanvas, drawDigit, forward, h, interactive, logNormal, plot,
  plural, seededRandom, sentence, signed, slider, unpackHalves, unpackNetwork,
} from "./shared.js";

const D = 784;
const LIMIT = 3.5; // of the map, in standard deviations of the prior
const RUNS = 5; // the current draws and the four before them
const SHOWN = 2000; // points on the map at most; those that count are all drawn
const LIT = 1e-3; // share of the estimate from which a sample lights up
const CAPTION =
  "Guess z, see how well its picture explains the digit, average. Dots on the map are samples from the prior; an orange disc is one that " +
  "carries part of the estimate, the larger the more, and the small ring is the exact posterior (two standard deviations). The curves are the " +
  "estimate of log p(x) as samples come in, with four other runs as thin lines and the exact value dashed. Change the number of latent dimensions, then try to make up for it with samples.";

/* log p(x|z) for the first K coordinates of each sample: a normal around f(z), eq. ppca. */
function logLikelihoods({ sigma, scales, codes, remainders }, digit, z, stride) {
  const K = scales.length;
  const variance = sigma * sigma;
  const u = codes[digit];
  const constant = -0.5 * D * Math.log(2 * Math.PI * variance);
  const values = new Float64Array(z.length / stride);
  for (let s = 0; s < values.length; s++) {
    let distance = remainders[digit];
    for (let k = 0; k < K; k++) distance += (u[k] - scales[k] * z[s * stride + k]) ** 2;
    values[s] = constant - distance / (2 * variance);
  }
  return values;
}

/* log of the mean of the first S weights, for S = 1, 2, ...: eq. naive-monte-carlo. */
function runningEstimates(logWeights) {
  let most = -Infinity;
  let sum = 0; // of weights relative to the largest so far
  return logWeights.map((logWeight, s) => {
    if (logWeight > most) {
      sum = sum * Math.exp(most - logWeight) + 1;
      most = logWeight;
    } else sum += Math.exp(logWeight - most);
    return most + Math.log(sum / (s + 1));
  });
}

/* log p(x) in closed form: eq. ppca-exact, along the axes of the model. */
function exactLogLikelihood({ sigma, scales, codes, remainders }, digit) {
  let sum = -0.5 * (D - scales.length) * Math.log(2 * Math.PI * sigma ** 2) - remainders[digit] / (2 * sigma ** 2);
  scales.forEach((scale, k) => (sum += logNormal(codes[digit][k], 0, Math.hypot(scale, sigma))));
  return sum;
}

export default interactive(({ model, set }) => {
  // State
  const dims = model.get("latent_dims");
  const models = model.get("_models");
  const maxSamples = model.get("_max_samples");
  const stride = Math.max(...dims);
  const images = unpackHalves(model.get("_images"));
  const { buffer, byteOffset } = model.get("_pictures");
  let start = byteOffset;
  const decoders = models.map(({ decoder }) => {
    const bytes = bytesOfLayers(decoder);
    start += bytes;
    return unpackNetwork(decoder, new DataView(buffer, start - bytes, bytes));
  });
  const draws = new Map(); // seed: z of all samples, row by row
  let run = {}; // what belongs to one model, digit and seed

  function samples(seed) {
    if (!draws.has(seed)) {
      const { normal } = seededRandom(seed);
      const z = new Float64Array(maxSamples * stride);
      for (let i = 0; i < z.length; i++) z[i] = normal();
      draws.set(seed, z);
      if (draws.size > RUNS) draws.delete(draws.keys().next().value);
    }
    return draws.get(seed);
  }

  function update() {
    const [latentDim, digit, seed] = ["latent_dim", "digit", "seed"].map((name) => model.get(name));
    const key = [latentDim, digit, seed].join();
    if (key === run.key) return;
    const m = dims.indexOf(latentDim);
    const seeds = Array.from({ length: RUNS }, (_, back) => seed - RUNS + 1 + back);
    const logWeights = seeds.map((each) => logLikelihoods(models[m], digit, samples(each), stride));
    const estimates = logWeights.map(runningEstimates);
    const exact = exactLogLikelihood(models[m], digit);
    const start = Math.min(10, maxSamples) - 1;
    const extreme = (pick) => estimates.reduce((far, values) => values.subarray(start).reduce(pick, far), exact);
    const low = extreme((a, b) => Math.min(a, b));
    const high = extreme((a, b) => Math.max(a, b));
    const room = 0.08 * (high - low) + 0.2;
    trace.range.y = [low - room, high + 2 * room]; // the name of the dashed line stands on it
    run = { key, m, digit, z: samples(seed), logWeights: logWeights.at(-1), estimates, exact };
  }

  // Controls
  const dimension = slider({
    label: "Latent dimensions",
    note: "K",
    min: 0,
    max: dims.length - 1,
    step: 1,
    value: dims.indexOf(model.get("latent_dim")),
    format: (index) => String(dims[index]),
    oninput: (index) => set({ latent_dim: dims[index] }),
  });
  const size = slider({
    label: "Samples",
    note: "S",
    min: 0,
    max: Math.log10(maxSamples),
    step: 0.1,
    value: Math.log10(model.get("n_samples")),
    format: (power) => counted(Math.round(10 ** power)),
    oninput: (power) => set({ n_samples: Math.round(10 ** power) }),
  });
  const another = () => set({ digit: (model.get("digit") + 1) % (images.length / D) });
  const again = () => set({ seed: model.get("seed") + 1 });

  // Draw
  const palette = model.get("_palette");
  const map = plot({ palette, x: [-LIMIT, LIMIT], y: [-LIMIT, LIMIT], xLabel: "z₁", yLabel: "z₂", aspect: 1 });
  const trace = plot({
    palette,
    x: [0, Math.log10(maxSamples) + 0.15], // room for the last dot and the last number
    y: [0, 1],
    xLabel: "samples",
    yLabel: "log p(x), nats",
    aspect: 1.6,
    xFormat: (power) => (power < 3 ? String(10 ** power) : `${10 ** (power - 3)}k`),
  });
  const shown = digitCanvas("");
  const best = digitCanvas("");
  const said = sentence();

  function drawMap(shares) {
    const { m, digit, z } = run;
    const { sigma, scales, codes } = models[m];
    const lit = [...shares.keys()].filter((s) => shares[s] > LIT);
    if (!map.start()) return lit.length;
    const column = (indices, axis) => indices.map((s) => z[s * stride + axis]);
    const all = Array.from({ length: Math.min(SHOWN, shares.length) }, (_, s) => s);
    map.points(column(all, 0), column(all, 1), { radius: 1.5, alpha: 0.35 });
    const radius = (i) => 2 + 8 * Math.sqrt(shares[lit[i]]);
    map.points(column(lit, 0), column(lit, 1), { color: "accent", radius, alpha: 0.8 });
    const means = [0, 1].map((k) => (scales[k] * codes[digit][k]) / (scales[k] ** 2 + sigma ** 2)); // eq. ppca-posterior
    const variances = [0, 1].map((k) => sigma ** 2 / (scales[k] ** 2 + sigma ** 2));
    map.ellipse(means, [[variances[0], 0], [0, variances[1]]], { radius: 2 });
    return lit.length;
  }

  function drawTrace(S) {
    if (!trace.start()) return;
    const powers = [];
    for (let power = 0; 10 ** power < S; power += 0.02) powers.push(power);
    powers.push(Math.log10(S));
    trace.line(trace.range.x, [run.exact, run.exact], { dash: [7, 5] });
    run.estimates.forEach((estimates, each) => {
      const values = powers.map((power) => estimates[Math.round(10 ** power) - 1]);
      const style = each === RUNS - 1 ? { color: "accent", width: 3 } : { color: "0", width: 1.2 };
      trace.line(powers, values, style);
    });
    trace.points([powers.at(-1)], [run.estimates.at(-1)[S - 1]], { color: "accent", radius: 5 });
    trace.text("exact", 0.06, run.exact, { align: "left" });
    const bottom = trace.range.y[0];
    if (run.estimates.at(-1)[S - 1] < bottom) trace.text("↓ further down", Math.log10(S) + 0.06, bottom, { align: "left", color: "accent" });
  }

  function drawPictures(sample) {
    const { m, digit, z } = run;
    drawDigit(shown, images.subarray(digit * D, (digit + 1) * D));
    drawDigit(best, forward(decoders[m], z.subarray(sample * stride, sample * stride + dims[m])));
  }

  function draw() {
    update();
    const S = model.get("n_samples");
    const K = dims[run.m];
    const estimate = run.estimates.at(-1)[S - 1];
    const shares = run.logWeights.subarray(0, S).map((logWeight) => Math.exp(logWeight - estimate) / S);
    const sample = shares.indexOf(Math.max(...shares));
    dimension.update(run.m);
    size.update(Math.log10(S));
    const lit = drawMap(shares);
    drawTrace(S);
    drawPictures(sample);
    const error = estimate - run.exact;
    const miss = `${Math.abs(error).toFixed(1)} ${error < 0 ? "below" : "above"}`;
    said.say(
      `K = ${K}, ${plural(S, "sample")}: the estimate of log p(x) is ${signed(estimate, 1)} nats, ${miss} the exact ` +
      `${signed(run.exact, 1)}. The best sample alone carries ${Math.round(100 * shares[sample])} % of the average.`,
    );
    map.canvas.setAttribute(
      "aria-label",
      `${plural(S, "sample")} of the prior on the first two of ${K} latent axes; lit: ${counted(lit)}`,
    );
    trace.canvas.setAttribute(
      "aria-label",
      `The estimate of log p(x) against the number of samples, ending at ${signed(estimate, 1)} nats; the exact value is ${signed(run.exact, 1)}`,
    );
    shown.setAttribute("aria-label", `The digit x, number ${run.digit + 1} of ${images.length / D}`);
    best.setAttribute("aria-label", "The mean picture of the sample that explains it best");
  }

  const picture = (canvas, text) => h("div", { class: "em2vae-picture" }, canvas, h("span", {}, text));
  return {
    buttons: [button("New samples", again), button("Another digit", another)],
    content: [
      h("div", { class: "em2vae-sliders" }, dimension.element, size.element),
      said.element,
      h(
        "div",
        { class: "em2vae-body" },
        map.canvas,
        h(
          "div",
          { class: "em2vae-side" },
          trace.canvas,
          h("div", { class: "em2vae-pictures em2vae-equal" }, picture(shown, "The digit x"), picture(best, "The best guess")),
        ),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["latent_dim", "n_samples", "digit", "seed"],
  };
});
