import {
  button, bytesOf, bytesOfLayers, decode, digitCanvas, drawDigit, h, interactive, plot, seededRandom,
  select, sentence, unpackHalves, unpackNetwork,
} from "./shared.js";

const COLUMNS = 8; // images in a row
const PRESETS = [
  ["The bound", {}],
  ["Mean over pixels", { pixels: "mean" }],
  ["Mean over latents", { latents: "mean" }],
  ["Means everywhere", { pixels: "mean", latents: "mean" }],
  ["KL sum over batch", { pixels: "mean", kl_images: "sum" }],
  ["Weight 0.00025", { error: "squared error", pixels: "mean", weight: 0.00025, n_pixels: 12288, n_latents: 128 }],
];
const BOUND = {
  error: "cross-entropy", pixels: "sum", images: "mean", latents: "sum", kl_images: "mean", weight: 1,
  n_pixels: 784, n_latents: 8,
};
const CAPTION =
  "Pick a loss, or build one: how each term is reduced, and the weight of its KL. The words say which β it implies. The pictures come from " +
  "the model whose training used the nearest β (always 784 pixels and 8 latent variables); the plot shows what that one pays for its " +
  "codes and for its errors (half the squared error, where that is the loss). Look for the loss whose samples are all the same, and for one whose samples are no digits.";

/* Whole numbers in full, others with four significant digits. */
const brief = (value) =>
  Number.isInteger(value) ? value.toLocaleString("en") : String(Number(value.toPrecision(4)));

/* The factors of beta (eq. implied-beta), each with its reason. */
function factors({ error, pixels, images, latents, kl_images, weight, n_pixels, n_latents, batch_size }) {
  return [
    { value: weight, reason: "weight" },
    error === "squared error" && { value: 0.5, reason: "no half before the square" },
    pixels === "mean" && { value: n_pixels, reason: "mean over pixels" },
    images === "mean" && { value: batch_size, reason: "error averaged over the batch" },
    latents === "mean" && { value: n_latents, below: true, reason: "mean over latents" },
    kl_images === "mean" && { value: batch_size, below: true, reason: "KL averaged over the batch" },
  ].filter(Boolean);
}

const product = (list) => list.reduce((beta, { value, below }) => (below ? beta / value : beta * value), 1);

/* The batch drops out where both terms treat it alike. */
function written(list, beta) {
  const batch = list.filter(({ reason }) => reason.endsWith("the batch"));
  const shown = list.filter((factor) => batch.length < 2 || !batch.includes(factor));
  const terms = shown.map(({ value, below, reason }, i) => `${below ? " ÷ " : i ? " × " : ""}${brief(value)} (${reason})`);
  return `β = ${terms.join("")} = ${brief(beta)}`;
}

function verdict(error, beta) {
  if (error === "squared error")
    return `That is β at unit variance; it is also the exact bound, β = 1, of a normal decoder with σ² = ${brief(beta)}.`;
  if (Math.abs(beta - 1) < 1e-9) return "That is the bound itself, up to a factor.";
  return beta > 1 ? "That is a looser bound on log p(x), up to a factor." : "That is no bound on log p(x).";
}

export default interactive(({ model, set }) => {
  // State
  const models = model.get("_models");
  const originals = bytesOf(model.get("_originals"));
  const codes = unpackHalves(model.get("_codes"));
  const K = codes.length / models.length / COLUMNS;
  const traits = [...Object.keys(BOUND), "batch_size"];
  const chosen = () => Object.fromEntries(traits.map((trait) => [trait, model.get(trait)]));
  const distance = (beta, other) => Math.abs(Math.log(beta / other));
  const familyOf = (error) => models.filter((m) => m.error === error);
  const nearest = (error, beta) =>
    familyOf(error).reduce((best, m) => (distance(beta, m.beta) < distance(beta, best.beta) ? m : best));
  const networks = new Map(); // unpacked when first shown
  function networkOf(m) {
    if (!networks.has(m)) {
      const { buffer, byteOffset } = model.get("_parameters");
      const view = new DataView(buffer, byteOffset + m.start, bytesOfLayers(m.decoder));
      networks.set(m, unpackNetwork(m.decoder, view));
    }
    return networks.get(m);
  }

  // Controls
  const controls = {};
  function choice(trait, label, options) {
    const asValue = typeof options[0] === "number" ? Number : String;
    controls[trait] = select({
      label,
      options: options.map((option) => [String(option), typeof option === "number" ? option.toLocaleString("en", { maximumFractionDigits: 5 }) : option]),
      value: String(model.get(trait)),
      onchange: (value) => set({ [trait]: asValue(value) }),
    });
    return controls[trait].element;
  }
  const reductions = ["sum", "mean"];
  const sizes = model.get("_choices");
  const group = (title, ...elements) =>
    h("div", { role: "group", "aria-label": title }, h("strong", {}, title), h("div", { class: "em2vae-axes" }, ...elements));
  const groups = [
    group(
      "Error of the picture",
      choice("error", "Kind", ["cross-entropy", "squared error"]),
      choice("pixels", "Over pixels", reductions),
      choice("images", "Error over the batch", reductions),
    ),
    group(
      "KL of the code",
      choice("latents", "Over latents", reductions),
      choice("kl_images", "KL over the batch", reductions),
      choice("weight", "Weight", model.get("_weights_offered")),
    ),
    group(
      "Sizes",
      choice("n_pixels", "Pixels D", sizes.n_pixels),
      choice("n_latents", "Latents K", sizes.n_latents),
      choice("batch_size", "Batch B", sizes.batch_size),
    ),
  ];

  // Draw
  const curve = plot({
    palette: model.get("_palette"), x: [0, 70], y: [0, 100], aspect: 1.7,
    xLabel: "rate: KL (nats)", yLabel: "distortion (nats)",
  });
  const row = (name) => {
    const canvas = digitCanvas(name, 28 * COLUMNS);
    canvas.height = 28;
    return { canvas, element: h("div", { class: "em2vae-picture" }, h("span", {}, name), canvas) };
  };
  const rows = ["Originals", "Reconstructions (at the mean code)", "Samples from the prior"].map(row);
  const words = sentence();

  function drawPictures(m) {
    const network = networkOf(m);
    const noise = seededRandom(model.get("seed"));
    const first = m.error === "squared error" ? COLUMNS : 0;
    const start = models.indexOf(m) * COLUMNS * K;
    for (let n = 0; n < COLUMNS; n++) {
      const image = originals.subarray(784 * (first + n), 784 * (first + n + 1));
      drawDigit(rows[0].canvas, Float32Array.from(image, (byte) => byte / 255), n);
      drawDigit(rows[1].canvas, decode(network, codes.subarray(start + n * K, start + (n + 1) * K)), n);
      drawDigit(rows[2].canvas, decode(network, Float32Array.from({ length: K }, noise.normal)), n);
    }
    const trained = `of the model trained at beta ${brief(m.beta)}`;
    rows[0].canvas.setAttribute("aria-label", `${COLUMNS} test images`);
    rows[1].canvas.setAttribute("aria-label", `Reconstructions ${trained}`);
    rows[2].canvas.setAttribute("aria-label", `Samples ${trained}, seed ${model.get("seed")}`);
  }
  function drawCurve(m) {
    const family = familyOf(m.error);
    const [rates, distortions] = ["rate", "distortion"].map((key) => family.map((one) => one[key]));
    curve.range.x = [-0.05 * Math.max(...rates), 1.12 * Math.max(...rates)];
    curve.range.y = [0, 1.12 * Math.max(...distortions)];
    if (!curve.start()) return;
    curve.line(rates, distortions, { color: 0, width: 1.5 });
    curve.points(rates, distortions, { color: 0, radius: 4 });
    curve.points([m.rate], [m.distortion], { color: 1, radius: 7 });
    curve.points([m.rate], [m.distortion], { color: "text", shape: "ring", radius: 10 });
  }
  function draw() {
    const state = chosen();
    for (const [trait, { input }] of Object.entries(controls)) input.value = String(state[trait]);
    const list = factors(state);
    const beta = product(list);
    const m = nearest(state.error, beta);
    drawPictures(m);
    drawCurve(m);
    const paid = `rate ${m.rate.toFixed(1)} nats, distortion ${m.distortion.toFixed(1)} nats`;
    words.say(
      `${written(list, beta)}. ${verdict(state.error, beta)} ` +
      `Shown: the model trained at ${state.error === "squared error" ? "σ²" : "β"} = ${brief(m.beta)}, ${paid}. ` +
      `Sizes of the loss: D = ${brief(state.n_pixels)}, K = ${brief(state.n_latents)}, B = ${brief(state.batch_size)}.`,
    );
    curve.canvas.setAttribute(
      "aria-label",
      `Distortion against rate of ${familyOf(m.error).length} trained models: more rate, less distortion. Current model: ${paid}`,
    );
  }

  const presets = PRESETS.map(([name, changes]) => button(name, () => set({ ...BOUND, ...changes })));
  return {
    buttons: [...presets, button("New samples", () => set({ seed: model.get("seed") + 1 }))],
    content: [
      h(
        "div",
        { class: "em2vae-body" },
        h("div", { class: "em2vae-side" }, words.element, ...rows.map(({ element }) => element)),
        h("div", { class: "em2vae-side" }, ...groups, curve.canvas),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: [...traits, "seed"],
  };
});
