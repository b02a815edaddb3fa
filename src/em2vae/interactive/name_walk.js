import {
  button, forward, frameBudget, h, interactive, klToPrior, plot, seededRandom, sentence, signed, slider,
  unpackNetwork,
} from "./shared.js";

const LETTERS = "abcdefghijklmnopqrstuvwxyz";
const END = 0; // also stands before the first letter; letters count from 1
const STEPS = 8; // of the walk, from the first name to the last
const LIKELIEST = 3; // next letters that are shown
const CAPTION =
  "Type two names in any script. The encoder reads each as a code, and the decoder writes a name at every point of " +
  "the line between the codes; slide along it. Then misspell a name, or raise the temperature and draw again. " +
  "The bars are the decoder's own probabilities, whatever the temperature. ";

// Reading what is typed ------------------------------------------------------------------------

/* The letters a to z that a text is folded to, and what was left out: names.py, fold_parts. */
export function foldParts(text, folds) {
  let [folded, leftOut] = ["", ""];
  for (const c of text.toLowerCase().normalize("NFD").replace(/\p{Mn}/gu, "")) {
    if (Object.hasOwn(folds, c)) folded += folds[c];
    else if (LETTERS.includes(c)) folded += c;
    else leftOut += c;
  }
  return { folded, leftOut };
}

/* How a text is read, at most `longest` letters, and what was done for that in words. */
export function readName(text, folds, longest) {
  const { folded, leftOut } = foldParts(text, folds);
  const changed = [...new Set(text.normalize("NFC"))].filter((c) => c > "\x7f" && !foldParts(c, folds).leftOut);
  const changes = changed.map((c) => `${c}→${foldParts(c, folds).folded || "nothing"}`);
  const named = [...new Set(leftOut)].map((c) => (/^\s$/.test(c) ? "the space" : c));
  const parts = [
    ...(changes.length ? [changes.join(" ")] : []),
    ...(named.length ? [`left out: ${named.join(" ")}`] : []),
    ...(folded.length > longest ? [`cut after ${longest} letters`] : []),
  ];
  const letters = folded.slice(0, longest);
  return { letters, words: `${letters ? `read as ${letters}` : "no letters yet"}${parts.length ? ` (${parts.join("; ")})` : ""}` };
}

// The model ------------------------------------------------------------------------------------

const sigmoid = (a) => 1 / (1 + Math.exp(-a));

/* The next state of a gated recurrent unit in place: what comes from the input and, through
   `layer`, from the state, both (3 H), gates in PyTorch's order: reset, update, new. */
export function stepGru(layer, fromInput, state) {
  const H = state.length;
  const fromState = forward([layer], state);
  for (let i = 0; i < H; i++) {
    const reset = sigmoid(fromInput[i] + fromState[i]);
    const update = sigmoid(fromInput[H + i] + fromState[H + i]);
    const fresh = Math.tanh(fromInput[2 * H + i] + reset * fromState[2 * H + i]);
    state[i] = (1 - update) * fresh + update * state[i];
  }
}

/* For each symbol what it adds to the gates: the columns of a layer, with its bias. */
const columns = ({ inputs, outputs, weight, bias }) =>
  Array.from({ length: inputs }, (_, s) => Float64Array.from({ length: outputs }, (_, o) => bias[o] + weight[o * inputs + s]));

const symbolsOf = (letters) => [...Array.from(letters, (letter) => 1 + LETTERS.indexOf(letter)), END];

/* Log-probabilities from logits, in nats. */
function logSoftmax(logits) {
  const most = Math.max(...logits);
  const log = most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
  return logits.map((logit) => logit - log);
}

/* Encoder and decoder from the layers of name_walk.py, pack_sequence. */
export function sequenceModel(layers) {
  const [, readState, heads, , fromZ, writeState, head] = layers;
  const [toRead, toWrite] = [columns(layers[0]), columns(layers[3])];

  /* q(z|x) of a name */
  function encode(letters) {
    const state = new Float64Array(readState.inputs);
    for (const symbol of symbolsOf(letters)) stepGru(readState, toRead[symbol], state);
    const out = forward([heads], state);
    const K = out.length / 2;
    return { mu: [...out.slice(0, K)], sigma: Array.from(out.slice(K), (v) => Math.exp(v / 2)) };
  }
  /* A decoder at z: each call takes the symbol before, and gives log p of every next one. */
  function writer(z) {
    const state = new Float64Array(writeState.inputs);
    const always = forward([fromZ], z);
    return (before) => {
      stepGru(writeState, toWrite[before].map((value, i) => value + always[i]), state);
      return logSoftmax(forward([head], state));
    };
  }
  /* log p(x|z) of a name, its end included (eq. letter-by-letter) */
  function logLikelihood(letters, z) {
    const next = writer(z);
    let [sum, before] = [0, END];
    for (const symbol of symbolsOf(letters)) {
      sum += next(before)[symbol];
      before = symbol;
    }
    return sum;
  }
  return { encode, writer, logLikelihood };
}

/* The symbol at the share u, in [0, 1), of all that p**(1 / temperature) gives; the likeliest at 0. */
export function choose(logP, temperature, u) {
  if (temperature === 0) return logP.indexOf(Math.max(...logP));
  const most = Math.max(...logP);
  const weights = logP.map((value) => Math.exp((value - most) / temperature));
  let left = u * weights.reduce((sum, weight) => sum + weight, 0);
  const found = weights.findIndex((weight) => (left -= weight) < 0);
  return found < 0 ? logP.indexOf(most) : found;
}

/* A name at z, at most uniforms.length - 1 letters, and at each of its places log p of every symbol. A place has one
   uniform number at every z: names differ by their codes alone. */
export function write(model, z, temperature, uniforms) {
  const next = model.writer(z);
  const places = [];
  let [name, before] = ["", END];
  for (const u of uniforms) {
    const logP = next(before);
    const chosen = choose(logP, temperature, u);
    places.push({ logP, chosen });
    if (chosen === END) return { name, places, ended: true };
    if (places.length < uniforms.length) name += letterOf(chosen);
    before = chosen;
  }
  return { name, places, ended: false };
}

const onLine = (from, to, t) => from.map((value, k) => value + t * (to[k] - value));

// Words and drawings ---------------------------------------------------------------------------

const letterOf = (symbol) => (symbol === END ? "end" : LETTERS[symbol - 1]);
const percent = (logP) => (logP < Math.log(0.005) ? "<1 %" : `${Math.round(100 * Math.exp(logP))} %`);
const likeliest = ({ logP }) => [...logP.keys()].sort((a, b) => logP[b] - logP[a]).slice(0, LIKELIEST);
const shownName = ({ name, ended }) => `${name || "–"}${ended ? "" : "…"}`;

/* A row for each place: the letter there, and bars for the likeliest ones. */
function letterBars(palette, count) {
  const figure = plot({ palette, x: [0, 11], y: [count, 0], axes: false, aspect: 0.95 });
  function draw(written) {
    const texts = written.places.map((place, i) => {
      const rest = likeliest(place).map((symbol) => `${letterOf(symbol)} ${percent(place.logP[symbol])}`);
      return `${i + 1}, ${letterOf(place.chosen)}: ${rest.join(", ")}`;
    });
    figure.canvas.setAttribute("aria-label", `Likeliest next letters at each place of ${shownName(written)}. ${texts.join("; ")}`);
    if (!figure.start()) return;
    written.places.forEach(({ logP, chosen }, i) => {
      const rank = likeliest({ logP });
      const put = (text, x, style) => figure.text(text, x, i + 0.4, { align: "left", baseline: "middle", ...style });
      put(`${letterOf(chosen)}${rank.includes(chosen) ? "" : ` ${percent(logP[chosen])}`}`, 0, { color: "accent" });
      rank.forEach((symbol, j) => {
        const left = 2.1 + 3 * j;
        const sides = [left, left + 2.8 * Math.exp(logP[symbol])];
        figure.area(sides, [i + 0.93, i + 0.93], { base: i + 0.77, color: symbol === chosen ? "accent" : 0, alpha: 0.9 });
        put(`${symbol === chosen ? "▸" : ""}${letterOf(symbol)} ${percent(logP[symbol])}`, left + 0.1);
      });
    });
  }
  return { canvas: figure.canvas, draw };
}

/* A field for a name, and below it how it is read. */
function nameField({ label, typed, oninput }) {
  const input = h("input", { type: "text", maxlength: typed, autocomplete: "off", autocapitalize: "off", spellcheck: "false" });
  input.addEventListener("input", () => oninput(input.value));
  const read = h("p", { class: "em2vae-read" });
  function update(text, words) {
    if (input.value !== text) input.value = text; // a pen stays where it is while one types
    if (read.textContent === words) return;
    read.textContent = words;
    input.setAttribute("aria-description", words);
  }
  return { element: h("div", {}, h("label", {}, h("span", {}, label), input), read), update };
}

function walkList() {
  const rows = Array.from({ length: STEPS + 1 }, () => h("li"));
  const list = h("ol", { class: "em2vae-walk" }, ...rows);
  function draw(names, t) {
    const here = Math.round(t * STEPS);
    rows.forEach((row, i) => {
      const text = `${i === here ? "▸ " : ""}${names[i]}`;
      if (row.textContent !== text) row.textContent = text;
      if (i === here) row.setAttribute("aria-current", "step");
      else row.removeAttribute("aria-current");
    });
  }
  return { element: list, draw };
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, redraw, set }) => {
  // State
  const sequence = sequenceModel(unpackNetwork(model.get("_network"), model.get("_weights")));
  const [folds, longest, eps] = ["_folds", "_longest", "_eps"].map((trait) => model.get(trait));
  const budget = frameBudget();
  const ends = { start: {}, end: {} }; // what is known of the two names
  let walked = {}; // the walk's names, of two codes, a temperature and a seed
  let uniforms = {};

  /* The name of an end as read, with its code. Without letters it is the mean of the prior. */
  function look(side) {
    const text = model.get(side);
    if (ends[side].text === text) return ends[side];
    const { letters, words } = readName(text, folds, longest);
    const q = letters ? sequence.encode(letters) : { mu: eps[0].map(() => 0), sigma: eps[0].map(() => 1) };
    const logLikelihood = letters === ends[side].letters ? ends[side].logLikelihood : null;
    return (ends[side] = { text, letters, q, logLikelihood, sums: [], words });
  }
  /* The log-likelihood of a name averaged over points with q's mean and covariance: style_transfer.py, cubature. */
  function advance(end) {
    for (const one of Object.values(ends)) {
      while (one.letters && one.logLikelihood === null && performance.now() < end) {
        const e = eps[one.sums.length];
        one.sums.push(sequence.logLikelihood(one.letters, one.q.mu.map((m, k) => m + one.q.sigma[k] * e[k])));
        if (one.sums.length === eps.length) one.logLikelihood = one.sums.reduce((a, b) => a + b, 0) / eps.length;
      }
      if (one.letters && one.logLikelihood === null) redraw();
    }
  }
  function uniformsOf(seed) {
    if (uniforms.seed === seed) return uniforms.values;
    const { uniform } = seededRandom(seed);
    uniforms = { seed, values: Array.from({ length: longest + 1 }, uniform) };
    return uniforms.values;
  }
  function walk({ q: from }, { q: to }, temperature, seed) {
    const now = [from, to, temperature, seed];
    if (walked.of?.every((value, i) => value === now[i])) return walked.names;
    const at = (_, i) => shownName(write(sequence, onLine(from.mu, to.mu, i / STEPS), temperature, uniformsOf(seed)));
    walked = { of: now, names: Array.from({ length: STEPS + 1 }, at) };
    return walked.names;
  }

  // Controls
  const field = (label, side) => nameField({ label, typed: model.get("_typed"), oninput: (text) => set({ [side]: text }) });
  const fields = { start: field("From", "start"), end: field("To", "end") };
  const place = slider({ label: "Along the line", min: 0, max: 1, step: 1 / 80, value: 0, format: (t) => t.toFixed(2), oninput: (t) => set({ t }) });
  const heat = slider({
    label: "Temperature", min: 0, max: model.get("_hottest"), step: 0.05, value: 0,
    format: (value) => value.toFixed(2), oninput: (temperature) => set({ temperature }),
  });
  const drawButton = button("Draw again", () => set({ seed: model.get("seed") + 1 }));
  const swapButton = button("Swap the names", () => set({ start: model.get("end"), end: model.get("start"), t: 1 - model.get("t") }));

  // Draw
  const large = h("p", { class: "em2vae-large" });
  const names = walkList();
  const bars = letterBars(model.get("_palette"), longest + 1);
  const said = sentence();

  function saysOf({ letters, q, logLikelihood }) {
    if (!letters) return "A name without letters counts as the prior's mean, z = 0.";
    const kl = klToPrior(q);
    const total = kl - logLikelihood;
    return `${letters} costs ${signed(kl, 1)} nats of code (KL) and ${signed(-logLikelihood, 1)} of letters, ${signed(total, 1)} in all: ${signed(total / (letters.length + 1))} a letter, its end included.`;
  }

  function draw() {
    const [rest, before] = [budget(), walked];
    const [t, temperature, seed] = ["t", "temperature", "seed"].map((trait) => model.get(trait));
    const [from, to] = [look("start"), look("end")];
    fields.start.update(from.text, from.words);
    fields.end.update(to.text, to.words);
    place.update(t);
    heat.update(temperature);
    drawButton.disabled = temperature === 0;
    swapButton.disabled = from.text === to.text && t === 0.5;
    const written = write(sequence, onLine(from.q.mu, to.q.mu, t), temperature, uniformsOf(seed));
    if (large.textContent !== shownName(written)) large.textContent = shownName(written);
    names.draw(walk(from, to, temperature, seed), t);
    bars.draw(written);
    if (walked === before) advance(rest);
    else redraw(); // new letters first, their nats in the frames after
    if ([from, to].some(({ letters, logLikelihood }) => letters && logLikelihood === null)) return false;
    const how = temperature ? `draws “${shownName(written)}” at temperature ${temperature.toFixed(2)}` : `writes “${shownName(written)}”, the likeliest letter at each place`;
    said.say(`At ${t.toFixed(2)} of the way the decoder ${how}. ${saysOf(from)} ${saysOf(to)}`);
  }

  const table = Object.entries(folds).map(([from, to]) => `${from} ${to || "nothing"}`).join(" · ");
  return {
    buttons: [swapButton, drawButton],
    content: [
      h("div", { class: "em2vae-body" },
        h("div", { class: "em2vae-side" },
          h("div", { class: "em2vae-names" }, fields.start.element, fields.end.element),
          h("div", { class: "em2vae-sliders" }, place.element, heat.element),
          large,
          names.element,
        ),
        bars.canvas,
      ),
      said.element,
      h("details", { class: "em2vae-more" },
        h("summary", {}, "How other letters are read"),
        h("p", {}, "Capitals become small and accents go. Other letters are read by this table, and what it does not know is left out: ", table),
      ),
    ],
    caption: CAPTION + `Nats average over ${eps.length} points z that have the mean and the covariance of q(z | x).`,
    draw,
    traits: ["start", "end", "t", "temperature", "seed"],
  };
});
