import {
  animateSteps, button, h, interactive, logNormal, plot, sentence, signed, slider,
} from "./shared.js";

const MEAN = { min: -3, max: 3 };
const WIDTH = { min: 0.2, max: 2 };
const RATE = 0.1; // of a step of the climb
const MAX_STEPS = 400;
const LOWEST = [-4, -6, -8, -12, -16, -24, -32]; // left ends of the bars' axis, in nats
const CAPTION =
  "Drag the top of q: sideways moves its mean, up makes it narrow, down makes it wide. The sliders do the " +
  "same. Whatever you do, reconstruction minus KL plus gap ends at the same log p(x). Then press Climb, from each of the three starts.";

// Grids ----------------------------------------------------------------------------------------

const grid = (low, high, count) => Float64Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
const zs = grid(-8, 8, 1601); // for the posterior
const noise = grid(-8, 8, 321); // for expectations under q: z = mu + sigma * noise
const weights = noise.map((eps) => Math.exp(logNormal(eps, 0, 1)) * (noise[1] - noise[0]));
const expect = (f) => noise.reduce((sum, eps, i) => sum + weights[i] * f(eps), 0);

// The model ------------------------------------------------------------------------------------

function tanhDecoder(units, offset, sd) {
  const mean = (z) => units.reduce((sum, [scale, weight, bias]) => sum + scale * Math.tanh(weight * z + bias), offset);
  const slope = (z) =>
    units.reduce((sum, [scale, weight, bias]) => sum + scale * weight * (1 - Math.tanh(weight * z + bias) ** 2), 0);
  return {
    logLikelihood: (x, z) => logNormal(x, mean(z), sd),
    score: (x, z) => ((x - mean(z)) * slope(z)) / sd ** 2, // its derivative in z
  };
}

/* log p(x) by the trapezoidal rule, and p(z|x) on the grid. */
function posteriorOf(decoder, x) {
  const joint = zs.map((z) => Math.exp(decoder.logLikelihood(x, z) + logNormal(z, 0, 1)));
  const evidence = joint.reduce((sum, value) => sum + value, 0) * (zs[1] - zs[0]);
  return { logEvidence: Math.log(evidence), density: joint.map((value) => value / evidence) };
}

/* Eq. elbo-three-ways; the gap is computed on its own, from log q - log p(z|x). */
function termsOf(decoder, x, mu, sigma, logEvidence) {
  const logPosterior = (z) => decoder.logLikelihood(x, z) + logNormal(z, 0, 1) - logEvidence;
  const reconstruction = expect((eps) => decoder.logLikelihood(x, mu + sigma * eps));
  const kl = 0.5 * (mu ** 2 + sigma ** 2 - 1) - Math.log(sigma); // eq. gaussian-kl
  const gap = expect((eps) => logNormal(mu + sigma * eps, mu, sigma) - logPosterior(mu + sigma * eps));
  return { reconstruction, kl, elbo: reconstruction - kl, gap };
}

/* One inner update, eq. elbo-inner: uphill in mu and log sigma. */
function uphill(decoder, x, mu, sigma) {
  const score = (eps) => decoder.score(x, mu + sigma * eps);
  const gradMu = expect(score) - mu;
  const gradLogSigma = expect((eps) => score(eps) * sigma * eps) - sigma ** 2 + 1;
  return {
    mu: within(mu + RATE * sigma ** 2 * gradMu, MEAN),
    sigma: within(sigma * Math.exp((RATE / 2) * gradLogSigma), WIDTH),
  };
}

const within = (value, { min, max }) => Math.max(min, Math.min(max, value));

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, root, set }) => {
  // State
  const decoder = tanhDecoder(model.get("_units"), model.get("_offset"), model.get("_noise"));
  const palette = model.get("_colors");
  let known = { x: NaN }; // the posterior, computed once for each x
  let climbing = null;
  const q = () => ({ mu: model.get("mu"), sigma: model.get("sigma") });
  const stopAndSet = (traits) => {
    climbing = null;
    set(traits);
  };

  // Controls
  const control = (label, trait, min, max, step) =>
    slider({ label, min, max, step, value: model.get(trait), format: signed, oninput: (value) => stopAndSet({ [trait]: value }) });
  const sliders = {
    mu: control("Mean of q", "mu", MEAN.min, MEAN.max, 0.05),
    sigma: control("Width of q", "sigma", WIDTH.min, WIDTH.max, 0.02),
    x: control("Value of x", "x", -0.5, 3, 0.05),
  };
  function climb() {
    const run = (climbing = {});
    const patient = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    let [here, steps, moved] = [q(), 0, true];
    const step = () => {
      const next = uphill(decoder, model.get("x"), here.mu, here.sigma);
      moved = Math.abs(next.mu - here.mu) + Math.abs(next.sigma - here.sigma) > 1e-5;
      here = next;
      return moved && ++steps < MAX_STEPS;
    };
    const show = (more) => {
      if (!more) climbing = null;
      set(here);
      if (!more) draw(); // says where it ended, even if the last step moved nothing
    };
    if (patient) return animateSteps(step, show, () => climbing === run && root.isConnected);
    while (step());
    stopAndSet(here);
  }

  // Draw
  const densities = plot({
    palette,
    x: [-3.2, 3.2],
    y: [0, 2.7], // the legend stands above the highest q
    xLabel: "latent z",
    yLabel: "density",
    aspect: 1.25,
    handles: () => [[q().mu, 1 / (q().sigma * Math.sqrt(2 * Math.PI))]],
    onpick: (z, height) =>
      stopAndSet({ mu: within(z, MEAN), sigma: within(1 / (Math.max(height, 1e-3) * Math.sqrt(2 * Math.PI)), WIDTH) }),
  });
  const bars = plot({ palette, x: [-4, 0], y: [0, 5], xLabel: "nats", yFormat: () => "", aspect: 1.087, minor: true });
  const said = sentence();

  function drawDensities({ mu, sigma }) {
    if (!densities.start()) return;
    const logQ = zs.map((z) => Math.exp(logNormal(z, mu, sigma)));
    const top = 1 / (sigma * Math.sqrt(2 * Math.PI));
    densities.line(zs, zs.map((z) => Math.exp(logNormal(z, 0, 1))), { color: "text", width: 1.5, dash: [2, 4] });
    densities.area(zs, known.density, { color: 0 });
    densities.line(zs, known.density, { color: 0 });
    densities.line(zs, logQ, { color: 1, width: 2.5, dash: [9, 4] });
    densities.points([mu], [top], { color: 1, radius: 7 });
    const legend = [["posterior p(z|x)", 0], ["q(z), drag its top", 1], ["prior p(z), dotted", "text"]];
    legend.forEach(([name, color], row) => densities.text(name, -3.1, 2.58 - 0.22 * row, { color, align: "left", baseline: "middle" }));
  }

  function drawBars({ reconstruction, kl, elbo, gap }) {
    const lowest = Math.min(elbo, reconstruction);
    bars.range.x = [LOWEST.find((low) => low <= 1.05 * lowest) ?? LOWEST.at(-1), 0];
    if (!bars.start()) return;
    const end = known.logEvidence;
    const rows = [
      ["reconstruction", reconstruction, 0, reconstruction, 2],
      ["minus KL", kl, reconstruction, elbo, 4],
      ["= the bound", elbo, 0, elbo, 1],
      ["plus gap", gap, elbo, elbo + gap, 3],
      ["= log p(x)", end, 0, end, 0],
    ];
    rows.forEach(([name, value, from, to, color], row) => {
      const [low, high] = [4.06 - row, 4.5 - row];
      bars.area([from, to], [high, high], { base: low, color, alpha: 0.85 });
      if (row < 4) bars.line([to, to], [low - 0.6, high], { width: 1.5, dash: [3, 3] });
    });
    bars.line([end, end], [0, 5], { color: 0, width: 1.5 });
    rows.forEach(([name, value], row) =>
      bars.text(`${name} ${signed(value)}`, bars.range.x[0] * 0.985, 4.74 - row, { align: "left", baseline: "middle" }),
    );
  }

  function draw() {
    const x = model.get("x");
    const { mu, sigma } = q();
    if (known.x !== x) known = { x, ...posteriorOf(decoder, x) };
    const terms = termsOf(decoder, x, mu, sigma, known.logEvidence);
    for (const [trait, { update }] of Object.entries(sliders)) update(model.get(trait));
    drawDensities({ mu, sigma });
    drawBars(terms);
    if (climbing) return; // a voice need not read out every step
    const where = `q with mean ${signed(mu)} and width ${signed(sigma)}`;
    densities.canvas.setAttribute("aria-label", `Densities over z: the prior, the posterior of x = ${signed(x)}, and ${where}`);
    bars.canvas.setAttribute(
      "aria-label",
      `Bars: reconstruction ${signed(terms.reconstruction)}, minus KL ${signed(terms.kl)}, plus gap ${signed(terms.gap)}, ` +
        `end at log p(x) ${signed(known.logEvidence)} nats`,
    );
    said.say(
      `Reconstruction ${signed(terms.reconstruction, 3)} minus KL ${signed(terms.kl, 3)} is the bound, ` +
      `${signed(terms.elbo, 3)}; plus the gap of ${signed(terms.gap, 3)} it is log p(x) = ${signed(known.logEvidence, 3)} nats.`,
    );
  }

  return {
    buttons: [
      button("Climb", climb),
      button("Start left", () => stopAndSet({ mu: -2, sigma: 0.6 })),
      button("Start right", () => stopAndSet({ mu: 2, sigma: 0.6 })),
      button("Start wide", () => stopAndSet({ mu: 0, sigma: 1.4 })),
    ],
    content: [
      h("div", { class: "em2vae-body" }, densities.canvas, bars.canvas),
      h("div", { class: "em2vae-sliders" }, ...Object.values(sliders).map(({ element }) => element)),
      said.element,
    ],
    caption: CAPTION,
    draw,
    traits: ["mu", "sigma", "x"],
  };
});
