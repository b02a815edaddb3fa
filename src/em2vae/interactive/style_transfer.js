import {
  SIDE, button, bytesOf, colorsOf, decode, digitCanvas, drawDigit, drawingPad, encode, forward, frameBudget, h,
  inkOf, interactive, klToPrior, logBernoulli, normalize, plot, seededRandom, select, sentence, signed,
  slider, stroke, subscript, unpackNetwork,
} from "./shared.js";

const LABELS = [...Array(10).keys()];
const named = (digit) => `${digit === 8 ? "an" : "a"} ${digit}`;
const COLUMNS = 5; // of the sheet with the ten digits
const SAME = 0.02; // two styles this close are one: a slider's step is 0.05
const BESIDE_MS = 2; // of work on the bounds in a frame that also draws ten digits,
const SPENT_MS = 6; // unless that alone took longer than this
const FOLLOW_MS = 200; // between two moves of the sliders while the pen is down: each lays out the page
const CAPTION =
  "Draw a digit with a mouse, a finger or a pen, and say which digit it is: the encoder reads the style z, and " +
  "the decoder writes all ten in it. Then tell it a wrong label: the log-likelihood falls, and the KL hardly moves. " +
  "The bars are about the drawing, whatever the sliders show. ";

// The bound under each label -------------------------------------------------------------------

/* Numbers with the label beside them, as a one and zeros. */
function beside(values, label) {
  const input = new Float64Array(values.length + LABELS.length);
  input.set(values);
  input[values.length + label] = 1;
  return input;
}

/* q(z|x, y) */
function posterior(encoder, x, label) {
  const { mu, logVar } = encode(encoder, beside(x, label));
  return { mu: [...mu], sigma: Array.from(logVar, (v) => Math.exp(v / 2)) };
}

/* The terms of the bound on log p(x|y) for each label y (eq. conditional-elbo), the log-likelihood
   averaged over points with q's mean and covariance: style_transfer.py, cubature. Rests after every pass through the decoder. */
function* termsOf(encoder, decoder, eps, x) {
  const terms = [];
  for (const label of LABELS) {
    const q = posterior(encoder, x, label);
    let sum = 0;
    for (const e of eps) {
      const z = q.mu.map((m, k) => m + q.sigma[k] * e[k]); // eq. reparameterize
      sum += logBernoulli(forward(decoder, beside(z, label)), x);
      yield;
    }
    const [logLikelihood, kl] = [sum / eps.length, klToPrior(q)];
    terms.push({ logLikelihood, kl, elbo: logLikelihood - kl });
  }
  return terms;
}

/* The labels from the highest bound down, each with its share if the bounds were log p(x|y) and all
   labels equally likely before. */
function ranked(terms) {
  const top = Math.max(...terms.map(({ elbo }) => elbo));
  const total = terms.reduce((sum, { elbo }) => sum + Math.exp(elbo - top), 0);
  const shares = terms.map(({ elbo }, label) => ({ label, elbo, share: Math.exp(elbo - top) / total }));
  return shares.sort((a, b) => b.elbo - a.elbo);
}

// What the drawing costs under each label ------------------------------------------------------

function costs(palette) {
  const figure = plot({
    palette, x: [-0.6, 9.6], y: [0, 200], xTicks: 11, xLabel: "label", yLabel: "nats: KL, and −log-likelihood above", aspect: 2, minor: true,
  });
  let drawn = []; // what it shows, and on what
  function draw(terms, told) {
    const { text, soft } = colorsOf(figure.canvas);
    const now = [terms, told, figure.canvas.clientWidth, text, soft];
    if (now.every((value, i) => value === drawn[i])) return;
    drawn = now;
    const totals = terms.map(({ elbo }) => -elbo);
    const best = totals.indexOf(Math.min(...totals));
    figure.range.y = [0, 50 * Math.ceil(Math.max(120, 1.12 * Math.max(0, ...totals)) / 50)]; // it seldom changes
    const texts = terms.map(({ elbo, kl }, label) => `${label}: ${signed(-elbo, 1)}, of it KL ${signed(kl, 1)}`);
    figure.canvas.setAttribute("aria-label", `Bars, minus the bound under each label in nats. ${texts.join("; ") || "No drawing yet"}`);
    if (!figure.start()) return;
    terms.forEach(({ kl }, label) => {
      const sides = [label - 0.36, label + 0.36];
      figure.area(sides, [kl, kl], { color: 0, alpha: 0.95 });
      figure.area(sides, [totals[label], totals[label]], { base: kl, color: 1, alpha: 0.45 });
    });
    if (!terms.length) return;
    const marks = told === best ? [[told, "told, best"]] : [[told, "told"], [best, "best"]];
    for (const [label, text] of marks) figure.text(text, label, totals[label]);
  }
  return { canvas: figure.canvas, draw };
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, redraw, set }) => {
  // State
  const encoder = unpackNetwork(model.get("_encoder"), model.get("_encoder_weights"));
  const decoder = unpackNetwork(model.get("_decoder"), model.get("_decoder_weights"));
  const eps = model.get("_eps");
  const images = bytesOf(model.get("_images"));
  const digits = model.get("_digits");
  const active = model.get("active");
  const limit = model.get("_limit");
  const { normal } = seededRandom(0);
  let ink; // on the pad
  let x = null; // what the encoder gets, or null while the pad is empty
  let mu = null; // its style under the label that the encoder is told
  const nothing = { x: null, terms: [] };
  let found = nothing; // the bounds of the last picture that has all of them
  let work = null; // on the next one
  const painted = {}; // the x and z that the pictures show
  let moved = -Infinity; // when the sliders last were
  const settled = () => found.x === x;
  const isNear = (z, other) => z.every((value, k) => Math.abs(value - other[k]) < SAME);

  function load(digit) {
    ink = digit < 0 ? new Float64Array(SIDE * SIDE) : inkOf(images.subarray(784 * digit, 784 * (digit + 1)));
    look();
  }
  /* From the pad to x: normalize, binarize. */
  function look() {
    x = ink.some((v) => v > 0) ? normalize(ink).map((v) => (v > 0.5 ? 1 : 0)) : null;
    if (!x) [found, work] = [nothing, null];
  }
  /* The style that the encoder reads from the drawing under a label, as a change of traits. */
  function read(told) {
    if (!x) return {};
    mu = posterior(encoder, x, told).mu;
    return { z: mu };
  }
  load(model.get("digit"));
  read(model.get("told"));

  // Controls
  const pad = drawingPad({
    onpen(from, to, first) {
      if (first && model.get("digit") >= 0) set({ digit: -1 }); // clears the pad
      ink = ink.slice();
      stroke(ink, from, to);
      look();
      set(read(model.get("told")));
    },
    onlift: redraw,
  });
  const padPicker = select({
    label: "On the pad",
    options: [["-1", "my drawing"], ...digits.map((digit, n) => [String(n), `test digit ${n + 1}: ${named(digit)}`])],
    value: String(model.get("digit")),
    onchange: (n) => pick(Number(n)),
  });
  const toldPicker = select({
    label: "The encoder is told",
    options: LABELS.map((label) => [String(label), named(label)]),
    value: String(model.get("told")),
    onchange: (label) => tell(Number(label)),
  });
  const tell = (told) => set({ told, ...read(told) });
  function pick(digit) {
    set({ digit });
    tell(digit < 0 ? model.get("told") : digits[digit]);
  }
  const sliders = active.map((k, i) =>
    slider({
      label: `z${subscript(k + 1)}`,
      note: `${model.get("kl")[i].toFixed(1)} nats`,
      min: -limit,
      max: limit,
      step: 0.05,
      value: model.get("z")[k],
      format: signed,
      oninput: (value) => set({ z: model.get("z").map((old, j) => (j === k ? value : old)) }),
    }),
  );
  const zeroButton = button("Zero style", () => set({ z: model.get("z").map(() => 0) }));
  const priorButton = button("Prior style", () => set({ z: model.get("z").map(normal) }));
  const ownButton = button("Drawn style", () => set({ z: mu }));
  const bestButton = button("Tell the best label", () => tell(ranked(found.terms)[0].label));
  const clearButton = button("Clear the pad", () => {
    if (model.get("digit") >= 0) return pick(-1);
    load(-1);
    redraw();
  });
  // A kernel changes these, and sends z with them where it knows the picture.
  model.on("change:digit", () => {
    load(model.get("digit"));
    read(model.get("told"));
  });
  model.on("change:told", () => {
    const style = read(model.get("told"));
    if (model.get("digit") < 0) set(style);
  });

  // Draw
  const sheet = digitCanvas("The digits 0 to 9, all in the style z", 28 * COLUMNS);
  sheet.height = 28 * (LABELS.length / COLUMNS);
  const seen = digitCanvas("");
  const bars = costs(model.get("_palette"));
  const said = sentence();
  const blank = new Float64Array(784);

  function drawSheet(z) {
    const key = z.join();
    if (key === painted.z) return false;
    painted.z = key;
    for (const label of LABELS)
      drawDigit(sheet, decode(decoder, beside(z, label)), label % COLUMNS, Math.floor(label / COLUMNS));
    return true;
  }
  function drawSeen() {
    if (painted.x === x) return;
    painted.x = x;
    drawDigit(seen, x ?? blank);
    seen.setAttribute("aria-label", x ? `What the encoder gets: ${x.reduce((sum, v) => sum + v, 0)} pixels of ink` : "No picture yet");
  }
  /* Whether the sliders stand where z is. */
  function drawSliders(z) {
    const now = performance.now();
    if (pad.isDown() && now - moved < FOLLOW_MS) return false;
    moved = now;
    active.forEach((k, i) => sliders[i].update(z[k]));
    return true;
  }
  const budget = frameBudget();
  /* A part of the bounds. A pen that moves on does not start them anew: they follow it. */
  function advance(end) {
    work ??= { x, steps: termsOf(encoder, decoder, eps, x) };
    let step;
    do step = work.steps.next();
    while (!step.done && performance.now() < end);
    if (step.done) {
      found = { x: work.x, terms: step.value };
      work = null;
    }
  }

  function describe(z, told) {
    const { kl, logLikelihood, elbo } = found.terms[told];
    const [best, second] = ranked(found.terms);
    const percent = (share) => `${share < 0.005 ? "under 1" : Math.round(100 * share)} %`;
    const shares = best.share > 0.995 ? "over 99 %" : `${percent(best.share)}, ${named(second.label)} with ${percent(second.share)}`;
    const read = `Told ${named(told)}, the encoder spends ${signed(kl, 1)} nats (KL) on the style; the log-likelihood is ${signed(logLikelihood, 1)}, the bound ${signed(elbo, 1)} nats. `;
    const highest = best.label === told ? "This is the highest of the ten bounds. " : `The highest of the ten bounds is that of ${best.label}, ${signed(best.elbo, 1)}. `;
    const guess = `If bounds were log p(x | y), the drawing would be ${named(best.label)} with ${shares}.`;
    const other = isNear(z, mu) ? "" : ` The ten digits show ${isNear(z, blank) ? "the zero style" : "another style"}, not the drawing's.`;
    said.say(read + highest + guess + other);
  }

  function draw() {
    const [began, rest] = [performance.now(), budget()];
    const [digit, told, z] = ["digit", "told", "z"].map((trait) => model.get(trait));
    padPicker.input.value = String(digit);
    toldPicker.input.value = String(told);
    const follow = drawSliders(z);
    pad.paint(ink);
    const content = digit < 0 ? (x ? "your drawing" : "nothing yet") : `test digit ${digit + 1}, ${named(digits[digit])}`;
    pad.canvas.setAttribute("aria-label", `Pad with ${content}`);
    drawSeen();
    const busy = drawSheet(z);
    bars.draw(found.terms, told);
    ownButton.disabled = clearButton.disabled = !x;
    bestButton.disabled = !x || !settled() || ranked(found.terms)[0].label === told;
    if (!x) said.say(`The pad is empty; the ten digits show the style of the sliders. Draw a digit: the encoder will be told that it is ${named(told)}.`);
    else if (settled() && !pad.isDown()) describe(z, told);
    if (!follow || !settled()) redraw();
    if (settled()) return;
    const now = performance.now();
    if (!busy) advance(rest);
    else if (now - began < SPENT_MS) advance(now + BESIDE_MS);
  }

  const picture = (canvas, text, kind = "") => h("div", { class: `em2vae-picture ${kind}` }, canvas, h("span", {}, text));
  return {
    buttons: [zeroButton, priorButton, ownButton, clearButton],
    content: [
      h("div", { class: "em2vae-axes" }, padPicker.element, toldPicker.element, bestButton),
      h("div", { class: "em2vae-hand" },
        picture(pad.canvas, "Draw here"),
        picture(sheet, "All ten digits in this style: the means of p(x | y, z)"),
        h("div", { class: "em2vae-sliders" }, ...sliders.map(({ element }) => element)),
        picture(seen, "What the encoder gets", "em2vae-minor"),
        bars.canvas,
      ),
      said.element,
    ],
    caption: CAPTION + `The bounds average over ${eps.length} points z that have the mean and the covariance of q(z | x, y).`,
    draw,
    traits: ["digit", "told", "z"],
  };
});
