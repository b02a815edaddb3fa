import {
  button, colorsOf, h, interactive, plot, readable, select, sentence, signed, slider,
} from "./shared.js";

const MAX_COMPONENTS = 5;
const OPENING = 6; // half steps that the figure has already taken when it appears
const MS_PER_HALF_STEP = 60;
const MS_AT_FIRST = 260; // Run starts slowly enough to be watched, and each half step is shorter by SPEEDUP
const SPEEDUP = 0.92;
const MAX_HALF_STEPS = 2000;
const SHAPES = ["disc", "square", "ring", "cross", "triangle"];
const LETTERS = "ABCDE";
const CAPTION =
  "Press E-step and M-step in turn. An E-step recolours the points and lifts the bound until it touches the " +
  "log-likelihood; an M-step moves the ellipses (two standard deviations) and lifts both, the log-likelihood at least as far. " +
  "Drag a mean or a point, or choose one under Move. Then the hill has changed, and the curves begin anew.";

// The mixture. x: N pairs; responsibilities: N rows of K ----------------------------------------

/* eq. gaussian-mixture: log p(x, z = k) for each point, N rows of K, in nats */
export function logJoint(x, { weights, means, covariances }) {
  const terms = weights.map((weight, k) => {
    const [[a, b], [, c]] = covariances[k];
    const det = a * c - b * b;
    const constant = Math.log(weight) - Math.log(2 * Math.PI) - Math.log(det) / 2;
    return { mean: means[k], a: a / det, b: b / det, c: c / det, constant };
  });
  return x.map(([x1, x2]) =>
    Float64Array.from(terms, ({ mean, a, b, c, constant }) => {
      const [d1, d2] = [x1 - mean[0], x2 - mean[1]];
      return constant - (c * d1 * d1 - 2 * b * d1 * d2 + a * d2 * d2) / 2;
    }),
  );
}

function logSumExp(row) {
  const most = Math.max(...row);
  return most + Math.log(row.reduce((sum, value) => sum + Math.exp(value - most), 0));
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;

/* eq. em-log-likelihood: the mean log-likelihood, in nats a point */
export const logLikelihood = (x, model) => mean(logJoint(x, model).map(logSumExp));

/* eq. e-step */
export const eStep = (x, model) =>
  logJoint(x, model).map((row) => {
    const logP = logSumExp(row);
    return row.map((value) => Math.exp(value - logP));
  });

/* eq. mixture-bound: its mean, in nats a point */
export function bound(x, model, responsibilities) {
  const rows = logJoint(x, model);
  const term = (r, value) => (r > 0 ? r * (value - Math.log(r)) : 0); // 0 log 0 = 0
  return mean(responsibilities.map((row, n) => row.reduce((sum, r, k) => sum + term(r, rows[n][k]), 0)));
}

/* eq. m-step; a component without points keeps its place, and its weight becomes zero */
export function mStep(x, responsibilities, { means, covariances }, minVariance) {
  const next = { weights: [], means: [], covariances: [] };
  for (let k = 0; k < means.length; k++) {
    let [count, s1, s2] = [0, 0, 0];
    x.forEach(([x1, x2], n) => {
      const r = responsibilities[n][k];
      count += r;
      s1 += r * x1;
      s2 += r * x2;
    });
    next.weights.push(count / x.length);
    if (count < 1e-300) {
      next.means.push(means[k]);
      next.covariances.push(covariances[k]);
      continue;
    }
    const [m1, m2] = [s1 / count, s2 / count];
    let [a, b, c] = [0, 0, 0];
    x.forEach(([x1, x2], n) => {
      const share = responsibilities[n][k] / count;
      a += share * (x1 - m1) ** 2;
      b += share * (x1 - m1) * (x2 - m2);
      c += share * (x2 - m2) ** 2;
    });
    next.means.push([m1, m2]);
    next.covariances.push(lift(a, b, c, minVariance));
  }
  return next;
}

/* The matrix [[a, b], [b, c]] with its eigenvalues raised to the floor where they lie below it. */
function lift(a, b, c, floor) {
  const middle = (a + c) / 2;
  const spread = Math.hypot((a - c) / 2, b);
  const missing = (variance) => Math.max(0, floor - variance);
  const [wide, narrow] = [missing(middle + spread), missing(middle - spread)];
  if (!narrow) return [[a, b], [b, c]]; // prettier-ignore
  // The projections on the two axes are (1 ± (matrix - middle) / spread) / 2.
  const [u, v] = spread ? [(a - c) / 2 / spread, b / spread] : [0, 0];
  const [sum, difference] = [(wide + narrow) / 2, (wide - narrow) / 2];
  const off = b + difference * v;
  return [[a + sum + difference * u, off], [off, c + sum - difference * u]]; // prettier-ignore
}

/* Equal weights, the means on K of the points, round clouds as wide as the data. */
export function startingPoint(x, K, start, minVariance) {
  const variance = (axis) => {
    const middle = mean(x.map((point) => point[axis]));
    return mean(x.map((point) => (point[axis] - middle) ** 2));
  };
  const width = Math.max(minVariance, (variance(0) + variance(1)) / 2);
  return {
    weights: Array(K).fill(1 / K),
    means: Array.from({ length: K }, (_, k) => [...x[(start * K + k) % x.length]]),
    covariances: Array.from({ length: K }, () => [[width, 0], [0, width]]), // prettier-ignore
  };
}

// The figure -------------------------------------------------------------------------------------

export default interactive(({ model, root, redraw, set }) => {
  // State: the traits, and here what they leave open
  const minVariance = model.get("_min_variance");
  const palette = model.get("_palette");
  let x, theta, responsibilities, history; // history: [bound, log-likelihood] after every half step
  let began = "";
  let known = "";
  let said = "";
  let chosen = { kind: "mean", index: 0 };
  let running = null;

  const fingerprint = () =>
    JSON.stringify(["points", "weights", "means", "covariances", "n_components", "start"].map((name) => model.get(name)));
  const startKey = () => `${model.get("n_components")} ${model.get("start")}`;
  const measure = () => [bound(x, theta, responsibilities), logLikelihood(x, theta)];

  function save() {
    set({ points: x, ...theta, history });
    began = startKey();
    known = fingerprint();
    redraw();
  }
  function forget() {
    const K = theta.weights.length;
    const fits = responsibilities?.length === x.length && responsibilities[0].length === K;
    if (!fits) responsibilities = x.map(() => new Float64Array(K).fill(1 / K));
    history = [measure()];
  }
  function begin(halfSteps) {
    theta = startingPoint(x, model.get("n_components"), model.get("start"), minVariance);
    responsibilities = null;
    forget();
    for (let i = 0; i < halfSteps; i++) (i % 2 ? takeM : takeE)();
    if (!halfSteps) said = "A new start: every component owns an equal share of every point. ";
    if (chosen.kind === "mean" && chosen.index >= theta.weights.length) chosen = { kind: "mean", index: 0 };
  }
  /* Takes over what Python has set since the last look. */
  function listen() {
    if (fingerprint() === known) return;
    x = model.get("points");
    theta = Object.fromEntries(["weights", "means", "covariances"].map((name) => [name, model.get(name)]));
    history = model.get("history");
    const first = !known && !history.length;
    const anew = (known && startKey() !== began) || theta.weights.length !== model.get("n_components");
    if (known) running = null;
    if (first || anew) begin(first ? OPENING : 0);
    else if (known) forget();
    else responsibilities = eStep(x, theta); // a second view of a figure that has moved on
    rebuild();
    save();
  }

  // EM
  function takeE() {
    responsibilities = eStep(x, theta);
    history = [...history, measure()];
    said = "After the E-step the bound touches. ";
  }
  function takeM() {
    const [bound, likelihood] = history.at(-1);
    theta = mStep(x, responsibilities, theta, minVariance);
    history = [...history, measure()];
    const rose = (now, before) => now - before > 1e-9;
    if (!rose(history.at(-1)[0], bound)) said = "The M-step has nothing left to do. ";
    else if (!rose(history.at(-1)[1], likelihood)) said = "After the M-step the bound is higher. ";
    else said = `After the M-step both are higher, ${touches() ? "without" : "with"} a gap. `;
  }
  const gap = () => history.at(-1)[1] - history.at(-1)[0];
  const touches = () => gap() < 1e-9;
  const done = () => history.length > MAX_HALF_STEPS || (history.length > 2 && history.at(-1)[0] - history.at(-3)[0] < 1e-7);
  function halfStep() {
    (touches() ? takeM : takeE)();
    return touches() && done();
  }
  function run() {
    if (running) {
      running = null;
      return redraw();
    }
    const mine = (running = {});
    const finish = () => {
      running = null;
      said = "EM has come to rest. ";
      save();
    };
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      while (!halfStep());
      return finish();
    }
    let pause = MS_AT_FIRST;
    const next = () => {
      if (running !== mine || !root.isConnected) return;
      if (halfStep()) return finish();
      save();
      setTimeout(next, pause);
      pause = Math.max(MS_PER_HALF_STEP, SPEEDUP * pause);
    };
    next();
  }
  const act = (action) => () => {
    running = null;
    action();
    save();
  };

  // Controls
  const runButton = button("Run", run);
  const buttons = [
    button("E-step", act(takeE)),
    button("M-step", act(takeM)),
    runButton,
    button("Reset", act(() => begin(0))),
    button("Another start", act(() => {
      model.set("start", model.get("start") + 1);
      begin(0);
    })),
  ];
  const components = select({
    label: "Components",
    options: Array.from({ length: MAX_COMPONENTS }, (_, k) => [String(k + 1), String(k + 1)]),
    value: String(model.get("n_components")),
    onchange: (value) => act(() => {
      model.set("n_components", Number(value));
      begin(0);
      rebuild();
    })(),
  });
  const mover = select({ label: "Move", options: [], onchange: (value) => {
    chosen = value === "point" ? { kind: "point", index: number.input.valueAsNumber - 1 } : { kind: "mean", index: Number(value) };
    redraw();
  } });
  /* The choices under Move, one for each component. */
  function rebuild() {
    const options = theta.means.map((_, k) => h("option", { value: k }, `mean ${LETTERS[k]}`));
    mover.input.replaceChildren(...options, h("option", { value: "point" }, "a point"));
    number.input.max = x.length;
  }
  const number = slider({
    label: "Point number",
    min: 1,
    max: 1,
    step: 1,
    value: 1,
    format: String,
    oninput: (value) => {
      chosen = { kind: "point", index: value - 1 };
      redraw();
    },
  });
  const held = () => (chosen.kind === "mean" ? theta.means : x)[chosen.index];
  function moveTo(place) {
    running = null;
    const move = (list) => list.map((old, i) => (i === chosen.index ? place : old));
    if (chosen.kind === "mean") theta = { ...theta, means: move(theta.means) };
    else x = move(x);
    forget();
    said = "The hill has changed; the curves begin anew. ";
    save();
  }
  const limit = Math.ceil(2 * Math.max(...model.get("points").flat().map(Math.abs)) + 0.5) / 2;
  const coordinate = (axis) =>
    slider({
      label: `x${"₁₂"[axis]}`,
      min: -limit,
      max: limit,
      step: 0.05,
      value: 0,
      format: signed,
      oninput: (value) => moveTo(axis ? [held()[0], value] : [value, held()[1]]),
    });
  const coordinates = [coordinate(0), coordinate(1)];

  // Pictures
  const plane = plot({
    palette,
    x: [-limit, limit],
    y: [-limit, limit],
    xLabel: "x₁",
    yLabel: "x₂",
    aspect: 1,
    handles: () => [...theta.means, held()],
    onpick: (px, py, first) => {
      if (first) {
        const nearest = (list) => {
          const distances = list.map(([a, b]) => Math.hypot(a - px, b - py));
          const least = Math.min(...distances);
          return { index: distances.indexOf(least), least };
        };
        const [component, point] = [nearest(theta.means), nearest(x)];
        const isMean = component.least < 0.07 * limit;
        chosen = isMean ? { kind: "mean", ...component } : { kind: "point", ...point };
        chosen.free = chosen.least > 0.12 * limit; // nothing near the pointer
      }
      if (!chosen.free) moveTo([px, py]);
      redraw();
    },
  });
  const curve = plot({
    palette,
    x: [0, 1],
    y: [0, 1],
    xLabel: "half steps",
    yLabel: "nats a point",
    aspect: 1.35,
    minor: true,
    yFormat: (value) => signed(value, curve.range.y[1] - curve.range.y[0] < 0.2 ? 3 : 2),
  });
  const output = sentence();

  /* The components' colours, mixed as the responsibilities say. */
  function mixed(row, dark) {
    const channel = (at) => row.reduce((sum, r, k) => sum + r * parseInt(palette[k].slice(at, at + 2), 16), 0);
    const hex = [1, 3, 5].map((at) => Math.round(channel(at)).toString(16).padStart(2, "0"));
    return readable(`#${hex.join("")}`, dark);
  }
  function drawPlane() {
    if (!plane.start()) return;
    const { dark } = colorsOf(plane.canvas);
    const owners = responsibilities.map((row) => row.indexOf(Math.max(...row)));
    theta.means.forEach((_, k) => {
      const own = owners.flatMap((owner, n) => (owner === k ? [n] : []));
      const colors = own.map((n) => mixed(responsibilities[n], dark));
      plane.points(own.map((n) => x[n][0]), own.map((n) => x[n][1]), {
        shape: SHAPES[k],
        radius: x.length > 250 ? 2.6 : 3.4,
        color: (i) => colors[i],
      });
    });
    theta.means.forEach((center, k) => {
      plane.ellipse(center, theta.covariances[k], { color: k, width: 2.5 });
      plane.points([center[0]], [center[1]], { radius: 9, color: "soft" });
      plane.text(LETTERS[k], ...center, { color: k, baseline: "middle" });
    });
    const [px, py] = held();
    plane.points([px], [py], { shape: "ring", radius: 10, color: "text" });
  }
  function drawCurve() {
    const steps = history.map((_, i) => i);
    const bounds = history.map(([low]) => low);
    const likelihoods = history.map(([, high]) => high);
    const low = Math.min(...bounds.slice(history.length > 4 ? 2 : 0)); // a poor start leaves the picture
    const high = Math.max(...likelihoods);
    const pad = Math.max(0.01, 0.1 * (high - low));
    curve.range.x = [-0.2, Math.max(8, history.length - 1)];
    curve.range.y = [low - pad, high + pad];
    if (!curve.start()) return;
    curve.line(steps, likelihoods, { color: 0, width: 2.5 });
    curve.line(steps, bounds, { color: 1, width: 2.5, dash: [6, 4] });
    if (history.length === 1) {
      curve.points(steps, likelihoods, { radius: 5, color: 0 });
      curve.points(steps, bounds, { radius: 5, color: 1 });
    }
    if (history.length > 40) return; // rings would hide the curves
    const met = steps.filter((i) => likelihoods[i] - bounds[i] < 1e-9);
    curve.points(met, met.map((i) => bounds[i]), { shape: "ring", radius: 6 });
  }

  function draw() {
    listen();
    components.input.value = String(theta.weights.length);
    mover.input.value = chosen.kind === "point" ? "point" : String(chosen.index);
    number.element.hidden = chosen.kind !== "point";
    if (chosen.kind === "point") number.update(chosen.index + 1);
    runButton.textContent = running ? "Pause" : "Run";
    coordinates.forEach(({ update }, axis) => update(held()[axis]));
    drawPlane();
    drawCurve();
    const [low, high] = history.at(-1);
    const level = touches()
      ? `Bound and log-likelihood are both ${signed(low, 3)} nats a point.`
      : `The log-likelihood is ${signed(high, 3)}, the bound ${signed(low, 3)} nats a point.`;
    const where = theta.means.map(
      (center, k) => `${LETTERS[k]} with weight ${theta.weights[k].toFixed(2)} at ${center.map((v) => signed(v)).join(", ")}`,
    );
    plane.canvas.setAttribute("aria-label", `${x.length} points and the components ${where.join("; ")}`);
    curve.canvas.setAttribute("aria-label", `Bound (dashed) and log-likelihood (solid) over ${history.length - 1} half steps. ${level}`);
    if (!running) output.say(said + level);
  }

  const legend = h("span", {}, "Solid: log-likelihood. Dashed: bound. Rings: they touch.");
  return {
    buttons,
    content: [
      h("div", { class: "em2vae-axes" }, components.element, mover.element),
      h(
        "div",
        { class: "em2vae-body" },
        plane.canvas,
        h("div", { class: "em2vae-side" },
          curve.canvas,
          h("div", { class: "em2vae-picture em2vae-minor" }, legend),
          output.element,
          ...coordinates.map(({ element }) => element),
          number.element,
        ),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["points", "n_components", "start", "weights", "means", "covariances"],
  };
});
