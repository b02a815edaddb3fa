import {
  button, bytesOf, digitCanvas, drawDigit, encode, forward, h, interactive, largest, latentMap,
  select, sentence, signed, slider, subscript, unpackHalves, unpackNetwork,
} from "./shared.js";

const INTERPOLATION_MS = 2000;
const caption = (noun) =>
  `Drag on the map or move a slider: the decoder draws p(x | z) at once. A ${noun} goes through the ` +
  `encoder first. Interpolate walks in a straight line to the code of another ${noun}.`;

/* Calls step(t) for t from 0 to 1 over the given time, while it returns true; where motion is not
   wanted, once with 1. */
function animate(milliseconds, step) {
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return void step(1);
  let start;
  const frame = (now) => {
    start ??= now;
    const t = Math.min(1, (now - start) / milliseconds);
    if (step(t) && t < 1) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

/* The mean of p(x | z) in [0, 1], from what the decoder gives: for each number of the picture one,
   or a centre and, after all centres, a log-scale (em2vae/pixels.py). */
const means = {
  bernoulli: (out) => out.map((logit) => 1 / (1 + Math.exp(-logit))),
  gaussian: (out) => out.slice(0, out.length / 2).map((mu) => mu + 0.5),
  // Of 256 levels: the sum over the edges between them as an integral, right to half a level.
  logistic: (out) =>
    out.slice(0, out.length / 2).map((mu, i) => {
      const scale = Math.exp(out[out.length / 2 + i] - 2);
      const above = (edge) => scale * softplus((mu + 0.5 - edge) / scale);
      return (256 / 255) * (above(1 / 512) - above(511 / 512));
    }),
};

/* Values in [0, 1], channel after channel, of a canvas' size; one channel is grey. */
function drawPicture(canvas, values) {
  const picture = new ImageData(canvas.width, canvas.height);
  const count = picture.width * picture.height;
  const plane = values.length > count ? count : 0; // from a channel to the next
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) picture.data[4 * i + c] = 255 * values[i + c * plane]; // rounded and clamped
    picture.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

function gaussian() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

export default interactive(({ model, redraw, set }) => {
  // State
  const decoder = unpackNetwork(model.get("_decoder"), model.get("_decoder_weights"));
  const encoder = unpackNetwork(model.get("_encoder"), model.get("_encoder_weights"));
  const labels = bytesOf(model.get("_labels"));
  const images = bytesOf(model.get("_images"));
  const codes = unpackHalves(model.get("_codes"));
  const active = model.get("active");
  const kl = model.get("kl");
  const K = codes.length / labels.length;
  const limit = Math.max(3, Math.ceil(largest(codes)));
  const name = (k) => `z${subscript(k + 1)}`;
  const [channels, height, width] = model.get("_shape");
  const D = channels * height * width;
  const bits = (n) => Uint8Array.from({ length: D }, (_, i) => (images[(D / 8) * n + (i >> 3)] >> (7 - (i & 7))) & 1);
  const levels = (n) => Float32Array.from(images.subarray(D * n, D * (n + 1)), (byte) => byte / 255);
  const [image, drawImage] = model.get("_ink") ? [bits, drawDigit] : [levels, drawPicture];
  const mean = means[model.get("_likelihood")];
  const noun = model.get("_noun");
  const names = model.get("_names");
  const marks = model.get("_marks");
  const called = (n) => (names.length ? names[labels[n]] : `number ${n + 1}`);
  const axes = [active[0], active[1] ?? (active[0] + 1) % K].sort((a, b) => a - b);
  let path = null; // {from, to, digit, byHand}: the walk that the interpolation slider follows

  const setZ = (z) => set({ z: [...z] });
  function setCoordinates(changes) {
    const z = [...model.get("z")];
    for (const [k, value] of changes) z[k] = value;
    path = null;
    setZ(z);
  }
  const nextDigit = () => (model.get("digit") + 1) % labels.length;

  // Controls
  function showDigit(n) {
    path = null;
    if (n >= 0) setZ(encode(encoder, image(n)).mu);
  }
  function showPriorSample() {
    model.set("digit", -1);
    setZ(Array.from({ length: K }, gaussian));
  }
  function walk(t) {
    walked.update(t);
    setZ(path.from.map((from, k) => from + t * (path.to[k] - from)));
  }
  function interpolate() {
    if (path) model.set("digit", path.digit); // the last target is where the next walk starts
    const digit = nextDigit();
    const walking = (path = { from: model.get("z"), to: encode(encoder, image(digit)).mu, digit });
    animate(INTERPOLATION_MS, (t) => {
      const goesOn = path === walking && !walking.byHand;
      if (goesOn) walk(t);
      return goesOn;
    });
  }
  const sliders = active.map((k, i) =>
    slider({
      label: name(k),
      note: `${kl[i].toFixed(1)} nats`,
      min: -limit,
      max: limit,
      step: 0.05,
      value: model.get("z")[k],
      format: signed,
      oninput: (value) => setCoordinates([[k, value]]),
    }),
  );
  const sliderGrid = h("div", { class: "em2vae-sliders" }, ...sliders.map(({ element }) => element));
  const walked = slider({
    label: "Interpolation",
    min: 0,
    max: 1,
    step: 0.01,
    value: 0,
    format: (t) => `${Math.round(100 * t)} %`,
    oninput: (t) => {
      path.byHand = true;
      walk(t);
    },
  });
  const map = latentMap({
    colors: model.get("_colors"),
    marks,
    limit,
    onpick: (x, y) => setCoordinates([[axes[0], x], [axes[1], y]]),
  });
  const axisSelects = ["Across", "Up"].map((label, axis) =>
    select({
      label,
      options: [...new Set([...active, ...axes])].map((k) => [String(k), name(k)]),
      value: String(axes[axis]),
      onchange: (k) => {
        if (axes[1 - axis] === Number(k)) axes[1 - axis] = axes[axis]; // never twice the same
        axes[axis] = Number(k);
        axisSelects.forEach(({ input }, which) => (input.value = String(axes[which])));
        redraw();
      },
    }),
  );
  const picker = K > 2 ? h("div", { class: "em2vae-axes" }, ...axisSelects.map(({ element }) => element)) : "";

  // Draw
  const picture = (label) => {
    const canvas = digitCanvas(label, width);
    canvas.height = height;
    const text = h("span", {}, label);
    return { canvas, text, element: h("div", { class: "em2vae-picture" }, canvas, text) };
  };
  const original = picture("Original");
  const decoded = picture("Decoded from z");
  const target = picture("Target");
  const said = sentence();
  const axisValues = (axis) => Float32Array.from(labels, (_, n) => codes[n * K + axes[axis]]);

  function drawDigitOrNone({ canvas, text, element }, role, n) {
    element.hidden = n < 0;
    if (n < 0) return;
    drawImage(canvas, image(n));
    text.textContent = `${role}: ${called(n)}`;
    canvas.setAttribute("aria-label", `${role}: ${called(n)}, a ${noun}`);
  }
  function nearest(z) {
    let best = -1;
    let least = Infinity;
    for (let n = 0; n < labels.length; n++) {
      let distance = 0;
      for (const k of active) distance += (codes[n * K + k] - z[k]) ** 2;
      if (distance < least) [best, least] = [n, distance];
    }
    return called(best);
  }
  let mapped = { key: "" };
  function draw() {
    const z = model.get("z");
    const digit = model.get("digit");
    const near = nearest(z);
    drawImage(decoded.canvas, mean(forward(decoder, z)));
    decoded.canvas.setAttribute("aria-label", `Decoded from z: most like ${near}`);
    drawDigitOrNone(original, "Original", digit);
    drawDigitOrNone(target, "Target", path ? path.digit : -1);
    walked.element.hidden = !path;
    active.forEach((k, i) => sliders[i].update(z[k]));
    const key = axes.join();
    if (mapped.key !== key)
      mapped = { key, labels, xs: axisValues(0), ys: axisValues(1), names: axes.map(name) };
    const onAxes = (point) => axes.map((k) => point[k]);
    map.draw(mapped, onAxes(z), path && [onAxes(path.from), onAxes(path.to)]);
    const point = axes.map((k) => `${name(k)} = ${signed(z[k])}`).join(", ");
    map.canvas.setAttribute(
      "aria-label",
      `Map of ${labels.length} ${noun}s by ${name(axes[0])} and ${name(axes[1])}, point at ${point}`,
    );
    said.say(`At ${point}${K > 2 ? ` (and ${K - 2} more)` : ""} the nearest ${noun} is ${near}.`);
  }

  model.on("change:digit", () => showDigit(model.get("digit")));
  return {
    buttons: [
      button(`A ${noun}`, () => set({ digit: nextDigit() })),
      button("A prior sample", showPriorSample),
      button("Interpolate", interpolate),
    ],
    content: [
      h(
        "div",
        { class: "em2vae-body" },
        h("div", {}, picker, map.canvas),
        h(
          "div",
          { class: "em2vae-side" },
          h("div", { class: "em2vae-pictures" }, decoded.element, original.element, target.element),
          walked.element,
          said.element,
          K > 2 ? "" : sliderGrid,
        ),
      ),
      K > 2 ? sliderGrid : "",
    ],
    caption: [caption(noun), model.get("_legend")].join(" ").trim(),
    draw,
    traits: ["z", "digit"],
  };
});
