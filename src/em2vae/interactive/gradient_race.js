import { button, h, interactive, plot, seededRandom, sentence, signed, slider } from "./shared.js";

const MS_PER_STEP = 80;
const TRIALS = 300; // estimates in each histogram
const BINS = 64;
const [NARROWEST, WIDEST] = [16, 1024]; // errors up to this size are on show, as the spreads need
const RACERS = [
  { name: "score function", color: 1, shape: "disc", dash: [] },
  { name: "leave-one-out", color: 0, shape: "square", dash: [8, 4] },
  { name: "pathwise", color: 2, shape: "triangle", dash: [2, 4] },
];
const CAPTION =
  "Left: three descents from the origin to the goal (ring), each with its own estimate of the same gradient, from the same draws. Right: " +
  `how far ${TRIALS} such estimates miss the true slope where each racer stands. Go back to the start, add draws, then latent variables: ` +
  "which histograms widen? New draws tell luck from habit.";

const said = (value, digits = 2) => (value < 1000 ? value.toFixed(digits) : "over 1000"); // also not a number

/* Gives at least `count` standard normal numbers, always the same, and draws only those not yet drawn. */
function normals(seed) {
  const noise = seededRandom(seed);
  const drawn = [];
  return (count) => {
    while (drawn.length < count) drawn.push(noise.normal());
    return drawn;
  };
}

/* f(z_s) = sum_k (z_sk - 1)^2 for S draws z = mu + eps, whose noise starts at `at`. */
function valuesOf(mu, noise, at, S) {
  const f = new Float64Array(S);
  for (let s = 0; s < S; s++) for (const m of mu) f[s] += (m + noise[at++] - 1) ** 2;
  return f;
}

/* One estimate of the slope along mu_k, from f at S draws. */
function slope(racer, f, mu, noise, at, k) {
  const S = f.length;
  const baseline = racer === 1 ? f.reduce((sum, value) => sum + value, 0) / S : 0;
  let sum = 0;
  for (let s = 0; s < S; s++) {
    const eps = noise[at + s * mu.length + k];
    if (racer === 2) sum += 2 * (mu[k] + eps - 1); // the derivative of f along its draw
    else sum += (f[s] - baseline) * eps; // eq. score-function; the score is eps
  }
  return sum / (racer === 1 ? S - 1 : S); // eq. score-centred
}

/* The means after 0, 1, ..., step steps. */
function descend(racer, { step, S, K, rate }, noise) {
  const path = [new Float64Array(K)];
  for (let t = 0; t < step; t++) {
    const mu = path[t];
    const f = valuesOf(mu, noise, t * S * K, S);
    path.push(mu.map((m, k) => m - rate * slope(racer, f, mu, noise, t * S * K, k)));
  }
  return path;
}

/* What TRIALS estimates of the slope along mu_1 miss, and their root mean square. */
function missesOf(racer, mu, S, noise) {
  const misses = Float64Array.from({ length: TRIALS }, (_, trial) => {
    const at = trial * S * mu.length;
    return slope(racer, valuesOf(mu, noise, at, S), mu, noise, at, 0) - 2 * (mu[0] - 1);
  });
  return { misses, spread: Math.sqrt(misses.reduce((sum, miss) => sum + miss * miss, 0) / TRIALS) };
}

/* The errors on show: up to 16, 32, ... so that 2.5 of every spread fit that can fit at all. */
function reachOf(spreads) {
  const needed = Math.max(...spreads.map((spread) => 2.5 * spread).filter((need) => need <= WIDEST));
  return NARROWEST * 2 ** Math.max(0, Math.ceil(Math.log2(needed / NARROWEST)));
}

/* How high the objective stands above its lowest value: sum_k (mu_k - 1)^2. */
const excess = (mu) => mu.reduce((sum, m) => sum + (m - 1) ** 2, 0);

export default interactive(({ model, set }) => {
  // State
  const limits = model.get("_limits");
  let [drawn, raceNoise, trialNoise] = [null, null, null]; // of one seed
  function state() {
    const [step, S, K, rate, seed] = ["step", "n_samples", "n_latents", "step_size", "seed"].map((trait) => model.get(trait));
    if (seed !== drawn) {
      raceNoise = normals(seed);
      trialNoise = normals(-1 - seed);
      drawn = seed;
    }
    const paths = RACERS.map((_, racer) => descend(racer, { step, S, K, rate }, raceNoise(step * S * K)));
    const errors = paths.map((path, racer) => missesOf(racer, path.at(-1), S, trialNoise(TRIALS * S * K)));
    return { step, S, K, rate, paths, errors };
  }

  // Controls
  let running = null;
  const pause = () => (running = null);
  const nextStep = () => ({ step: Math.min(limits.step, model.get("step") + 1) });
  const go = () => set(nextStep());
  function runOrPause() {
    const run = (running = running ? null : {});
    if (run && model.get("step") === limits.step) set({ step: 0 });
    const next = () => {
      if (running !== run) return;
      go();
      if (model.get("step") < limits.step) setTimeout(next, MS_PER_STEP);
      else pause();
    };
    if (run) next();
    runButton.textContent = running ? "Pause" : "Run";
  }
  const stopAnd = (change) => () => {
    pause();
    set(change());
  };
  const runButton = button("Run", runOrPause);
  const oneStepButton = button("One step", stopAnd(nextStep));
  const buttons = [
    runButton,
    oneStepButton,
    button("Back to the start", stopAnd(() => ({ step: 0 }))),
    button("New draws", () => set({ seed: model.get("seed") + 1 })),
  ];
  const control = (trait, label, min, step, format = String) =>
    slider({
      label, min, step, format,
      max: limits[trait],
      value: model.get(trait),
      oninput: (value) => {
        if (trait === "step") pause();
        set({ [trait]: value });
      },
    });
  const controls = {
    n_samples: control("n_samples", "Draws S", 2, 1),
    n_latents: control("n_latents", "Variables K", 2, 1),
    step_size: control("step_size", "Step size", 0.01, 0.01, (value) => value.toFixed(2)),
    step: control("step", "Steps taken", 0, 1),
  };

  // Draw
  const palette = model.get("_palette");
  const plane = plot({ palette, x: [-1, 2.2], y: [-1, 2.2], xLabel: "mean μ₁", yLabel: "mean μ₂", aspect: 1 });
  const ridges = plot({
    palette, x: [-NARROWEST, NARROWEST], y: [0, 3.05], xLabel: "error of the slope along μ₁", aspect: 1.1, minor: true,
    xFormat: (value) => signed(value, 0), yFormat: () => "",
  });
  const words = sentence();

  function drawPlane(paths) {
    if (!plane.start()) return;
    for (const radius of [0.5, 1, 1.5, 2, 2.5, 3])
      plane.ellipse([1, 1], [[1, 0], [0, 1]], { radius, color: "text", width: 0.5 });
    paths.forEach((path, racer) => {
      const { color, dash, shape } = RACERS[racer];
      plane.line(path.map((mu) => mu[0]), path.map((mu) => mu[1]), { color, dash, width: 2 });
      plane.points([path.at(-1)[0]], [path.at(-1)[1]], { color, shape, radius: 6 });
    });
    plane.points([1], [1], { shape: "ring", radius: 10 });
    plane.text("start", 0, -0.08, { baseline: "top" });
  }
  function drawRidges(errors, reach) {
    ridges.range.x = [-reach, reach];
    if (!ridges.start()) return;
    const width = (2 * reach) / BINS;
    errors.forEach(({ misses, spread }, racer) => {
      const { color, shape, name } = RACERS[racer];
      const floor = 2 - racer;
      const counts = new Float64Array(BINS);
      for (const miss of misses) counts[Math.floor((miss + reach) / width)]++; // those beyond fall away
      const scale = 0.68 / Math.max(1, ...counts);
      const edges = Array.from({ length: 2 * BINS }, (_, i) => -reach + width * ((i + 1) >> 1));
      const tops = edges.map((_, i) => floor + scale * counts[i >> 1]);
      ridges.area(edges, tops, { base: floor, color, alpha: 0.4 });
      ridges.line(edges, tops, { color, width: 1.5 });
      ridges.line([0, 0], [floor, floor + 0.7], { color: "text", width: 1, dash: [3, 4] }); // not through the names
      ridges.points([-0.94 * reach], [floor + 0.83], { color, shape, radius: 5 });
      const off = counts.reduce((sum, count) => sum + count, 0) < TRIALS / 2;
      ridges.text(off ? `${name}: off the scale` : `${name} ± ${said(spread, 1)}`, -0.88 * reach, floor + 0.83, { align: "left", baseline: "middle" });
    });
  }

  function draw() {
    const { step, S, K, rate, paths, errors } = state();
    controls.step.update(step);
    controls.n_samples.update(S);
    controls.n_latents.update(K);
    controls.step_size.update(rate);
    runButton.textContent = running ? "Pause" : "Run";
    oneStepButton.disabled = step === limits.step;
    drawPlane(paths);
    const reach = reachOf(errors.map(({ spread }) => spread));
    drawRidges(errors, reach);
    const list = (values) => RACERS.map(({ name }, racer) => `${name} ${values[racer]}`).join(", ");
    const heights = list(paths.map((path) => said(excess(path.at(-1)))));
    const spreads = list(errors.map(({ spread }) => said(spread)));
    words.say(
      `After ${step} ${step === 1 ? "step" : "steps"} of size ${rate.toFixed(2)} with ${S} draws each, the objective is above its lowest value by: ${heights}. ` +
      `Typical error of one slope there: ${spreads}.`,
    );
    plane.canvas.setAttribute(
      "aria-label",
      `Paths of the three descents over the means of two latent variables, from 0, 0 towards 1, 1. Height left after ${step} steps: ${heights}`,
    );
    ridges.canvas.setAttribute("aria-label", `Histograms of the errors of three estimates, from −${reach} to ${reach}, all around zero. Widths: ${spreads}`);
  }

  return {
    buttons,
    content: [
      h("div", { class: "em2vae-body" }, plane.canvas, h("div", { class: "em2vae-side" }, ridges.canvas, words.element)),
      h("div", { class: "em2vae-sliders" }, ...Object.values(controls).map(({ element }) => element)),
    ],
    caption: CAPTION,
    draw,
    traits: ["step", "n_samples", "n_latents", "step_size", "seed"],
  };
});
