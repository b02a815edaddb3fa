import {
  button, bytesOf, decode, digitCanvas, drawDigit, h, interactive, latentMap, seededRandom, select,
  sentence, signed, slider, unpackHalves, unpackNetwork,
} from "./shared.js";

const COLUMNS = 5;
const N_DRAWS = 10;
const SLIDERS_STYLE = "grid-template-columns: repeat(auto-fit, minmax(min(100%, 12em), 1fr))"; // for long labels
const CAPTION =
  "Change the scale of the autoencoder's codes: its picture on the walk stays the same, what it makes of " +
  "standard normal draws does not. The circle holds 86 % of these draws; codes beyond a frame stand " +
  "at its edge. Then walk between the two digits, or drag a point on either map.";

export default interactive(({ model, redraw, set }) => {
  // State
  const labels = bytesOf(model.get("_labels"));
  const images = bytesOf(model.get("_images"));
  const image = (n) => Uint8Array.from({ length: 784 }, (_, i) => (images[98 * n + (i >> 3)] >> (7 - (i & 7))) & 1);
  const inkOf = (bits) => [...bits.keys()].filter((i) => bits[i]);
  const ink = Array.from(labels, (_, n) => inkOf(image(n)));
  const specs = model.get("_decoders");
  const side = (title, trait, prefix, spec) => ({
    title,
    trait,
    decoder: unpackNetwork(spec, model.get(`_${prefix}_weights`)),
    codes: unpackHalves(model.get(`_${prefix}_codes`)),
    scale: prefix === "ae" ? () => model.get("scale") : () => 1,
  });
  const sides = [side("Autoencoder", "code", "ae", specs[0]), side("VAE", "z", "vae", specs[1])];
  for (const one of sides) {
    const sizes = one.codes.map(Math.abs).sort();
    one.reach = 1.1 * sizes[Math.floor(0.98 * sizes.length)]; // a few stragglers stand at the edge
  }
  let seed = 0;
  let draws = [];
  function drawAgain() {
    const { normal } = seededRandom(seed++);
    draws = Array.from({ length: N_DRAWS }, () => [normal(), normal()]);
  }
  drawAgain();

  // eq. ae-scale: the decoder sees z / c, wherever the code is c times as large
  const picture = ({ decoder, scale }, z) => decode(decoder, z.map((value) => value / scale()));
  function walk() {
    const [start, end, t] = ["start", "end", "walked"].map((name) => model.get(name));
    const between = ({ codes, scale }) =>
      [0, 1].map((k) => scale() * (codes[2 * start + k] + t * (codes[2 * end + k] - codes[2 * start + k])));
    set(Object.fromEntries(sides.map((one) => [one.trait, between(one)])));
  }
  function rescale(scale) {
    const code = model.get("code").map((value) => (value * scale) / model.get("scale"));
    set({ scale, code });
  }
  const another = (n) => {
    for (let i = 1; i <= labels.length; i++) {
      const next = (n + i) % labels.length;
      if (labels[next] === labels[n]) return next;
    }
  };

  // Controls
  const kinds = [...new Set(labels)].sort();
  const choice = (label, name) =>
    select({
      label,
      options: kinds.map((digit) => [String(digit), `a ${digit}`]),
      value: String(labels[model.get(name)]),
      onchange: (digit) => {
        set({ [name]: labels.indexOf(Number(digit)) });
        walk();
      },
    });
  const choices = { start: choice("From", "start"), end: choice("to", "end") };
  const walked = slider({
    label: "Walk",
    note: "in both models",
    min: 0,
    max: 1,
    step: 0.01,
    value: model.get("walked"),
    format: (t) => `${Math.round(100 * t)} %`,
    oninput: (t) => {
      set({ walked: t });
      walk();
    },
  });
  const scaled = slider({
    label: "Scale of AE codes",
    min: -1,
    max: 1,
    step: 0.02,
    value: Math.log10(model.get("scale")),
    format: (power) => `× ${(10 ** power).toFixed(2)}`,
    oninput: (power) => rescale(Math.max(0.1, Math.min(10, 10 ** power))),
  });
  const move = ({ trait }, k, value) => set({ [trait]: model.get(trait).map((old, i) => (i === k ? value : old)) });
  for (const one of sides) {
    one.limit = () => Math.max(3, one.reach * one.scale());
    one.sliders = [0, 1].map((k) =>
      slider({
        label: `${one.trait === "z" ? "VAE" : "AE"} z${"₁₂"[k]}`,
        min: -one.limit(),
        max: one.limit(),
        step: "any",
        value: model.get(one.trait)[k],
        format: signed,
        oninput: (value) => move(one, k, value),
      }),
    );
    one.samples = digitCanvas("", 28 * COLUMNS);
    one.samples.height = 28 * (N_DRAWS / COLUMNS);
    one.point = digitCanvas("");
    one.map = latentMap({
      colors: model.get("_colors"),
      limit: one.limit(),
      onpick: (x, y) => set({ [one.trait]: [x, y] }),
    });
  }

  // Draw
  const said = sentence();
  const roles = ["Start", "End"];
  const endCanvases = roles.map((role) => digitCanvas(role));
  const endPicture = (canvas, i) =>
    h("div", { class: "em2vae-picture", style: "width: 3.2em" }, canvas, h("span", {}, roles[i]));
  const ends = h("div", { style: "display: flex; gap: 0.8em" }, ...endCanvases.map(endPicture));
  function nearest(pixels) {
    let [best, least] = [-1, Infinity];
    const empty = pixels.reduce((sum, p) => sum + p * p, 0);
    for (let n = 0; n < labels.length; n++) {
      let distance = empty;
      for (const i of ink[n]) distance += 1 - 2 * pixels[i]; // (1 - p)² in place of p²
      if (distance < least) [best, least] = [n, distance];
    }
    return { digit: labels[best], distance: Math.sqrt(Math.max(0, least)) };
  }
  function drawMap(one, z) {
    const scale = one.scale();
    const data = {
      key: String(scale),
      limit: one.limit(),
      labels,
      names: ["z₁", "z₂"],
      xs: Float32Array.from(labels, (_, n) => scale * one.codes[2 * n]),
      ys: Float32Array.from(labels, (_, n) => scale * one.codes[2 * n + 1]),
    };
    const [from, to] = ["start", "end"].map((name) => [0, 1].map((k) => scale * one.codes[2 * model.get(name) + k]));
    one.map.draw(data, z, [from, to], [{ mean: [0, 0], sigma: [1, 1] }]);
  }
  function draw() {
    const [start, end] = [model.get("start"), model.get("end")];
    const at = sides.map((one) => {
      const z = model.get(one.trait);
      const pixels = picture(one, z);
      drawMap(one, z);
      one.sliders.forEach(({ input, update }, k) => {
        [input.min, input.max] = [-one.limit(), one.limit()];
        update(z[k]);
      });
      drawDigit(one.point, pixels);
      draws.forEach((z, n) => drawDigit(one.samples, picture(one, z), n % COLUMNS, Math.floor(n / COLUMNS)));
      const found = nearest(pixels);
      const where = `${signed(z[0])} and ${signed(z[1])}`;
      one.map.canvas.setAttribute(
        "aria-label",
        `${one.title}: map of ${labels.length} test digits, frame from ${signed(-one.limit(), 1)} to ${signed(one.limit(), 1)}, point at ${where}`,
      );
      one.point.setAttribute("aria-label", `${one.title}: picture at the point, nearest to a ${found.digit}`);
      one.samples.setAttribute("aria-label", `${one.title}: ${N_DRAWS} standard normal draws, decoded`);
      return found;
    });
    [start, end].forEach((n, i) => {
      drawDigit(endCanvases[i], image(n));
      endCanvases[i].setAttribute("aria-label", `${roles[i]} of the walk: a handwritten ${labels[n]}`);
    });
    for (const [name, { input }] of Object.entries(choices)) input.value = String(labels[model.get(name)]);
    walked.update(model.get("walked"));
    scaled.update(Math.log10(model.get("scale")));
    const words = at.map(({ digit, distance }, i) => `${sides[i].title}: a ${digit}, at distance ${distance.toFixed(1)}`);
    said.say(`Nearest test digit to the picture at the point. ${words.join("; ")}.`);
  }

  const column = (one) =>
    h("div", { class: "em2vae-side" },
      h("strong", {}, one.title),
      one.map.canvas,
      ...one.sliders.map(({ element }) => element),
      h("div", { class: "em2vae-pictures em2vae-even" },
        h("div", { class: "em2vae-picture" }, one.point, h("span", {}, "At the point")),
        h("div", { class: "em2vae-picture" }, one.samples, h("span", {}, "Standard normal draws")),
      ),
    );
  return {
    buttons: [
      choices.start.element,
      choices.end.element,
      button("Other examples", () => {
        set({ start: another(model.get("start")), end: another(model.get("end")) });
        walk();
      }),
      button("New draws", () => {
        drawAgain();
        redraw();
      }),
    ],
    content: [
      h("div", { class: "em2vae-sliders", style: SLIDERS_STYLE }, scaled.element, walked.element, ends),
      said.element,
      h("div", { class: "em2vae-body em2vae-columns" }, ...sides.map(column)),
    ],
    caption: CAPTION,
    draw,
    traits: ["start", "end", "walked", "scale", "code", "z"],
  };
});
