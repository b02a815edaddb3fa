import {
  SIDE, animateSteps, asDrawn, button, bytesOf, checkbox, digitCanvas, drawDigit, drawingPad, encode,
  forward, frameBudget, h, inkOf, interactive, klToPrior, largest, latentMap, logBernoulli, normalize,
  plot, select, sentence, signed, slider, stroke, unpackHalves, unpackNetwork,
} from "./shared.js";

const STEPS = 40; // of one press of Refine
const RATE = 0.5; // of a step, in widths of q
const MAX_SHIFT = 6;
const CAPTION =
  "Draw a digit with a mouse, a finger or a pen, or put a test digit on the pad. The encoder answers at " +
  "once: its q is the dashed ellipse, two standard deviations wide. Refine climbs from there, for this one picture. The squares in the close-up are the true posterior, larger where it is denser.";

// The drawing ----------------------------------------------------------------------------------

function shifted(ink, [right, down]) {
  const [dx, dy] = [(right * SIDE) / 28, (down * SIDE) / 28];
  const moved = new Float64Array(SIDE * SIDE);
  for (let row = Math.max(0, dy); row < Math.min(SIDE, SIDE + dy); row++)
    for (let column = Math.max(0, dx); column < Math.min(SIDE, SIDE + dx); column++)
      moved[row * SIDE + column] = ink[(row - dy) * SIDE + column - dx];
  return moved;
}

// The bound and its gradient -------------------------------------------------------------------

const slopes = {
  identity: () => 1,
  relu: (a) => (a > 0 ? 1 : 0),
  tanh: (a) => 1 - Math.tanh(a) ** 2,
  silu: (a) => {
    const s = 1 / (1 + Math.exp(-a));
    return s * (1 + a * (1 - s));
  },
};

/* log p(x|z) and its gradient in z, forward and back through the decoder by hand. */
function scoreAt(decoder, x, z) {
  const sums = [];
  let values = forward(decoder, z, sums);
  const value = logBernoulli(values, x, true);
  for (let n = decoder.length - 1; n >= 0; n--) {
    const { inputs, outputs, activation, weight } = decoder[n];
    const below = new Float64Array(inputs);
    const slope = slopes[activation];
    for (let o = 0, w = 0; o < outputs; o++) {
      const delta = values[o] * slope(sums[n][o]);
      for (let i = 0; i < inputs; i++) below[i] += weight[w++] * delta;
    }
    values = below;
  }
  return { value, gradient: values };
}

/* The ELBO of q, averaged over the fixed noise, and its gradient in mu and log sigma. */
function boundOf(decoder, x, q, { eps, weights }, withGradient) {
  let reconstruction = 0;
  const gradMu = q.mu.map((m) => -m);
  const gradLogSigma = q.sigma.map((s) => 1 - s * s);
  eps.forEach((e, j) => {
    const z = Float64Array.from(q.mu, (m, k) => m + q.sigma[k] * e[k]); // eq. reparameterize
    if (!withGradient) return void (reconstruction += weights[j] * logBernoulli(forward(decoder, z), x));
    const { value, gradient } = scoreAt(decoder, x, z);
    reconstruction += weights[j] * value;
    for (const k of [0, 1]) {
      gradMu[k] += weights[j] * gradient[k];
      gradLogSigma[k] += weights[j] * gradient[k] * q.sigma[k] * e[k];
    }
  });
  return { elbo: reconstruction - klToPrior(q), gradMu, gradLogSigma };
}

/* One step of eq. elbo-inner, no longer than one width of q. */
function refined({ mu, sigma }, { gradMu, gradLogSigma }) {
  const clip = (v) => Math.max(-1, Math.min(1, v));
  return {
    mu: mu.map((m, k) => m + sigma[k] * clip(RATE * sigma[k] * gradMu[k])),
    sigma: sigma.map((s, k) => s * Math.exp(clip((RATE / 2) * gradLogSigma[k]))),
  };
}

// The true posterior ---------------------------------------------------------------------------

/* log p(x|z) for all z of a grid, a part at a time: coarse over the whole map once, its logits kept
   for every x, then fine where the coarse one has its mass (eq. quadrature). */
function coarseGrid(decoder, limit) {
  const n = Math.round(limit / 0.1) + 1;
  const axis = Float64Array.from({ length: n }, (_, i) => -limit + 0.2 * i);
  const logits = new Float32Array(n * n * 784);
  const normalizers = new Float64Array(n * n);
  const blank = new Float64Array(784);
  let done = 0;
  function advance(end) {
    for (; done < n * n && performance.now() < end; done++) {
      const part = forward(decoder, [axis[done % n], axis[Math.floor(done / n)]]);
      normalizers[done] = logBernoulli(part, blank);
      logits.set(part, 784 * done);
    }
    return done === n * n;
  }
  /* The box of all cells within 12 nats of the best one. */
  function boxOf(x) {
    const inked = [...x.keys()].filter((d) => x[d]);
    const values = normalizers.map((value, g) => {
      for (const d of inked) value += logits[784 * g + d];
      return value - 0.5 * (axis[g % n] ** 2 + axis[Math.floor(g / n)] ** 2);
    });
    const near = [...values.keys()].filter((g) => values[g] > largestOf(values) - 12);
    const span = (at) => [Math.min(...near.map(at)) - 0.25, Math.max(...near.map(at)) + 0.25];
    return [span((g) => axis[g % n]), span((g) => axis[Math.floor(g / n)])];
  }
  return { advance, boxOf };
}

const largestOf = (values) => values.reduce((most, v) => Math.max(most, v), -Infinity);

function fineGrid(decoder, x, box) {
  const sizes = box.map(([low, high]) => Math.max(24, Math.min(48, Math.ceil((high - low) / 0.035))));
  const steps = box.map(([low, high], k) => (high - low) / sizes[k]);
  const total = sizes[0] * sizes[1];
  const at = (g) => [box[0][0] + (0.5 + (g % sizes[0])) * steps[0], box[1][0] + (0.5 + Math.floor(g / sizes[0])) * steps[1]];
  const logJoint = new Float64Array(total);
  const posterior = { box, at, steps, logJoint, done: 0, logEvidence: null };
  posterior.advance = (end) => {
    for (; posterior.done < total && performance.now() < end; posterior.done++) {
      const z = at(posterior.done);
      const logPrior = -0.5 * (z[0] ** 2 + z[1] ** 2) - Math.log(2 * Math.PI);
      logJoint[posterior.done] = logBernoulli(forward(decoder, z), x) + logPrior;
    }
    if (posterior.done < total) return false;
    const top = largestOf(logJoint);
    const sum = logJoint.reduce((s, v) => s + Math.exp(v - top), 0);
    posterior.logEvidence = top + Math.log(sum * steps[0] * steps[1]);
    return true;
  };
  return posterior;
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, root, redraw, set }) => {
  // State
  const encoder = unpackNetwork(model.get("_encoder"), model.get("_encoder_weights"));
  const decoder = unpackNetwork(model.get("_decoder"), model.get("_decoder_weights"));
  const noise = { eps: model.get("_eps"), weights: model.get("_weights") };
  const images = bytesOf(model.get("_images"));
  const digits = model.get("_digits");
  const labels = bytesOf(model.get("_labels"));
  const codes = unpackHalves(model.get("_codes"));
  const limit = Math.max(3, Math.ceil(largest(codes)));
  const codesOf = (k) => Float32Array.from(labels, (_, n) => codes[2 * n + k]);
  const mapped = { key: "codes", labels, names: ["z₁", "z₂"], xs: codesOf(0), ys: codesOf(1) };
  const coarse = coarseGrid(decoder, limit);
  let ink = new Float64Array(SIDE * SIDE);
  let x = null; // what the encoder gets, or null while the pad is empty
  let own = null; // the encoder's q
  let curve = []; // the ELBO after each step of refinement
  let posterior = null;
  let refining = null;
  let grey = ink; // the ink where the pad shows it
  let answered = false; // whether the present picture's q has been drawn
  const q = () => ({ mu: model.get("mu"), sigma: model.get("sigma") });

  function load(digit) {
    ink = digit < 0 ? new Float64Array(SIDE * SIDE) : inkOf(images.subarray(784 * digit, 784 * (digit + 1)));
  }
  /* From the pad to q: normalize, binarize, encode. */
  function look() {
    refining = posterior = null;
    answered = false;
    grey = shifted(ink, model.get("shift"));
    x = null;
    if (!grey.some((v) => v > 0)) return;
    x = (model.get("normalized") ? normalize(grey) : asDrawn(grey)).map((v) => (v > 0.5 ? 1 : 0));
    const { mu, logVar } = encode(encoder, x);
    own = { mu: [...mu], sigma: [...logVar].map((v) => Math.exp(v / 2)) };
    own.elbo = boundOf(decoder, x, own, noise, false).elbo;
    curve = [own.elbo];
  }
  function lookAndSet() {
    look();
    if (x) set({ mu: own.mu, sigma: own.sigma });
    redraw();
  }
  load(model.get("digit"));
  look();

  // Controls
  const pad = drawingPad({
    onpen(from, to, first) {
      if (first && model.get("digit") >= 0) set({ digit: -1 }); // clears the pad
      const onInk = (point) => point.map((at, k) => at - (model.get("shift")[k] * SIDE) / 28);
      stroke(ink, onInk(from), onInk(to));
      lookAndSet();
    },
    onlift: redraw,
  });

  function refine() {
    if (!x) return;
    const run = (refining = {});
    const patient = !matchMedia("(prefers-reduced-motion: reduce)").matches;
    let left = STEPS;
    let here = q();
    let bound = boundOf(decoder, x, here, noise, true);
    const step = () => {
      here = refined(here, bound);
      bound = boundOf(decoder, x, here, noise, true);
      curve.push(bound.elbo);
      return --left > 0;
    };
    const show = (more) => {
      if (!more) refining = null;
      set(here);
    };
    if (patient) return animateSteps(step, show, () => refining === run && root.isConnected);
    while (step());
    show(false);
  }
  const refineButton = button("Refine", refine);
  const picker = select({
    label: "On the pad",
    options: [["-1", "my drawing"], ...digits.map((digit, n) => [String(n), `test digit ${n + 1}: a ${digit}`])],
    value: String(model.get("digit")),
    onchange: (n) => set({ digit: Number(n) }),
  });
  const mover = (label, axis) =>
    slider({
      label,
      min: -MAX_SHIFT,
      max: MAX_SHIFT,
      step: 1,
      value: model.get("shift")[axis],
      format: (by) => `${signed(by, 0)} px`,
      oninput: (by) => set({ shift: model.get("shift").map((old, k) => (k === axis ? by : old)) }),
    });
  const movers = [mover("Move right", 0), mover("Move down", 1)];
  const normalizer = checkbox({
    label: "Normalize as MNIST does",
    checked: model.get("normalized"),
    onchange: (normalized) => set({ normalized }),
  });
  model.on("change:digit", () => {
    load(model.get("digit"));
    lookAndSet();
  });
  for (const trait of ["shift", "normalized"]) model.on(`change:${trait}`, lookAndSet);

  // Draw
  const map = latentMap({ colors: model.get("_colors"), limit });
  const palette = model.get("_palette");
  const closeUp = plot({ palette, x: [0, 1], y: [0, 1], xLabel: "z₁", yLabel: "z₂, close up", aspect: 1.15 });
  const climb = plot({ palette, x: [0, STEPS], y: [0, 1], xLabel: "steps of refinement", yLabel: "nats", aspect: 1 });
  const seen = digitCanvas("");
  const decoded = digitCanvas("");
  const said = sentence();
  const blank = new Float64Array(784);

  const budget = frameBudget();
  /* A part of the posterior, in a frame that has nothing else to do. */
  function advance() {
    if (!x || pad.isDown() || refining || posterior?.logEvidence != null) return;
    const end = budget();
    if (coarse.advance(end)) {
      posterior ??= fineGrid(decoder, x, coarse.boxOf(x));
      posterior.advance(end);
    }
    redraw();
  }

  function drawCloseUp(now) {
    const edges = (k) => {
      const around = ({ mu, sigma }) => [mu[k] - 3 * sigma[k], mu[k] + 3 * sigma[k]];
      return [...around(own), ...around(now), ...(posterior ? posterior.box[k] : [])];
    };
    // The same scale on both axes, so that squares fill a grid and no ellipse looks wider than it is.
    const room = [closeUp.canvas.clientWidth - 60, closeUp.canvas.clientHeight - 70];
    const spans = [0, 1].map((k) => [Math.min(...edges(k)), Math.max(...edges(k))]);
    const unit = Math.max(...spans.map(([low, high], k) => (high - low) / room[k])); // to a pixel
    [closeUp.range.x, closeUp.range.y] = spans.map(([low, high], k) => {
      const [middle, half] = [(low + high) / 2, (unit * room[k]) / 2];
      return [middle - half, middle + half];
    });
    if (!closeUp.start()) return;
    if (posterior?.logEvidence != null) {
      const { at, steps, logJoint } = posterior;
      const top = largestOf(logJoint);
      const dense = [...logJoint.keys()].filter((g) => logJoint[g] > top - 6);
      const points = dense.map(at);
      const most = (0.5 * Math.min(...steps)) / unit;
      closeUp.points(points.map((z) => z[0]), points.map((z) => z[1]), {
        shape: "square",
        color: 0,
        radius: (i) => Math.max(0.7, Math.min(9, most)) * Math.exp((logJoint[dense[i]] - top) / 2),
      });
    }
    const covariance = (s) => [[s[0] ** 2, 0], [0, s[1] ** 2]];
    closeUp.ellipse(now.mu, covariance(now.sigma), { color: 1, width: 3 });
    closeUp.ellipse(own.mu, covariance(own.sigma), { color: "text", width: 2, dash: [6, 4] });
  }

  function drawClimb() {
    const exact = posterior?.logEvidence;
    const values = exact == null ? curve : [...curve, exact];
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const margin = Math.max(0.5, 0.18 * (high - low));
    climb.range.x = [0, Math.max(STEPS, curve.length - 1)];
    climb.range.y = [low - margin, high + margin];
    if (!climb.start()) return;
    const end = climb.range.x[1];
    climb.line([0, end], [own.elbo, own.elbo], { color: "text", width: 1.5, dash: [6, 4] });
    climb.text("encoder", end, own.elbo, { align: "right", baseline: "top" });
    if (exact != null) {
      climb.line([0, end], [exact, exact], { color: 0 });
      climb.text("log p(x)", end, exact, { align: "right", color: 0 });
    }
    climb.line([...curve.keys()], curve, { color: 1, width: 3 });
    climb.points([curve.length - 1], [curve.at(-1)], { color: 1, radius: 6 });
  }

  function describe(now) {
    const where = ({ mu, sigma }) =>
      `mean ${mu.map((v) => signed(v)).join(", ")} and widths ${sigma.map((v) => signed(v)).join(", ")}`;
    const exact = posterior?.logEvidence;
    const steps = curve.length - 1;
    map.canvas.setAttribute("aria-label", `Map of ${labels.length} test digits; q has ${where(now)}`);
    closeUp.canvas.setAttribute(
      "aria-label",
      `Close-up of the true posterior and of two ellipses: the encoder's q with ${where(own)}, the present q with ${where(now)}`,
    );
    climb.canvas.setAttribute(
      "aria-label",
      `The bound over ${steps} steps, from ${signed(curve[0], 1)} to ${signed(curve.at(-1), 1)} nats`,
    );
    const answer = `The encoder's ELBO is ${signed(own.elbo, 1)} nats`;
    const after = steps ? `; after ${steps} steps it is ${signed(curve.at(-1), 1)}` : "";
    const gap = exact == null ? "." : `. log p(x) is ${signed(exact, 1)}: a gap of ${signed(exact - curve.at(-1), 2)} nats is left.`;
    said.say(answer + after + gap);
  }

  function draw() {
    const digit = model.get("digit");
    picker.input.value = String(digit);
    movers.forEach(({ update }, axis) => update(model.get("shift")[axis]));
    normalizer.input.checked = model.get("normalized");
    refineButton.disabled = againButton.disabled = !x;
    pad.paint(grey);
    const content = digit < 0 ? (x ? "your drawing" : "nothing yet") : `test digit ${digit + 1}, a ${digits[digit]}`;
    pad.canvas.setAttribute("aria-label", `Pad with ${content}`);
    drawDigit(seen, x ?? blank);
    seen.setAttribute("aria-label", x ? `What the encoder gets: ${x.reduce((sum, v) => sum + v, 0)} pixels of ink` : "No picture yet");
    if (!x) return drawNothing();
    const now = q();
    drawDigit(decoded, forward(decoder, now.mu).map((logit) => 1 / (1 + Math.exp(-logit))));
    decoded.setAttribute("aria-label", "The decoder's picture at the mean of q");
    map.draw(mapped, null, null, [
      { mean: now.mu, sigma: now.sigma },
      { mean: own.mu, sigma: own.sigma, dashed: true },
    ]);
    drawCloseUp(now);
    drawClimb();
    if (!refining && !pad.isDown()) describe(now); // a voice need not read out every step
    if (answered) advance();
    else redraw();
    answered = true;
  }
  function drawNothing() {
    drawDigit(decoded, blank);
    decoded.setAttribute("aria-label", "No picture yet");
    map.draw(mapped, null);
    map.canvas.setAttribute("aria-label", `Map of ${labels.length} test digits`);
    for (const [{ canvas, range, start }, label] of [[closeUp, "close-up"], [climb, "climb"]]) {
      [range.x, range.y] = [[0, 1], [0, 1]];
      start();
      canvas.setAttribute("aria-label", `No ${label} yet`);
    }
    said.say("The pad is empty. Draw a digit, or choose a test digit.");
  }

  const againButton = button("The encoder's answer", lookAndSet);
  const clearButton = button("Clear the pad", () => {
    if (model.get("digit") >= 0) return set({ digit: -1 });
    load(-1);
    lookAndSet();
  });
  const picture = (canvas, text) => h("div", { class: "em2vae-picture" }, canvas, h("span", {}, text));
  return {
    buttons: [refineButton, againButton, clearButton],
    content: [
      h("div", { class: "em2vae-axes" }, picker.element, normalizer.element),
      h("div", { class: "em2vae-body" },
        h("div", { class: "em2vae-side" },
          picture(pad.canvas, "Draw here"),
          h("div", { class: "em2vae-sliders" }, ...movers.map(({ element }) => element)),
          said.element,
        ),
        h("div", { class: "em2vae-side" },
          map.canvas,
          h("div", { class: "em2vae-pictures em2vae-equal" }, picture(seen, "What the encoder gets"), picture(decoded, "Decoded from the mean")),
        ),
        closeUp.canvas,
        climb.canvas,
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["mu", "sigma"],
  };
});
