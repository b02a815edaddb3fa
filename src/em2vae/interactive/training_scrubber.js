import {
  button, bytesOf, decode, digitCanvas, drawDigit, h, interactive, largest, latentMap, sentence,
  signed, slider, unpackHalves, unpackNetwork,
} from "./shared.js";

const COLUMNS = 5;
const MS_PER_STEP = 350;
const CAPTION =
  "Drag through the epochs. Left: the codes of 500 test digits find their places; drag on the map to " +
  "move the point (codes beyond the frame stand at its edge). Right: the decoder's picture at that point, and what it makes of 20 fixed draws from the prior.";

export default interactive(({ model, set }) => {
  // State
  const epochs = model.get("epochs");
  if (!epochs.length) throw new Error("it has recorded nothing yet; pass recorder(vae) to fit as on_epoch, then show it");
  const elbo = model.get("elbo");
  const labels = bytesOf(model.get("_labels"));
  const prior = unpackHalves(model.get("_prior"));
  const weights = model.get("_weights");
  const bytes = weights.byteLength / epochs.length;
  const decoders = model
    .get("_decoders")
    .map((spec, step) => unpackNetwork(spec, new DataView(weights.buffer, weights.byteOffset + step * bytes, bytes)));
  const codes = unpackHalves(model.get("_codes"));
  const limit = Math.max(3, Math.ceil(largest(codes.slice(-2 * labels.length)))); // at the end
  const codesAt = (step, axis) => labels.length * 2 * step + axis;
  const maps = epochs.map((epoch, step) => ({
    key: String(step),
    labels,
    names: ["z₁", "z₂"],
    xs: Float32Array.from(labels, (_, n) => codes[codesAt(step, 0) + 2 * n]),
    ys: Float32Array.from(labels, (_, n) => codes[codesAt(step, 1) + 2 * n]),
  }));
  // Controls
  let playing = null;
  const scrub = slider({
    label: "Epochs of training",
    min: 0,
    max: epochs.length - 1,
    step: 1,
    value: model.get("step"),
    format: (step) => String(epochs[step]),
    oninput: (step) => {
      playing = null;
      set({ step: step });
    },
  });
  function play() {
    const run = (playing = {});
    const show = (step) => {
      if (playing !== run) return;
      set({ step: step });
      // Timed from the frame that paints this step, so that none is skipped on a slow machine.
      if (step + 1 < epochs.length) requestAnimationFrame(() => setTimeout(show, MS_PER_STEP, step + 1));
    };
    show(0);
  }
  const coordinate = (axis) =>
    slider({
      label: maps[0].names[axis],
      min: -limit,
      max: limit,
      step: 0.05,
      value: model.get("z")[axis],
      format: signed,
      oninput: (value) => set({ z: axis ? [model.get("z")[0], value] : [value, model.get("z")[1]] }),
    });
  const coordinates = [coordinate(0), coordinate(1)];
  const map = latentMap({ colors: model.get("_colors"), limit, onpick: (x, y) => set({ z: [x, y] }) });

  // Draw
  const atPoint = digitCanvas("");
  const samples = digitCanvas("", 28 * COLUMNS);
  const rows = prior.length / 2 / COLUMNS;
  samples.height = 28 * rows;
  const said = sentence();

  function draw() {
    const step = model.get("step");
    const z = model.get("z");
    const decoder = decoders[step];
    scrub.update(step);
    coordinates.forEach(({ update }, axis) => update(z[axis]));
    map.draw(maps[step], z);
    drawDigit(atPoint, decode(decoder, z));
    for (let n = 0; n < prior.length / 2; n++)
      drawDigit(samples, decode(decoder, prior.subarray(2 * n, 2 * n + 2)), n % COLUMNS, Math.floor(n / COLUMNS));
    const when = `after ${epochs[step]} ${epochs[step] === 1 ? "epoch" : "epochs"}`;
    const where = `z₁ = ${signed(z[0])}, z₂ = ${signed(z[1])}`;
    map.canvas.setAttribute("aria-label", `Map of ${labels.length} test digits ${when}, point at ${where}`);
    atPoint.setAttribute("aria-label", `The decoder's picture at ${where} ${when}`);
    samples.setAttribute("aria-label", `${prior.length / 2} pictures decoded from the prior ${when}`);
    said.say(`${when[0].toUpperCase()}${when.slice(1)} the test bound is ${signed(elbo[step], 1)} nats an image.`);
  }

  return {
    buttons: [button("Play the training", play)],
    content: [
      scrub.element,
      h(
        "div",
        { class: "em2vae-body" },
        map.canvas,
        h(
          "div",
          { class: "em2vae-side" },
          said.element,
          h("div", { class: "em2vae-pictures em2vae-even" },
            h("div", { class: "em2vae-picture" }, atPoint, h("span", {}, "At the point")),
            h("div", { class: "em2vae-picture" }, samples, h("span", {}, "Prior samples")),
          ),
          ...coordinates.map(({ element }) => element),
        ),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["step", "z"],
  };
});
