import { button, h, interactive, plot, seededRandom, sentence, signed, slider } from "./shared.js";

const WALK = 8; // the sweeps whose steps are drawn
const MS_PER_STEP = 60;
const CAPTION =
  "The map: the posterior (solid ellipse), the factorized q (dashed circle, with the path of its mean; both at two standard deviations) and the Gibbs chain (small dots, its " +
  "last steps as a thin line). The curve: how far the bound lies below log p(x). Update q, one factor at a time; drag its mean " +
  "somewhere else and update it again. Then raise the correlation and watch both slow down: changing ρ replays the same number " +
  "of updates and of sweeps.";

const shown = (value) => signed(Math.round(100 * value) / 100 || 0); // no minus before a zero

/* The means of q after 0, 1, ..., n updates of one factor at a time: eq. mean-field-gaussian. */
function ascend(rho, start, n) {
  const means = [start];
  for (let t = 0; t < n; t++) {
    const [m1, m2] = means[t];
    means.push(t % 2 ? [m1, rho * m1] : [rho * m2, m2]);
  }
  return means;
}

/* KL(q || p), eq. mean-field-gap: what a factorized q always loses, and what its mean costs. */
const leastGap = (rho) => -0.5 * Math.log1p(-rho * rho);
const gap = (rho, [m1, m2]) =>
  leastGap(rho) + (m1 * m1 - 2 * rho * m1 * m2 + m2 * m2) / (2 * (1 - rho * rho));

const START = [-1, -2.4]; // of every chain

/* Two half-steps a sweep, each a draw from a conditional: eq. gibbs-step. Always the same noise. */
function sample(rho, sweeps) {
  const noise = seededRandom(12);
  const width = Math.sqrt(1 - rho * rho);
  let [z1, z2] = START;
  const chain = { xs: [], ys: [], walkX: [z1], walkY: [z2] };
  for (let t = 0; t < sweeps; t++) {
    z1 = rho * z2 + width * noise.normal();
    chain.walkX.push(z1);
    chain.walkY.push(z2);
    z2 = rho * z1 + width * noise.normal();
    chain.walkX.push(z1);
    chain.walkY.push(z2);
    chain.xs.push(z1);
    chain.ys.push(z2);
  }
  return chain;
}

/* How many independent draws the mean of z2 over T sweeps is worth: one over its mean squared error. That of a
   chain that starts in the posterior is sum over l of (1 - |l| / T) rho^2|l| / T; this one starts at a point. */
function worth(rho, sweeps) {
  let [inflation, memory] = [1, rho ** (2 * sweeps)]; // memory: of the start, summed over the sweeps
  for (let l = 1; l < sweeps; l++) {
    inflation += 2 * (1 - l / sweeps) * rho ** (2 * l);
    memory += rho ** (2 * l);
  }
  return 1 / (inflation / sweeps + (START[1] ** 2 - 1) * (memory / sweeps) ** 2);
}

/* Mean and variance of each coordinate of the draws, and their correlation. */
function moments({ xs, ys }) {
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const [m1, m2] = [mean(xs), mean(ys)];
  const [v1, v2] = [mean(xs.map((x) => (x - m1) ** 2)), mean(ys.map((y) => (y - m2) ** 2))];
  return { v1, v2, correlation: mean(xs.map((x, t) => (x - m1) * (ys[t] - m2))) / Math.sqrt(v1 * v2) };
}

export default interactive(({ model, redraw, set }) => {
  // State
  const limits = model.get("_limits");
  const state = () => {
    const [rho, start, updates, sweeps] = ["rho", "start", "updates", "sweeps"].map((trait) => model.get(trait));
    return { rho, sweeps, means: ascend(rho, start, updates), chain: sample(rho, sweeps) };
  };
  let running = null; // the run under way, if any
  const pause = () => (running = null);
  const updateQ = () => set({ updates: Math.min(limits.updates, model.get("updates") + 1) });
  const converged = () => {
    const { rho: r, means: path } = state();
    return gap(r, path.at(-1)) - leastGap(r) < 1e-5; // then both means read 0.00
  };
  const addSweep = () => set({ sweeps: Math.min(limits.sweeps, model.get("sweeps") + 1) });
  const full = () => model.get("sweeps") === limits.sweeps;

  // Controls
  /* A button that repeats a step until it is done or the button is pressed again. */
  function runner(name, step, done, restart = () => {}) {
    const element = button(name, () => {
      const run = (running = running?.element === element ? null : { element });
      const next = () => {
        if (running !== run) return;
        step();
        if (done()) running = null;
        else setTimeout(next, MS_PER_STEP);
      };
      if (run && done()) restart();
      if (run) next();
      redraw();
    });
    return { element, update: () => (element.textContent = running?.element === element ? "Pause" : name) };
  }
  const runners = [
    runner("Run q", updateQ, converged),
    runner("Run Gibbs", addSweep, full, () => set({ sweeps: 0 })),
  ];
  const buttons = [
    button("Update q", () => {
      pause();
      updateQ();
    }),
    runners[0].element,
    button("Gibbs sweep", () => {
      pause();
      addSweep();
    }),
    runners[1].element,
    button("Restart", () => {
      pause();
      set({ updates: 0, sweeps: 0 });
    }),
  ];
  const rho = slider({
    label: "Correlation ρ",
    min: -limits.rho,
    max: limits.rho,
    step: 0.05,
    value: model.get("rho"),
    format: shown,
    oninput: (value) => set({ rho: value }),
  });
  const sweeps = slider({
    label: "Gibbs sweeps",
    min: 0,
    max: limits.sweeps,
    step: 1,
    value: model.get("sweeps"),
    format: String,
    oninput: (value) => {
      pause();
      set({ sweeps: value });
    },
  });
  const means = [0, 1].map((axis) =>
    slider({
      label: `Mean of q(z${"₁₂"[axis]})`,
      min: -limits.mean,
      max: limits.mean,
      step: 0.05,
      value: 0,
      format: shown,
      oninput: (value) => set({ start: state().means.at(-1).with(axis, value), updates: 0 }),
    }),
  );

  // Draw
  const palette = model.get("_palette");
  const side = [-limits.mean - 0.4, limits.mean + 0.4];
  const inside = (value) => Math.max(-limits.mean, Math.min(limits.mean, value));
  const plane = plot({
    palette, x: side, y: side, xLabel: "z₁", yLabel: "z₂", aspect: 1,
    handles: () => [state().means.at(-1)],
    onpick: (x, y) => set({ start: [inside(x), inside(y)], updates: 0 }),
  });
  const gaps = plot({ palette, x: [0, 10], y: [0, 1], xLabel: "updates of q", yLabel: "gap in nats", aspect: 1.6, minor: true });
  const said = sentence();

  function drawPlane({ rho: r, means: path, chain }) {
    if (!plane.start()) return;
    const q = 1 - r * r; // the variance of both factors
    const mean = path.at(-1);
    plane.points(chain.xs, chain.ys, { color: 2, radius: 2.5, alpha: 0.55 });
    const from = -2 * WALK - 1;
    plane.line(chain.walkX.slice(from), chain.walkY.slice(from), { color: 2, width: 1 });
    plane.ellipse([0, 0], [[1, r], [r, 1]], { color: 0, width: 2.5 });
    plane.line(path.map(([m]) => m), path.map(([, m]) => m), { color: 1, width: 1.5 });
    plane.points(path.map(([m]) => m), path.map(([, m]) => m), { color: 1, radius: 3 });
    plane.ellipse(mean, [[q, 0], [0, q]], { color: 1, width: 2.5, dash: [7, 4] });
    plane.points([mean[0]], [mean[1]], { color: 1, radius: 6 });
  }
  function drawGaps(r, values) {
    const updates = values.map((_, t) => t);
    const floor = leastGap(r);
    gaps.range.x = [0, Math.max(10, values.length - 1)];
    gaps.range.y = [0, 1.15 * Math.max(floor, ...values, 0.1)];
    if (!gaps.start()) return;
    gaps.line(gaps.range.x, [floor, floor], { color: "text", dash: [3, 4], width: 1.5 });
    gaps.line(updates, values, { color: 1 });
    gaps.points(updates, values, { color: 1, radius: 3.5 });
    const [right, top] = [gaps.range.x[1], gaps.range.y[1]].map((limit) => 0.98 * limit);
    gaps.text(`never below ${shown(floor)}`, right, top, { align: "right", baseline: "top" });
  }

  function draw() {
    const now = state();
    const r = now.rho;
    const mean = now.means.at(-1);
    const values = now.means.map((m) => gap(r, m));
    rho.update(r);
    sweeps.update(now.sweeps);
    means.forEach(({ update }, axis) => update(mean[axis]));
    runners.forEach(({ update }) => update());
    drawPlane(now);
    drawGaps(r, values);
    const where = `mean ${shown(mean[0])}, ${shown(mean[1])}`;
    plane.canvas.setAttribute(
      "aria-label",
      `The posterior, an ellipse of correlation ${shown(r)}; the factorized q, a circle at ${where}; ${now.sweeps} Gibbs draws`,
    );
    gaps.canvas.setAttribute(
      "aria-label",
      `The gap after each update: from ${shown(values[0])} to ${shown(values.at(-1))} nats, never below ${shown(leastGap(r))}`,
    );
    said.say(describe(now, values.at(-1)));
  }

  return {
    buttons,
    content: [
      h("div", { class: "em2vae-body" }, plane.canvas, h("div", { class: "em2vae-side" }, gaps.canvas, said.element)),
      h("div", { class: "em2vae-sliders" }, ...[rho, sweeps, ...means].map(({ element }) => element)),
    ],
    caption: CAPTION,
    draw,
    traits: ["rho", "start", "updates", "sweeps"],
  };
});

function describe({ rho, means, sweeps, chain }, loss) {
  const updates = means.length - 1;
  const q =
    `After ${updates} ${updates === 1 ? "update" : "updates"} q has mean ${means.at(-1).map(shown).join(", ")} and variances ` +
    `${shown(1 - rho * rho)}; the posterior has mean 0, 0 and variances 1. The bound lies ${shown(loss)} nats below ` +
    `log p(x), of which ${shown(leastGap(rho))} are there to stay.`;
  if (sweeps < 2) return q;
  const { v1, v2, correlation } = moments(chain);
  const n = Math.round(worth(rho, sweeps));
  const worthOf = n < 1 ? "less than one independent draw" : `about ${n} independent ${n === 1 ? "draw" : "draws"}`;
  return (
    `${q} The ${sweeps} Gibbs draws have variances ${shown(v1)} and ${shown(v2)} and correlation ` +
    `${shown(correlation)}; they are worth ${worthOf}.`
  );
}
