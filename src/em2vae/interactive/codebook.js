import {
  SIDE, activations, button, bytesOf, colorsOf, digitCanvas, draggable, drawDigit, drawingPad, forward, h, inkOf, interactive,
  logBernoulli, normalize, plural, readable, seededRandom, select, sentence, signed, slider, stroke, unpackHalves, unpackNetwork,
} from "./shared.js";

const PLACES = 49; // of ROW by ROW
const ROW = 7;
const PATCH = 4; // pixels of a place, in each direction
const FULL = 4; // nats of a cell in full shade
const CAPTION =
  "Draw a digit: the encoder reads it in 49 words, and the decoder paints what they stand for. Click a cell and then " +
  "another word on the list: watch the picture, and what both parts cost. On the list the words of the picture are framed, and " +
  "each has the nats that it costs at the chosen place. Then keep fewer words: the prior draws the others anew, row by row, " +
  "from left to right. All nats are about x.";

// The arithmetic -------------------------------------------------------------------------------

/* The word nearest to the vector of each place (eq. nearest). list: (M, D). */
export function encodeWords(encoder, list, x) {
  const maps = forward(encoder, x); // (D, 49)
  const halves = list.map((word) => word.reduce((sum, v) => sum + (v * v) / 2, 0));
  const closeness = (place) => (word, m) => word.reduce((sum, v, d) => sum + v * maps[d * PLACES + place], -halves[m]);
  return Array.from({ length: PLACES }, (_, place) => {
    const all = list.map(closeness(place));
    return all.indexOf(Math.max(...all));
  });
}

/* The logits of the 784 pixels under 49 words. */
export function decodeWords(decoder, list, words) {
  const D = list[0].length;
  return forward(decoder, Float64Array.from({ length: D * PLACES }, (_, i) => list[words[i % PLACES]][Math.floor(i / PLACES)]));
}

/* A prior of M words whose neighbours are `reach`, ready to be asked. layers take ones and zeros
   (codebook.py, as_tables): of the first one's columns, a few are added up. */
export function readyPrior([{ inputs, outputs: H, weight, bias }, ...layers], reach, M) {
  const columns = Float64Array.from({ length: inputs * H }, (_, i) => weight[(i % H) * inputs + Math.floor(i / H)]);
  return { columns, bias, layers, reach, M };
}

/* −log p of each of the M words at a place, given the words before it, in nats. */
export function natsAt({ columns, bias, layers, reach, M }, words, place) {
  const hidden = Float64Array.from(bias);
  const add = (column) => {
    const start = column * hidden.length;
    for (let o = 0; o < hidden.length; o++) hidden[o] += columns[start + o];
  };
  reach.forEach(([down, across], n) => {
    const [row, column] = [Math.floor(place / ROW) + down, (place % ROW) + across];
    const inside = row >= 0 && column >= 0 && column < ROW;
    add(n * (M + 1) + (inside ? words[ROW * row + column] : M));
  });
  add(reach.length * (M + 1) + place);
  const logits = forward(layers, hidden.map(activations.silu));
  const top = Math.max(...logits);
  const logSum = top + Math.log(logits.reduce((sum, v) => sum + Math.exp(v - top), 0));
  return Array.from(logits, (v) => logSum - v);
}

/* The first `kept` words, and the others drawn from the prior one by one. A place has the same random
   number whatever is kept. */
export function continued(prior, words, kept, seed) {
  const { uniform } = seededRandom(seed);
  const page = [...words];
  for (let place = 0; place < PLACES; place++) {
    let rest = uniform();
    if (place < kept) continue;
    const nats = natsAt(prior, page, place);
    const found = nats.findIndex((cost) => (rest -= Math.exp(-cost)) < 0);
    page[place] = found < 0 ? nats.indexOf(Math.min(...nats)) : found; // below 0 but for rounding
  }
  return page;
}

const same = (words, others) => words.every((word, place) => word === others[place]);
const total = (values) => values.reduce((sum, value) => sum + value, 0);

// Boards of cells ------------------------------------------------------------------------------

/* A square of columns by columns cells. pick(cell) is called while a pointer is held down on it. draw(key,
   paint) clears it and calls paint(context, theme, side of a cell in pixels), unless key is as before. */
function board(columns, pick) {
  const canvas = h("canvas", { class: "em2vae-map", role: "img" });
  draggable(canvas, (event) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const [column, row] = [(event.clientX - left) / width, (event.clientY - top) / height].map((share) =>
      Math.max(0, Math.min(columns - 1, Math.floor(share * columns))),
    );
    pick(columns * row + column);
  }, () => []);
  let drawn = "";
  function draw(key, paint) {
    const side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side) return;
    const theme = colorsOf(canvas);
    const now = JSON.stringify([side, theme, key]);
    if (now === drawn) return;
    drawn = now;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.reset();
    Object.assign(context, { textAlign: "center", textBaseline: "middle", lineJoin: "round", imageSmoothingEnabled: false });
    paint(context, theme, side / columns);
  }
  return { canvas, draw };
}

const corner = (cell, columns, side) => [(cell % columns) * side, Math.floor(cell / columns) * side];

function write(context, text, x, y, size, { color, halo = null }) {
  context.font = `${size}px system-ui, sans-serif`;
  if (halo) {
    Object.assign(context, { strokeStyle: halo, lineWidth: size / 4 });
    context.strokeText(text, x, y);
  }
  context.fillStyle = color;
  context.fillText(text, x, y);
}

function frame(context, theme, [x, y], side) {
  const width = Math.min(3 * devicePixelRatio, side / 10);
  for (const [color, share] of [[theme.soft, 2], [theme.accent, 1]]) {
    Object.assign(context, { strokeStyle: color, lineWidth: share * width });
    context.strokeRect(x + width / 2, y + width / 2, side - width, side - width);
  }
}

/* Mean pixels of each word, side by side, as they are put on boards. */
function stripOf(tiles) {
  const M = tiles.length / PATCH ** 2;
  const strip = h("canvas", { width: PATCH * M, height: PATCH });
  const picture = new ImageData(PATCH * M, PATCH);
  const pixels = new Uint32Array(picture.data.buffer); // opaque, the same in all three channels
  tiles.forEach((ink, i) => {
    const [word, row, column] = [Math.floor(i / PATCH ** 2), Math.floor(i / PATCH) % PATCH, i % PATCH];
    pixels[PATCH * M * row + PATCH * word + column] = 0xff000000 | (Math.round(255 * (1 - ink)) * 0x10101);
  });
  strip.getContext("2d").putImageData(picture, 0, 0);
  return strip;
}

const short = (nats) => (nats < 0.05 ? "0" : nats.toFixed(nats < 9.95 ? 1 : 0));
const rowAndColumn = (place) => [Math.floor(place / ROW) + 1, (place % ROW) + 1];
function pointed(place) {
  const [row, column] = rowAndColumn(place);
  return `row ${row}, column ${column}`;
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, redraw, set }) => {
  // State
  const network = (name) => unpackNetwork(model.get(name), model.get(`${name}_weights`));
  const [encoder, decoder, tables] = ["_encoder", "_decoder", "_prior"].map(network);
  const list = model.get("_list");
  const M = list.length;
  const prior = readyPrior(tables, model.get("_reach"), M);
  const strip = stripOf(unpackHalves(model.get("_tiles")));
  const images = bytesOf(model.get("_images"));
  const digits = model.get("_digits");
  const shade = model.get("_palette")[0];
  let ink; // on the pad
  let x; // what the encoder gets
  let own; // the words that it reads from it
  let base = model.get("words"); // where the draws of the prior start
  let found = {}; // of the words that were shown last: logits, and the nats of all words at all places
  let ours = false; // whether it is this figure that changes traits

  function load(digit) {
    ink = digit < 0 ? new Float64Array(SIDE * SIDE) : inkOf(images.subarray(784 * digit, 784 * (digit + 1)));
    look();
  }
  /* From the pad to x and its words: normalize, binarize, encode. */
  function look() {
    x = ink.some((v) => v > 0) ? normalize(ink).map((v) => (v > 0.5 ? 1 : 0)) : new Float64Array(784);
    own = encodeWords(encoder, list, x);
  }
  function send(traits) {
    ours = true;
    set(traits);
    ours = false;
  }
  function show(words, traits = {}) {
    base = words;
    send({ ...traits, words, kept: PLACES });
  }
  const keep = (kept, seed) => send({ kept, seed, words: continued(prior, base, kept, seed) });
  function exchange(word) {
    show(model.get("words").map((old, place) => (place === model.get("place") ? word : old)));
  }
  load(model.get("digit"));

  // Controls
  const pad = drawingPad({
    onpen(from, to, first) {
      if (first && model.get("digit") >= 0) send({ digit: -1 }); // clears the pad
      ink = ink.slice();
      stroke(ink, from, to);
      look();
      show(own);
      redraw(); // also where the words are as before
    },
    onlift: redraw,
  });
  const padPicker = select({
    label: "On the pad",
    options: [["-1", "my drawing"], ...digits.map((digit, n) => [String(n), `test digit ${n + 1}: ${digit === 8 ? "an" : "a"} ${digit}`])],
    value: String(model.get("digit")),
    onchange: (n) => pick(Number(n)),
  });
  function pick(digit) {
    send({ digit });
    show(own);
  }
  const choose = (place) => send({ place });
  const [page, costs] = [board(ROW, choose), board(ROW, choose)];
  const across = Math.ceil(Math.sqrt(M));
  const shelf = board(across, (word) => word < M && exchange(word));
  const placeSlider = slider({
    label: "Place", note: "row, column", min: 0, max: PLACES - 1, step: 1, value: 0,
    format: (place) => rowAndColumn(place).join(", "), oninput: choose,
  });
  const wordSlider = slider({ label: "Word there", min: 0, max: M - 1, step: 1, value: 0, format: String, oninput: exchange });
  const keptSlider = slider({
    label: "Words kept", min: 0, max: PLACES, step: 1, value: PLACES,
    format: String, oninput: (kept) => keep(kept, model.get("seed")),
  });
  const againButton = button("Draw others again", () => keep(model.get("kept"), model.get("seed") + 1));
  const ownButton = button("The encoder's words", () => show(own));
  const clearButton = button("Clear the pad", () => {
    if (model.get("digit") >= 0) return pick(-1);
    load(-1);
    show(own);
    redraw();
  });
  // A kernel changes these, and sends words with a digit that it knows.
  model.on("change:digit", () => {
    load(model.get("digit"));
    if (!ours && model.get("digit") < 0) show(own);
  });
  model.on("change:words", () => {
    if (ours) return;
    base = model.get("words");
    if (model.get("kept") < PLACES) send({ kept: PLACES });
  });
  for (const trait of ["kept", "seed"])
    model.on(`change:${trait}`, () => {
      if (ours) return;
      const words = continued(prior, base, model.get("kept"), model.get("seed"));
      if (!same(words, model.get("words"))) send({ words });
    });

  // Draw
  const seen = digitCanvas("");
  const painted = digitCanvas("The picture that the words stand for: the means of p(x | words)");
  const spot = h("i");
  const said = sentence();
  let shownX = null;

  function compute(words) {
    if (found.words && same(found.words, words)) return;
    const nats = words.map((_, place) => natsAt(prior, words, place));
    found = { words, logits: decodeWords(decoder, list, words), nats, costs: words.map((word, place) => nats[place][word]) };
    drawDigit(painted, found.logits.map((logit) => 1 / (1 + Math.exp(-logit))));
  }
  function drawSeen() {
    if (shownX === x) return;
    shownX = x;
    drawDigit(seen, x);
    seen.setAttribute("aria-label", `What the encoder gets: ${total(x)} pixels of ink`);
  }
  function tile(context, word, [left, top], side, light = 1) {
    context.globalAlpha = light;
    context.drawImage(strip, PATCH * word, 0, PATCH, PATCH, left, top, side, side);
    context.globalAlpha = 1;
    const size = 0.38 * side;
    write(context, String(word), left + 0.5 * side, top + 0.5 * side, size, { color: "#000", halo: "#fff" });
  }
  function cost(context, theme, nats, [left, top], width, height) {
    context.globalAlpha = 0.65 * Math.min(1, nats / FULL);
    context.fillStyle = readable(shade, theme.dark);
    context.fillRect(left, top, width, height);
    context.globalAlpha = 1;
    write(context, short(nats), left + width / 2, top + height / 2, Math.min(0.4 * width, 0.85 * height), { color: theme.text });
  }
  function drawBoards(words, place) {
    page.draw([words, place], (context, theme, side) => {
      words.forEach((word, at) => tile(context, word, corner(at, ROW, side), side));
      frame(context, theme, corner(place, ROW, side), side);
    });
    costs.draw([words, place], (context, theme, side) => {
      found.costs.forEach((nats, at) => cost(context, theme, nats, corner(at, ROW, side), side, side));
      frame(context, theme, corner(place, ROW, side), side);
    });
    shelf.draw([words, place], (context, theme, side) => {
      const used = new Set(words);
      for (let word = 0; word < M; word++) {
        const [left, top] = corner(word, across, side);
        const box = [left + 0.22 * side, top + 0.07 * side, 0.56 * side];
        tile(context, word, box, box[2], used.has(word) ? 1 : 0.25);
        Object.assign(context, { strokeStyle: theme.text, lineWidth: devicePixelRatio });
        if (used.has(word)) context.strokeRect(...box, box[2]);
        cost(context, theme, found.nats[place][word], [left + 0.1 * side, top + 0.66 * side], 0.8 * side, 0.28 * side);
      }
      frame(context, theme, corner(words[place], across, side), side);
    });
  }
  function label(words, place) {
    const uses = (word) => words.filter((other) => other === word).length;
    page.canvas.setAttribute("aria-label", `The words, row by row: ${words.join(" ")}`);
    costs.canvas.setAttribute("aria-label", `Nats of each word, row by row: ${found.costs.map((nats) => nats.toFixed(2)).join(" ")}`);
    const texts = found.nats[place].map((nats, word) => `word ${word}, used ${plural(uses(word), "time")}, ${nats.toFixed(2)} nats`);
    shelf.canvas.setAttribute("aria-label", `The list, with nats at ${pointed(place)}: ${texts.join("; ")}`);
  }

  let ownCost = {}; // what the encoder's words cost for x
  function costOfOwn() {
    if (ownCost.x !== x) {
      const nats = own.map((word, place) => natsAt(prior, own, place)[word]);
      ownCost = { x, both: total(nats) - logBernoulli(decodeWords(decoder, list, own), x) };
    }
    return ownCost.both;
  }
  function describe(words, place, kept, digit) {
    const [code, pixels] = [total(found.costs), -logBernoulli(found.logits, x)];
    const content = digit >= 0 ? `Test digit ${digit + 1}` : ink.some((v) => v > 0) ? "Your drawing" : "The empty pad";
    const parts = `−log p(words) is ${signed(code, 1)} nats, −log p(x | words) ${signed(pixels, 1)}, together ${signed(code + pixels, 1)}. `;
    const changes = words.filter((word, at) => word !== own[at]).length;
    const how = `${new Set(words).size} of the ${M} on the list`;
    const what =
      kept < PLACES ? `The first ${plural(kept, "word")} kept, ${PLACES - kept} drawn from the prior: ` : changes ? `${content} with ${plural(changes, "word")} exchanged: ` : `${content} in 49 words, ${how}: `;
    const rest = changes ? `The encoder's words cost ${signed(costOfOwn(), 1)} together. ` : "";
    const nats = found.nats[place];
    const least = nats.indexOf(Math.min(...nats));
    const there = `In ${pointed(place)} stands word ${words[place]}, for ${nats[words[place]].toFixed(2)} nats`;
    const cheaper = least === words[place] ? ", the cheapest there." : `; word ${least} is the cheapest there, for ${nats[least].toFixed(2)}.`;
    said.say(what + parts + rest + there + cheaper);
  }

  function draw() {
    const [digit, words, place, kept] = ["digit", "words", "place", "kept"].map((trait) => model.get(trait));
    compute(words);
    padPicker.input.value = String(digit);
    placeSlider.update(place);
    wordSlider.update(words[place]);
    keptSlider.update(kept);
    pad.paint(ink);
    const empty = !ink.some((v) => v > 0);
    pad.canvas.setAttribute("aria-label", `Pad with ${empty ? "nothing yet" : digit < 0 ? "your drawing" : `test digit ${digit + 1}`}`);
    drawSeen();
    drawBoards(words, place);
    label(words, place);
    spot.style.left = `${(100 * (place % ROW)) / ROW}%`;
    spot.style.top = `${(100 * Math.floor(place / ROW)) / ROW}%`;
    againButton.disabled = kept === PLACES;
    ownButton.disabled = same(words, own);
    clearButton.disabled = empty;
    if (!pad.isDown()) describe(words, place, kept, digit);
  }

  const picture = (canvas, text) => h("div", { class: "em2vae-picture" }, canvas, h("span", {}, text));
  return {
    buttons: [againButton, ownButton, clearButton],
    content: [
      h("div", { class: "em2vae-axes" }, padPicker.element),
      h("div", { class: "em2vae-page" },
        h("div", { class: "em2vae-six" },
          picture(pad.canvas, "Draw here"),
          picture(seen, "The encoder gets x"),
          picture(page.canvas, "Its 49 words"),
          picture(h("div", { class: "em2vae-spot" }, painted, spot), "Their picture"),
          picture(costs.canvas, "Their costs, in nats"),
          picture(shelf.canvas, "The list, costs here"),
        ),
        h("div", { class: "em2vae-side" },
          h("div", { class: "em2vae-sliders" }, placeSlider.element, wordSlider.element, keptSlider.element),
          said.element,
        ),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["digit", "words", "place", "kept", "seed"],
  };
});
