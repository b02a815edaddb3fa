import {
  animateSteps, button, h, interactive, logNormal, plot, sentence, signed, slider,
} from "./shared.js";

const LIMIT = 7; // the plots show z from -7 to 7
const RANGES = { mean: [-5, 5], width: [0.2, 4], separation: [0, 6] };
const CAPTION =
  "Drag the dot to move q and the ring on its shoulder to widen it, or use the sliders. The two smaller plots show what every z " +
  "adds to the two divergences: area above the zero line counts as plus, area below it as minus. Send q to either optimum; then " +
  "place it on the smaller bump and do it again. Then bring the bumps together, step by step, until the small one no longer holds it.";

const linspace = (low, high, count) =>
  Float64Array.from({ length: count }, (_, i) => low + ((high - low) * i) / (count - 1));
const SHOWN = linspace(-LIMIT, LIMIT, 561);
const U = linspace(-9, 9, 601); // standard normal points: q beyond nine widths does not count
const shown = (value) => signed(Math.round(100 * value) / 100 || 0); // no minus before a zero
const clamp = (value, [low, high]) => Math.max(low, Math.min(high, value));

/* The target: its log-density and the slope of that, both in log-space. */
function target({ weight, scale, separation }) {
  const at = [-separation / 2, separation / 2];
  const logParts = (z) => [
    Math.log(1 - weight) + logNormal(z, at[0], scale),
    Math.log(weight) + logNormal(z, at[1], scale),
  ];
  const logDensity = (z) => {
    const [a, b] = logParts(z);
    return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
  };
  const slope = (z) => {
    const [a, b] = logParts(z);
    const right = 1 / (1 + Math.exp(a - b)); // probability that z came from the right bump
    return ((1 - right) * (at[0] - z) + right * (at[1] - z)) / scale ** 2;
  };
  const points = linspace(at[0] - 9 * scale, at[1] + 9 * scale, 801);
  return { logDensity, slope, points };
}

/* KL(p || q) on p's own grid, eq. kl, and its slopes in the mean and the log-width of q. */
function forwardKL(p, { mean, width }) {
  const dz = p.points[1] - p.points[0];
  let [value, byMean, byLogWidth] = [0, 0, 0];
  for (const z of p.points) {
    const logP = p.logDensity(z);
    const mass = Math.exp(logP) * dz;
    const distance = (z - mean) / width;
    value += mass * (logP - logNormal(z, mean, width));
    byMean -= (mass * distance) / width;
    byLogWidth += mass * (1 - distance ** 2);
  }
  return { value, byMean, byLogWidth };
}

/* KL(q || p) at z = mean + width * u, eq. kl, and its slopes: q's own terms are known exactly. */
function reverseKL(p, { mean, width }) {
  const du = U[1] - U[0];
  let [value, byMean, byLogWidth] = [0, 0, -1];
  for (const u of U) {
    const z = mean + width * u;
    const mass = Math.exp(logNormal(u, 0, 1)) * du;
    const slope = p.slope(z);
    value += mass * (logNormal(z, mean, width) - p.logDensity(z));
    byMean -= mass * slope;
    byLogWidth -= mass * slope * width * u;
  }
  return { value, byMean, byLogWidth };
}

/* One step downhill, in units of q's own width; null once no step leads lower. */
function descend(divergence, p, q, rate) {
  const here = divergence(p, q);
  const move = [q.width ** 2 * here.byMean, 0.5 * here.byLogWidth];
  for (; rate > 1e-4; rate /= 2) {
    const next = {
      mean: clamp(q.mean - clamp(rate * move[0], [-0.3, 0.3]), RANGES.mean),
      width: clamp(q.width * Math.exp(-clamp(rate * move[1], [-0.2, 0.2])), RANGES.width),
    };
    const far = Math.abs(next.mean - q.mean) + Math.abs(next.width - q.width) > 1e-6;
    if (far && divergence(p, next).value < here.value) return next;
  }
  return null;
}

/* The smallest of 1, 2, 5, 10, 20, ... times 0.1 that is at least the value. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 0.1)) + 1e-9);
  return power * [1, 2, 5, 10].find((factor) => factor * power >= value * 0.999);
}

export default interactive(({ model, set }) => {
  // State
  const state = () => ({
    q: { mean: model.get("mean"), width: model.get("width") },
    p: target({
      weight: model.get("_weight"),
      scale: model.get("_scale"),
      separation: model.get("separation"),
    }),
  });
  const start = Object.fromEntries(Object.keys(RANGES).map((trait) => [trait, model.get(trait)]));
  let running = null;
  function move(trait, value) {
    running = null;
    set({ [trait]: clamp(value, RANGES[trait]) });
  }

  // Controls
  const control = (trait, label, step) =>
    slider({
      label,
      min: RANGES[trait][0],
      max: RANGES[trait][1],
      step,
      value: model.get(trait),
      format: shown,
      oninput: (value) => move(trait, value),
    });
  const sliders = {
    mean: control("mean", "Mean of q", 0.05),
    width: control("width", "Width of q", 0.05),
    separation: control("separation", "Separation", 0.1),
  };
  function descendTo(divergence) {
    const run = (running = {});
    const atOnce = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (q, rate) => descend(divergence, state().p, q, rate);
    let { q } = state();
    if (!atOnce) {
      const lower = () => {
        const next = step(q, 0.25);
        q = next ?? q;
        return next !== null;
      };
      return animateSteps(lower, () => set(q), () => running === run);
    }
    for (let next = q; next; next = step(next, 0.5)) q = next;
    set(q);
  }

  // Draw
  const palette = model.get("_palette");
  let dragged = "mean";
  const shoulder = ({ mean, width }) => mean + width;
  function pick(x, y, first) {
    const { q } = state();
    const near = (at) => Math.abs(x - at) / (2 * LIMIT);
    if (first) {
      const height = Math.exp(logNormal(shoulder(q), q.mean, q.width)) / densities.range.y[1];
      const side = Math.hypot(near(shoulder(q)), y / densities.range.y[1] - height);
      dragged = side < 0.08 && near(shoulder(q)) < near(q.mean) ? "width" : "mean";
    }
    move(dragged, dragged === "mean" ? x : Math.abs(x - q.mean));
  }
  function handles() {
    const { mean, width } = state().q;
    return [mean, mean + width].map((z) => [z, Math.exp(logNormal(z, mean, width))]);
  }
  const x = [-LIMIT, LIMIT];
  const densities = plot({ palette, x, y: [0, 0.7], xLabel: "z", yLabel: "density", aspect: 1.15, onpick: pick, handles });
  const integrand = (yLabel) => plot({ palette, x, y: [-0.5, 1], xLabel: "z", yLabel, aspect: 2 });
  const integrands = {
    forward: { plot: integrand("p log (p / q)"), text: h("strong", {}) },
    reverse: { plot: integrand("q log (q / p)"), text: h("strong", {}) },
  };
  const said = sentence();

  function drawDensities(logP, logQ, q) {
    const peak = Math.exp(logNormal(0, 0, q.width));
    densities.range.y = [0, Math.max(0.7, 1.15 * peak)];
    if (!densities.start()) return;
    const [densityP, densityQ] = [logP.map(Math.exp), logQ.map(Math.exp)];
    densities.area(SHOWN, densityP, { color: 0 });
    densities.line(SHOWN, densityP, { color: 0 });
    densities.line(SHOWN, densityQ, { color: 1, dash: [7, 4] });
    densities.points([q.mean], [peak], { color: 1, radius: 7 });
    densities.points([shoulder(q)], [peak * Math.exp(-0.5)], { color: 1, radius: 7, shape: "ring" });
    const highest = logP.indexOf(Math.max(...logP));
    densities.text("p", SHOWN[highest] - 0.2 - model.get("_scale"), densityP[highest], { align: "right", baseline: "top", color: 0 });
    densities.text("q", q.mean, peak + 0.035 * densities.range.y[1], { color: 1 });
  }

  function drawIntegrand({ plot: panel, text }, name, values, total) {
    const [least, most] = [Math.min(...values), Math.max(...values)];
    panel.range.y = [-roundUp(Math.max(0.2, -least)), roundUp(Math.max(0.5, most))];
    text.textContent = `${name} = ${shown(total)} nats`;
    panel.canvas.setAttribute(
      "aria-label",
      `What each z adds to ${name}: between ${shown(least)} and ${shown(most)}, in all ${shown(total)} nats`,
    );
    if (!panel.start()) return;
    panel.area(SHOWN, values.map((v) => Math.max(0, v)), { color: 2, alpha: 0.45 });
    panel.area(SHOWN, values.map((v) => Math.min(0, v)), { color: 3, alpha: 0.6 });
    panel.line([-LIMIT, LIMIT], [0, 0], { width: 1 });
    panel.line(SHOWN, values);
  }

  function draw() {
    const { p, q } = state();
    const separation = model.get("separation");
    for (const [trait, { update }] of Object.entries(sliders)) update(model.get(trait));
    const logP = SHOWN.map(p.logDensity);
    const logQ = SHOWN.map((z) => logNormal(z, q.mean, q.width));
    const totals = { forward: forwardKL(p, q).value, reverse: reverseKL(p, q).value };
    drawDensities(logP, logQ, q);
    drawIntegrand(integrands.forward, "Forward KL(p‖q)", logP.map((l, i) => Math.exp(l) * (l - logQ[i])), totals.forward);
    drawIntegrand(integrands.reverse, "Reverse KL(q‖p)", logQ.map((l, i) => Math.exp(l) * (l - logP[i])), totals.reverse);
    const normal = `q has mean ${shown(q.mean)} and width ${shown(q.width)}`;
    const right = model.get("_weight");
    const bumps = separation
      ? `bumps at ${shown(-separation / 2)} and ${shown(separation / 2)}, holding ${shown(1 - right)} and ${shown(right)} of its mass`
      : "one bump at 0";
    densities.canvas.setAttribute("aria-label", `Densities: the target p has ${bumps}; ${normal}`);
    said.say(
      `p has ${bumps}; ${normal}. Forward divergence, from p to q: ${shown(totals.forward)} nats. ` +
      `Reverse divergence, from q to p: ${shown(totals.reverse)} nats.`,
    );
  }

  const panel = (canvas, text) => h("div", { class: "em2vae-picture em2vae-minor" }, text, canvas);
  return {
    buttons: [
      button("To the forward optimum", () => descendTo(forwardKL)),
      button("To the reverse optimum", () => descendTo(reverseKL)),
      button("Reset", () => {
        running = null;
        set(start);
      }),
    ],
    content: [
      h(
        "div",
        { class: "em2vae-body" },
        h("div", { class: "em2vae-side" }, densities.canvas, said.element),
        h("div", { class: "em2vae-side" }, ...Object.values(integrands).map((s) => panel(s.plot.canvas, s.text))),
      ),
      h("div", { class: "em2vae-sliders" }, ...Object.values(sliders).map((s) => s.element)),
    ],
    caption: CAPTION,
    draw,
    traits: Object.keys(RANGES),
  };
});
