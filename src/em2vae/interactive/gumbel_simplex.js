import { button, h, interactive, plot, seededRandom, sentence, signed, slider } from "./shared.js";

const DOTS = 400; // draws that are shown
const DRAWS = 32768; // draws that bias and spread are computed from
const CORNERS = [[0, 0], [0.5, Math.sqrt(3) / 2], [1, 0]];
const SHAPES = ["disc", "square", "triangle"];
const LENGTHS = [0.5, 1, 1.5, 2, 3, 4, 5, 6, 8, 12]; // right ends of the bars' axis
const CAPTION =
  "Left: relaxed draws of one variable with three classes; colour and shape tell the nearest corner, and the ring is the vector " +
  "of probabilities. Right: how far four estimators of one gradient miss it, on average (bias) and from estimate to estimate " +
  "(spread). Cool the temperature down and watch the bars trade places; then average more draws.";

const shown = (value) => signed(Math.round(100 * value) / 100 || 0); // no minus before a zero
const sum = (values) => values.reduce((total, value) => total + value, 0);
const gumbel = (u) => -Math.log(-Math.log(u));

/* Noise for the averages: evenly spread points of the unit cube (the multiples of powers of the
   root of x^4 = x + 1, modulo 1), which err less than as many random ones. */
function evenNoise() {
  const root = 1.2207440846057596;
  const noise = new Float64Array(3 * DRAWS);
  for (let s = 0, i = 0; s < DRAWS; s++)
    for (let c = 1; c <= 3; c++) noise[i++] = gumbel((0.5 + (s + 1) * root ** -c) % 1);
  return noise;
}

function randomNoise(seed) {
  const { uniform } = seededRandom(seed);
  return Float64Array.from({ length: 3 * DOTS }, () => gumbel(uniform() || 2 ** -33));
}

/* eq. gumbel-softmax: relaxed one-hot draws, three numbers each. */
function relax(logits, noise, temperature) {
  const z = new Float64Array(noise.length);
  for (let i = 0; i < z.length; i += 3) {
    const a = logits[0] + noise[i];
    const b = logits[1] + noise[i + 1];
    const c = logits[2] + noise[i + 2];
    const top = Math.max(a, b, c);
    const [ea, eb, ec] = [Math.exp((a - top) / temperature), Math.exp((b - top) / temperature), Math.exp((c - top) / temperature)];
    const total = ea + eb + ec;
    z[i] = ea / total;
    z[i + 1] = eb / total;
    z[i + 2] = ec / total;
  }
  return z;
}

const nearest = (z, i) => (z[i] >= z[i + 1] ? (z[i] >= z[i + 2] ? 0 : 2) : z[i + 1] >= z[i + 2] ? 1 : 2);

/* Mean and total variance of a gradient through relaxed draws; f'(u) = 2 (u - 1) is taken at the
   draw or, straight-through, at its corner. */
function pathwiseMoments(values, z, temperature, hard) {
  const mean = [0, 0, 0];
  let square = 0;
  for (let i = 0; i < z.length; i += 3) {
    const u = values[0] * z[i] + values[1] * z[i + 1] + values[2] * z[i + 2];
    const slope = (2 * ((hard ? values[nearest(z, i)] : u) - 1)) / temperature;
    for (let c = 0; c < 3; c++) {
      const gradient = slope * z[i + c] * (values[c] - u); // through the softmax
      mean[c] += gradient / DRAWS;
      square += gradient ** 2 / DRAWS;
    }
  }
  return { mean, variance: square - sum(mean.map((m) => m * m)) };
}

/* The same for (f(z) - baseline) (z - p), whose three outcomes can be listed: eq. score-function. */
function scoreMoments(p, f, baseline) {
  const mean = [0, 0, 0];
  let square = 0;
  for (let k = 0; k < 3; k++)
    for (let c = 0; c < 3; c++) {
      const gradient = (f[k] - baseline) * ((k === c) - p[c]);
      mean[c] += p[k] * gradient;
      square += p[k] * gradient ** 2;
    }
  return { mean, variance: square - sum(mean.map((m) => m * m)) };
}

export default interactive(({ model, set }) => {
  // State
  const values = model.get("_values");
  const f = values.map((u) => (u - 1) ** 2); // at the corners
  const limits = model.get("_limits");
  const [lightest, heaviest] = limits.weights;
  const even = evenNoise();
  let dots = { seed: NaN };
  const start = Object.fromEntries(["weights", "temperature", "n_samples", "seed"].map((trait) => [trait, model.get(trait)]));
  function probabilities() {
    const weights = model.get("weights");
    return weights.map((w) => w / sum(weights));
  }
  function estimators(p, temperature) {
    const z = relax(p.map(Math.log), even, temperature);
    const mean = sum(p.map((pk, k) => pk * f[k]));
    const exact = p.map((pk, k) => pk * (f[k] - mean));
    const row = (name, { mean: average, variance }) => ({
      name,
      bias: Math.hypot(...average.map((a, c) => a - exact[c])),
      spread: Math.sqrt(variance / model.get("n_samples")),
    });
    const rows = [
      row("score function", scoreMoments(p, f, 0)),
      row("… minus E[f]", scoreMoments(p, f, mean)),
      row("Gumbel-Softmax", pathwiseMoments(values, z, temperature, false)),
      row("straight-through", pathwiseMoments(values, z, temperature, true)),
    ];
    rows[0].bias = rows[1].bias = 0; // proved in chapter 07
    return { rows, length: Math.hypot(...exact) };
  }

  // Controls
  const temperature = slider({
    label: "Temperature",
    min: Math.log2(limits.temperature[0]),
    max: Math.log2(limits.temperature[1]),
    step: 0.25,
    value: Math.log2(model.get("temperature")),
    format: (power) => (2 ** power).toFixed(2),
    oninput: (power) => set({ temperature: 2 ** power }),
  });
  const samples = slider({
    label: "Draws",
    min: 0,
    max: Math.log2(limits.n_samples),
    step: 1,
    value: Math.log2(model.get("n_samples")),
    format: (power) => String(Math.round(2 ** power)),
    oninput: (power) => set({ n_samples: 2 ** power }),
  });
  const weights = CORNERS.map((_, c) =>
    slider({
      label: `Weight ${c + 1}`,
      min: lightest,
      max: heaviest,
      step: 0.01,
      value: model.get("weights")[c],
      format: () => `${Math.round(100 * probabilities()[c])} %`,
      oninput: (value) => set({ weights: model.get("weights").with(c, value) }),
    }),
  );

  // Draw
  const palette = model.get("_palette");
  function pick(x, y) {
    const middle = y / CORNERS[1][1]; // barycentric coordinates
    const shares = [1 - x - middle / 2, middle, x - middle / 2];
    set({ weights: shares.map((share) => Math.max(lightest, Math.min(heaviest, share))) });
  }
  const triangle = plot({ palette, x: [-0.1, 1.1], y: [-0.1, 1.0], axes: false, aspect: 1.04, onpick: pick, handles: () => [[0, 1].map((axis) => at(probabilities(), 0, axis))] });
  const bars = plot({ palette, x: [0, 2], y: [0, 4], xLabel: "distance from the exact gradient", yFormat: () => "", aspect: 1.15, minor: true });
  const said = sentence();

  const at = (z, i, axis) => CORNERS.reduce((total, corner, c) => total + z[i + c] * corner[axis], 0);
  function drawTriangle(p, z) {
    if (!triangle.start()) return;
    const outline = [...CORNERS, CORNERS[0]];
    triangle.line(outline.map(([x]) => x), outline.map(([, y]) => y), { width: 1.5 });
    const groups = [0, 1, 2].map(() => ({ xs: [], ys: [] }));
    for (let i = 0; i < z.length; i += 3) {
      const { xs, ys } = groups[nearest(z, i)];
      xs.push(at(z, i, 0));
      ys.push(at(z, i, 1));
    }
    groups.forEach(({ xs, ys }, c) => triangle.points(xs, ys, { shape: SHAPES[c], color: c, radius: 3, alpha: 0.6 }));
    triangle.points([at(p, 0, 0)], [at(p, 0, 1)], { shape: "ring", radius: 9 });
    CORNERS.forEach(([x, y], c) => {
      const style = c === 1 ? { baseline: "bottom" } : { baseline: "top", align: c ? "right" : "left" };
      triangle.text(`class ${c + 1}: f = ${f[c]}`, c === 1 ? x : x + (c ? 0.08 : -0.08), y + (c === 1 ? 0.025 : -0.03), style);
    });
  }

  function drawBars(rows) {
    const longest = Math.max(...rows.flatMap(({ bias, spread }) => [bias, spread]));
    bars.range.x = [0, LENGTHS.find((length) => longest <= 0.68 * length) ?? LENGTHS.at(-1)];
    if (!bars.start()) return;
    const end = bars.range.x[1];
    function bar(what, length, top, color) {
      bars.area([0, length], [top, top], { base: top - 0.24, color, alpha: 0.9 });
      bars.text(`${what} ${shown(length)}`, length + 0.02 * end, top - 0.12, { align: "left", baseline: "middle" });
    }
    rows.forEach(({ name, bias, spread }, row) => {
      bars.text(name, 0.015 * end, 3.83 - row, { align: "left", baseline: "middle" });
      bar("bias", bias, 3.68 - row, "accent");
      bar("spread", spread, 3.38 - row, 0);
    });
  }

  function draw() {
    const p = probabilities();
    const tau = model.get("temperature");
    const seed = model.get("seed");
    if (dots.seed !== seed) dots = { seed, noise: randomNoise(seed) };
    temperature.update(Math.log2(tau));
    samples.update(Math.log2(model.get("n_samples")));
    weights.forEach(({ update }, c) => update(model.get("weights")[c]));
    const z = relax(p.map(Math.log), dots.noise, tau);
    const counts = [0, 0, 0];
    for (let i = 0; i < z.length; i += 3) counts[nearest(z, i)]++;
    const { rows, length } = estimators(p, tau);
    drawTriangle(p, z);
    drawBars(rows);
    const percent = (numbers) => numbers.map((value) => `${Math.round(100 * value)} %`).join(", ");
    const shares = percent(counts.map((count) => count / DOTS));
    triangle.canvas.setAttribute(
      "aria-label",
      `A triangle with ${DOTS} relaxed draws at temperature ${tau.toFixed(2)}, ${describeCloud(z)}; nearest to the three corners: ${shares}`,
    );
    const numbers = rows.map(({ name, bias, spread }) => `${name} bias ${shown(bias)}, spread ${shown(spread)}`).join("; ");
    bars.canvas.setAttribute("aria-label", `Bars: ${numbers}`);
    said.say(describe(shares, percent(p), rows, length, model.get("n_samples")));
  }

  return {
    buttons: [button("New noise", () => set({ seed: model.get("seed") + 1 })), button("Start again", () => set(start))],
    content: [
      h("div", { class: "em2vae-body" }, triangle.canvas, h("div", { class: "em2vae-side" }, bars.canvas, said.element)),
      h("div", { class: "em2vae-sliders", style: "grid-template-columns: 3fr 2fr" }, temperature.element, samples.element),
      h("div", { class: "em2vae-sliders", style: "grid-template-columns: repeat(3, 1fr)" }, ...weights.map(({ element }) => element)),
    ],
    caption: CAPTION,
    draw,
    traits: ["weights", "temperature", "n_samples", "seed"],
  };
});

/* Where the cloud lies, for those who cannot see it. */
function describeCloud(z) {
  let near = 0;
  for (let i = 0; i < z.length; i += 3) near += Math.max(z[i], z[i + 1], z[i + 2]) > 0.95;
  return `${Math.round((300 * near) / z.length)} % of them almost in a corner`;
}

function describe(shares, probabilities, rows, length, S) {
  const error = ({ bias, spread }) => Math.hypot(bias, spread);
  const best = rows.reduce((a, b) => (error(b) < error(a) ? b : a));
  const name = best === rows[1] ? "the score function minus E[f]" : best === rows[0] ? "the score function" : best.name;
  const [, , relaxed, through] = rows;
  return (
    `Nearest corners: ${shares} of the points, at every temperature; the probabilities are ${probabilities}. ` +
    `The exact gradient has length ${shown(length)}. Gumbel-Softmax has bias ${shown(relaxed.bias)} and spread ${shown(relaxed.spread)}, ` +
    `straight-through ${shown(through.bias)} and ${shown(through.spread)}. With ${S === 1 ? "one draw" : `${S} draws`} an estimate, ` +
    `${name} misses least: ${shown(error(best))}.`
  );
}
