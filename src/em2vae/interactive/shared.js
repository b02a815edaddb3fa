/* What the interactive figures share: networks, controls, the latent map, and the frame around a
   figure. Joined with each figure's module by figure.py. */

// Bytes and networks -------------------------------------------------------------------------

const crcOfByte = Uint32Array.from({ length: 256 }, (_, crc) => {
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function crc32(view) {
  const bytes = bytesOf(view);
  let crc = -1;
  for (let i = 0; i < bytes.length; i++) crc = (crc >>> 8) ^ crcOfByte[(crc ^ bytes[i]) & 255];
  return ~crc >>> 0;
}

function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  return exponent
    ? sign * 2 ** (exponent - 15) * (1 + fraction / 1024)
    : sign * 2 ** -14 * (fraction / 1024);
}

let halves; // one number for each of the 65,536 patterns

export function unpackHalves(view, start = 0, count = (view.byteLength - start) / 2) {
  halves ??= Float64Array.from({ length: 65536 }, (_, bits) => half(bits));
  return Float64Array.from({ length: count }, (_, i) => halves[view.getUint16(start + 2 * i, true)]);
}

export const bytesOfLayers = ({ layers }) =>
  layers.reduce((sum, { inputs, outputs }) => sum + 2 * outputs * (inputs + 2), 0);

/* Whole numbers times the step of their row: figure.py, pack_network. */
export function unpackNetwork({ layers, crc32: expected }, view) {
  if (crc32(view) !== expected) throw new Error("its weights are damaged (checksum)");
  const bytes = bytesOf(view);
  let start = 0;
  return layers.map((layer) => {
    const { inputs, outputs } = layer;
    const count = inputs * outputs;
    const ends = start + 2 * count;
    const steps = unpackHalves(view, ends, outputs);
    const weight = new Float32Array(count);
    for (let o = 0, i = 0; o < outputs; o++)
      for (const end = i + inputs; i < end; i++)
        weight[i] = steps[o] * ((bytes[start + i] << 8) + bytes[start + count + i] - 0x8080);
    start = ends + 4 * outputs;
    return { ...layer, weight, bias: unpackHalves(view, ends + 2 * outputs, outputs) };
  });
}

export const activations = {
  relu: (a) => (a > 0 ? a : 0),
  tanh: Math.tanh,
  silu: (a) => a / (1 + Math.exp(-a)),
};

/* All outputs of a layer in which each depends on all inputs. */
function multiply({ inputs, outputs, weight, bias }, below) {
  const above = Float64Array.from(bias);
  // Four rows at a time take little longer than one. A row beyond the last gives NaN, which an
  // array drops beyond its end.
  for (let o = 0; o < outputs; o += 4) {
    const [w1, w2, w3, w4] = [o * inputs, (o + 1) * inputs, (o + 2) * inputs, (o + 3) * inputs];
    let [a, b, c, d] = [0, 0, 0, 0];
    for (let i = 0; i < inputs; i++) {
      const value = below[i];
      a += weight[w1 + i] * value;
      b += weight[w2 + i] * value;
      c += weight[w3 + i] * value;
      d += weight[w4 + i] * value;
    }
    above[o] += a;
    above[o + 1] += b;
    above[o + 2] += c;
    above[o + 3] += d;
  }
  return above;
}

/* A 3x3 convolution over maps of that height and width with a margin of zeros, every `stride`
   numbers. Before it, each number is copied to a square of `up` by `up`. */
function convolve({ inputs, outputs, weight, bias, maps: { height, width, up, stride } }, below) {
  const [rows, columns] = [height, width].map((n) => Math.ceil((n * up) / stride));
  const [channels, high, wide] = [inputs / 9, height * up + 2, width * up + 2];
  const inside = new Float64Array(channels * high * wide); // the copies within their margin
  for (let k = 0; k < channels; k++)
    for (let r = 0; r < height * up; r++) {
      const [from, to] = [(k * height + Math.floor(r / up)) * width, (k * high + r + 1) * wide + 1];
      for (let c = 0; c < width * up; c++) inside[to + c] = below[from + Math.floor(c / up)];
    }
  const above = new Float64Array(outputs * rows * columns);
  for (let o = 0; o < outputs; o++) {
    const map = above.subarray(o * rows * columns, (o + 1) * rows * columns).fill(bias[o]);
    for (let k = 0; k < channels; k++) { // nine weights at once: one number of the map is read and written once
      const [w1, w2, w3, w4, w5, w6, w7, w8, w9] = weight.subarray(o * inputs + 9 * k, o * inputs + 9 * k + 9);
      for (let r = 0, at = 0; r < rows; r++) {
        const y1 = (k * high + r * stride) * wide;
        const [y2, y3] = [y1 + wide, y1 + 2 * wide];
        for (let c = 0, x = 0; c < columns; c++, at++, x += stride)
          map[at] +=
            w1 * inside[y1 + x] + w2 * inside[y1 + x + 1] + w3 * inside[y1 + x + 2] +
            w4 * inside[y2 + x] + w5 * inside[y2 + x + 1] + w6 * inside[y2 + x + 2] +
            w7 * inside[y3 + x] + w8 * inside[y3 + x + 1] + w9 * inside[y3 + x + 2];
      }
    }
  }
  return above;
}

/* The network's output. What enters the activations of each layer is added to `sums`. */
export function forward(network, input, sums = []) {
  for (const layer of network) {
    const below = Float64Array.from(input); // one type throughout: many times as fast as several
    const above = layer.maps ? convolve(layer, below) : multiply(layer, below);
    sums.push(above);
    input = layer.activation === "identity" ? above.slice() : above.map(activations[layer.activation]);
  }
  return input;
}

export const decode = (decoder, z) => forward(decoder, z).map((logit) => 1 / (1 + Math.exp(-logit)));

export function encode(encoder, x) {
  const heads = forward(encoder, x);
  const K = heads.length / 2;
  return { mu: heads.slice(0, K), logVar: heads.slice(K) };
}

/* log p(x|z) from logits (eq. bernoulli) and, in their place, its gradient x - sigmoid(logit). */
export function logBernoulli(logits, x, gradient = false) {
  let sum = 0;
  for (let d = 0; d < 784; d++) {
    const e = Math.exp(-Math.abs(logits[d]));
    sum += x[d] * logits[d] - Math.max(logits[d], 0) - Math.log1p(e);
    if (gradient) logits[d] = x[d] - (logits[d] > 0 ? 1 : e) / (1 + e);
  }
  return sum;
}

export const klToPrior = ({ mu, sigma }) =>
  mu.reduce((sum, m, k) => sum + 0.5 * (m * m + sigma[k] ** 2 - 1) - Math.log(sigma[k]), 0); // eq. gaussian-kl

export const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

/* Repeatable random numbers: uniform() in [0, 1) and normal(), from a 32-bit Weyl sequence whose
   bits are mixed (Steele et al., 2014) and from the Box-Muller transform. */
export function seededRandom(seed) {
  let state = seed | 0;
  const uniform = () => {
    state = (state + 0x9e3779b9) | 0;
    let bits = Math.imul(state ^ (state >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return ((bits ^ (bits >>> 16)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return { uniform, normal };
}

export const logNormal = (z, mean, width) =>
  -0.5 * ((z - mean) / width) ** 2 - Math.log(width) - 0.5 * Math.log(2 * Math.PI);

// Work over time ----------------------------------------------------------------------------

/* Calls step() sixty times a second, however often the browser paints, until it returns false, and
   show(more) once a frame. Ends when current() is false. */
export function animateSteps(step, show, current) {
  let last = null;
  const frame = (now) => {
    if (!current()) return;
    const end = performance.now() + 50; // the page still answers
    let due = Math.max(1, Math.round(((now - (last ?? now)) * 60) / 1000));
    let more = true;
    while (more && due-- > 0 && performance.now() < end) more = step();
    last = now;
    show(more);
    if (more) requestAnimationFrame(frame);
  };
  requestAnimationFrame(frame);
}

/* Gives, once a frame, the time until which this frame's work may go on: a third of the time since
   the last frame, so that work ends as soon where frames are rare. */
export function frameBudget() {
  let last = -Infinity;
  return () => {
    const now = performance.now();
    const share = (now - last) / 3;
    last = now;
    return now + Math.max(6, share < 1000 ? Math.min(50, share) : 0);
  };
}

// Elements and controls ----------------------------------------------------------------------

export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

let ids = 0;

export const button = (text, onclick) => h("button", { type: "button", onclick }, text);

export function slider({ label, note = "", min, max, step, value, format, oninput }) {
  const id = `em2vae-${ids++}`;
  const shown = h("span", { class: "em2vae-value", "aria-hidden": "true" });
  const input = h("input", { type: "range", id, min, max, step });
  const update = (number) => {
    const text = format(number);
    input.value = number;
    input.style.setProperty("--em2vae-part", (number - input.min) / (input.max - input.min));
    if (shown.textContent === text) return; // to write the same text would lay out the page again
    shown.textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  input.addEventListener("input", () => {
    update(input.valueAsNumber);
    oninput(input.valueAsNumber);
  });
  update(value);
  const name = h("label", { for: id }, label);
  if (note) name.append(" ", h("small", {}, note));
  return { element: h("div", { class: "em2vae-slider" }, name, shown, input), input, update };
}

export function select({ label, options, value, onchange }) {
  const id = `em2vae-${ids++}`;
  const choices = options.map(([key, text]) =>
    h("option", { value: key, selected: key === value }, text),
  );
  const input = h("select", { id, onchange: () => onchange(input.value) }, ...choices);
  return { element: h("span", {}, h("label", { for: id }, label), " ", input), input };
}

export function checkbox({ label, checked, onchange }) {
  const input = h("input", { type: "checkbox", checked });
  input.addEventListener("change", () => onchange(input.checked));
  return { element: h("label", { class: "em2vae-check" }, input, " ", label), input };
}

const REST_MS = 700;

/* What a figure says, for two readers: say(text) shows it at once, and a screen reader hears it when
   the movement rests; a new sentence for every frame would leave it no time for anything else. */
export function sentence() {
  const shown = h("p", { class: "em2vae-said", "aria-hidden": "true" });
  const spoken = h("output", { "aria-live": "polite" });
  let [said, timer] = [null, 0];
  function say(text) {
    if (text === said) return;
    clearTimeout(timer);
    if (said === null) spoken.textContent = text;
    else timer = setTimeout(() => (spoken.textContent = text), REST_MS);
    said = text;
    shown.textContent = text.replaceAll(" %", "\u00a0%"); // a sign never stands alone on a line
  }
  return { element: h("div", { class: "em2vae-sentence" }, shown, spoken), say };
}

export const signed = (value, digits = 2) =>
  `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;

export const counted = (count) => count.toLocaleString("en");

export const plural = (count, noun) => `${counted(count)} ${noun}${count === 1 ? "" : "s"}`;

export const subscript = (index) =>
  String(index).replace(/\d/g, (digit) => String.fromCharCode(0x2080 + Number(digit)));

// Pictures -----------------------------------------------------------------------------------

export function digitCanvas(label, size = 28) {
  return h("canvas", { width: size, height: size, class: "em2vae-digit", role: "img", "aria-label": label });
}

/* Ink on paper: grey values (28*28) in [0, 1], at column, row of a canvas of such tiles. */
export function drawDigit(canvas, values, column = 0, row = 0) {
  const picture = new ImageData(28, 28);
  const { data } = picture;
  for (let i = 0; i < 784; i++) {
    data[4 * i] = data[4 * i + 1] = data[4 * i + 2] = 255 * (1 - values[i]); // rounded and clamped
    data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(picture, 28 * column, 28 * row);
}

/* The colours of a drawing. figure.css gives every canvas those of the theme, of the printed page or
   of the system (forced colours) as its own: a name such as CanvasText is an rgb() here. */
export function colorsOf(canvas) {
  const { color, backgroundColor, borderTopColor, outlineColor } = getComputedStyle(canvas);
  const [r, g, b] = backgroundColor.match(/[\d.]+/g).map(Number);
  const dark = 0.3 * r + 0.59 * g + 0.11 * b < 128;
  return { text: color, soft: backgroundColor, line: borderTopColor, accent: outlineColor, dark };
}

export function readable(color, dark) {
  if (!dark) return color;
  const channels = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return `rgb(${channels.map((c) => Math.round(c * 0.62 + 255 * 0.38)).join(" ")})`;
}

const FINGER = 24; // CSS pixels around a handle that a finger may touch

/* Calls pick(event, first) while a pointer is held down on the drawing. A finger that goes up or down
   scrolls the page, unless it starts on one of the handles, given as shares of width and height; one
   that goes sideways, or taps, picks. */
export function draggable(canvas, pick, handles) {
  let waiting = null; // where a finger came down that may be about to scroll
  let held = false;
  const onHandle = ({ clientX, clientY }) => {
    const { left, top, width, height } = canvas.getBoundingClientRect();
    const distance = ([u, v]) => Math.hypot(clientX - left - u * width, clientY - top - v * height);
    return handles().some((handle) => distance(handle) <= FINGER);
  };
  const start = (event) => {
    [waiting, held] = [null, true];
    pick(event, true);
  };
  canvas.classList.add("em2vae-draggable");
  canvas.addEventListener("touchstart", (event) => onHandle(event.touches[0]) && event.preventDefault(), {
    passive: false,
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch" && !onHandle(event)) return void (waiting = event);
    canvas.setPointerCapture(event.pointerId);
    start(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    const far = (side) => Math.abs(event[side] - waiting[side]);
    if (waiting && far("clientX") > far("clientY")) start(waiting);
    if (held && event.buttons) pick(event, false);
  });
  canvas.addEventListener("pointerup", () => {
    if (waiting) start(waiting);
    held = false;
  });
  canvas.addEventListener("pointercancel", () => ([waiting, held] = [null, false])); // the page scrolls
}

// Drawings on a pad -------------------------------------------------------------------------

export const SIDE = 112; // of the pad, 4 x 4 points for each pixel
const PEN = 4.6; // radius in points

/* Which points pixel i covers, from the first on, and what share of it each has, where the pixel spans
   start + step * [i, i + 1]. */
function overlaps(start, step) {
  return Array.from({ length: 28 }, (_, i) => {
    const low = start + step * i;
    const first = Math.max(0, Math.floor(low));
    const shares = [];
    for (let p = first; p < Math.min(SIDE, low + step); p++)
      shares.push((Math.min(low + step, p + 1) - Math.max(low, p)) / step);
    return { first, shares };
  });
}

/* Grey values (784) of the ink (SIDE * SIDE): each pixel is the mean of the area that it covers. */
function average(ink, fromRows, fromColumns) {
  const pixels = new Float64Array(784);
  const line = new Float64Array(SIDE);
  for (let r = 0; r < 28; r++) {
    line.fill(0);
    fromRows[r].shares.forEach((share, p) => {
      const start = (fromRows[r].first + p) * SIDE;
      for (let c = 0; c < SIDE; c++) line[c] += share * ink[start + c];
    });
    for (let c = 0; c < 28; c++) {
      const { first, shares } = fromColumns[c];
      let sum = 0;
      for (let p = 0; p < shares.length; p++) sum += shares[p] * line[first + p];
      pixels[28 * r + c] = sum;
    }
  }
  return pixels;
}

function extentAndCentre(line) {
  const [first, last] = [line.findIndex((v) => v > 0), line.findLastIndex((v) => v > 0)];
  let [sum, moment] = [0, 0];
  line.forEach((v, p) => ((sum += v), (moment += v * (p + 0.5))));
  return { extent: last - first + 1, centre: moment / sum };
}

/* The box around the ink to 20 pixels, the centre of mass to the middle of 28 x 28. */
export function normalize(ink) {
  const [rows, columns] = [new Float64Array(SIDE), new Float64Array(SIDE)];
  for (let i = 0; i < SIDE * SIDE; i++) {
    rows[Math.floor(i / SIDE)] += ink[i];
    columns[i % SIDE] += ink[i];
  }
  const [down, across] = [extentAndCentre(rows), extentAndCentre(columns)];
  const step = Math.max(down.extent, across.extent) / 20;
  return average(ink, overlaps(down.centre - 14 * step, step), overlaps(across.centre - 14 * step, step));
}

export const asDrawn = (ink) => average(ink, overlaps(0, SIDE / 28), overlaps(0, SIDE / 28));

/* A round pen's path from one point to another. */
export function stroke(ink, from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
  const square = dx * dx + dy * dy || 1;
  const reach = [0, 1].map((k) => [
    Math.max(0, Math.floor(Math.min(from[k], to[k]) - PEN - 1)),
    Math.min(SIDE, Math.ceil(Math.max(from[k], to[k]) + PEN + 1)),
  ]);
  for (let row = reach[1][0]; row < reach[1][1]; row++)
    for (let column = reach[0][0]; column < reach[0][1]; column++) {
      const x = column + 0.5 - from[0];
      const y = row + 0.5 - from[1];
      const t = Math.max(0, Math.min(1, (x * dx + y * dy) / square));
      const cover = PEN + 0.5 - Math.hypot(x - t * dx, y - t * dy);
      if (cover > 0) ink[row * SIDE + column] = Math.max(ink[row * SIDE + column], Math.min(1, cover));
    }
}

/* A stored image (784 bytes) as it lies on the pad. */
export function inkOf(image) {
  const pixel = (i) => 28 * Math.floor(i / SIDE / 4) + Math.floor((i % SIDE) / 4);
  return Float64Array.from({ length: SIDE * SIDE }, (_, i) => image[pixel(i)] / 255);
}

/* A canvas to draw on. onpen(from, to, first) is called while a pen is down on it, in points, and
   onlift() when it goes; paint(ink) shows another ink, isDown() tells about the pen. */
export function drawingPad({ onpen, onlift }) {
  const canvas = h("canvas", { width: SIDE, height: SIDE, class: "em2vae-digit em2vae-pad", role: "img" });
  let pen = null;
  let painted = null;
  const move = (event, first) => {
    const box = canvas.getBoundingClientRect();
    const scale = SIDE / box.width;
    const to = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    const from = first ? to : pen;
    pen = to;
    onpen(from, to, first);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    move(event, true);
  });
  canvas.addEventListener("pointermove", (event) => pen && event.buttons && move(event, false));
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      pen = null;
      onlift();
    });
  function paint(ink) {
    if (painted === ink) return;
    painted = ink;
    const picture = new ImageData(SIDE, SIDE);
    const pixels = new Uint32Array(picture.data.buffer); // opaque, the same in all three channels
    for (let i = 0; i < pixels.length; i++) pixels[i] = 0xff000000 | (Math.round(255 * (1 - ink[i])) * 0x10101);
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }
  return { canvas, paint, isDown: () => pen !== null };
}

// Maps and plots ---------------------------------------------------------------------------

/* A square map of codes, each drawn as its digit or as its label's mark (at the edge if it lies
   beyond), with a ring at the current point (null: none) and ellipses {mean, sigma, dashed} at two standard deviations. The
   frame ends at `limit`; data may bring a limit of its own. */
export function latentMap({ colors, marks, limit, onpick }) {
  const canvas = h("canvas", { class: "em2vae-map", role: "img" });
  const points = document.createElement("canvas"); // redrawn only when size, theme or data change
  let drawn = "";
  let theme = {};
  let ring = null;
  const toPixels = (value) => ((value + limit) / (2 * limit)) * canvas.width;
  const inside = (value) => Math.max(-limit, Math.min(limit, value));
  const pick = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = (offset, length) => inside((2 * (offset / length) - 1) * limit);
    onpick(at(event.clientX - box.left, box.width), -at(event.clientY - box.top, box.height));
  };
  if (onpick) {
    const share = (value) => (value + limit) / (2 * limit);
    draggable(canvas, pick, () => (ring ? [[share(ring[0]), 1 - share(ring[1])]] : []));
  }

  function drawPoints({ xs, ys, labels, names }) {
    const context = points.getContext("2d");
    const em = Math.max(canvas.width / 36, parseFloat(getComputedStyle(canvas).fontSize));
    points.width = points.height = canvas.width;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.strokeStyle = theme.line;
    context.strokeRect(toPixels(0), 0, 0, canvas.width);
    context.strokeRect(0, canvas.width - toPixels(0), canvas.width, 0);
    context.font = `600 ${0.62 * em}px system-ui, sans-serif`;
    const shades = colors.map((color) => readable(color, theme.dark));
    const whole = (at) => Math.max(0.35 * em, Math.min(canvas.width - 0.35 * em, at)); // none is cut in half
    for (let i = 0; i < xs.length; i++) {
      context.fillStyle = shades[labels[i] % shades.length];
      context.fillText(marks?.[labels[i]] ?? labels[i], whole(toPixels(xs[i])), whole(canvas.width - toPixels(ys[i])));
    }
    context.font = `${0.75 * em}px system-ui, sans-serif`;
    context.fillStyle = theme.text;
    context.strokeStyle = theme.soft; // a rim that keeps the text readable
    context.lineWidth = em / 4;
    const write = (text, x, y) => {
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    };
    for (const tick of ticks([-limit, limit], 10)) {
      if (!tick || Math.abs(tick) >= limit) continue;
      write(signed(tick, 0), toPixels(tick), canvas.width - 0.6 * em);
      write(signed(tick, 0), 0.8 * em, canvas.width - toPixels(tick));
    }
    write(names[0], canvas.width - 1.2 * em, canvas.width - toPixels(0) - 0.8 * em);
    write(names[1], toPixels(0) + 1.2 * em, 0.8 * em);
  }

  function draw(data, cursor, path = null, ellipses = []) {
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!width) return; // not laid out yet: the resize observer draws again
    if (canvas.width !== width) canvas.width = canvas.height = width;
    if (data.limit) limit = data.limit;
    ring = cursor;
    theme = colorsOf(canvas);
    const key = `${data.key} ${width} ${theme.text} ${theme.soft}`;
    if (key !== drawn) drawPoints(data);
    drawn = key;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, width);
    context.drawImage(points, 0, 0);
    context.lineWidth = Math.max(2, width / 200);
    context.strokeStyle = theme.text;
    for (const { mean, sigma, dashed } of ellipses) {
      const [across, up] = sigma.map((sd) => (2 * sd * width) / (2 * limit)); // two standard deviations
      context.strokeStyle = dashed ? theme.text : theme.accent;
      context.setLineDash(dashed ? [width / 100, width / 100] : []);
      context.beginPath();
      context.ellipse(toPixels(mean[0]), width - toPixels(mean[1]), across, up, 0, 0, 2 * Math.PI);
      context.stroke();
    }
    if (!cursor) return;
    const [x, y] = [toPixels(cursor[0]), width - toPixels(cursor[1])];
    context.beginPath();
    if (path) {
      context.moveTo(toPixels(path[0][0]), width - toPixels(path[0][1]));
      context.lineTo(toPixels(path[1][0]), width - toPixels(path[1][1]));
    }
    context.moveTo(x + width / 40, y);
    context.arc(x, y, width / 40, 0, 2 * Math.PI);
    context.stroke();
    context.fillStyle = theme.accent;
    context.beginPath();
    context.arc(x, y, width / 80, 0, 2 * Math.PI);
    context.fill();
  }
  return { canvas, draw };
}

/* A plane with axes, for curves and clouds of points. In draw(), call start() first: it sizes and
   clears the canvas and paints the axes, and returns false while the page has not laid it out yet.
   Then paint in data coordinates; what lies outside the axes is cut off. Colours are "text",
   "line", "accent", the index of a line colour, or CSS. `range` may be changed at any time.
   xTicks: about how many. axes: false leaves out ticks and grid. minor: on a phone it stands below the controls.
   onpick(x, y, first) is called while a pointer is held down; `first` is true at its start. handles()
   tells where a finger may go up or down without scrolling the page, as pairs [x, y]. */
export function plot({ palette, x, y, xLabel = "", yLabel = "", aspect = 1.5, xTicks = 6, xFormat = tidy, yFormat = tidy, axes = true, minor = false, onpick, handles }) {
  const canvas = h("canvas", { class: "em2vae-plot", role: "img", style: `--em2vae-aspect: ${aspect}` });
  canvas.classList.toggle("em2vae-minor", minor);
  const context = canvas.getContext("2d");
  const range = { x: [...x], y: [...y] };
  let em = 16;
  let box = { left: 0, top: 0, right: 1, bottom: 1 };
  const scale = (value, [low, high], start, end) => start + ((value - low) / (high - low)) * (end - start);
  const toX = (value) => scale(value, range.x, box.left, box.right);
  const toY = (value) => scale(value, range.y, box.bottom, box.top);
  const within = (value, [low, high]) => Math.max(low, Math.min(high, value));

  if (onpick) {
    const pick = (event, first) => {
      const frame = canvas.getBoundingClientRect();
      const at = (offset, length, pixels) => (offset / length) * pixels;
      const px = at(event.clientX - frame.left, frame.width, canvas.width);
      const py = at(event.clientY - frame.top, frame.height, canvas.height);
      const dataX = scale(px, [box.left, box.right], ...range.x);
      const dataY = scale(py, [box.bottom, box.top], ...range.y);
      onpick(within(dataX, range.x), within(dataY, range.y), first);
    };
    draggable(canvas, pick, () => handles().map(([px, py]) => [toX(px) / canvas.width, toY(py) / canvas.height]));
  }

  let theme = {};
  const color = (name) => theme[name] ?? name;
  function readTheme() {
    const own = colorsOf(canvas);
    theme = { ...palette.map((value) => readable(value, own.dark)), ...own };
  }

  function start() {
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    const height = Math.round(canvas.clientHeight * devicePixelRatio);
    if (!width || !height) return false;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    em = parseFloat(getComputedStyle(canvas).fontSize) * devicePixelRatio;
    readTheme();
    context.reset();
    context.font = `${0.85 * em}px system-ui, sans-serif`;
    context.lineJoin = "round";
    const yTicks = axes ? ticks(range.y, 5).map((value) => [value, yFormat(value)]) : [];
    const widest = Math.max(0, ...yTicks.map(([, text]) => context.measureText(text).width));
    box = {
      left: widest + 0.7 * em,
      right: width - 0.8 * em,
      top: (yLabel ? 1.7 : 0.7) * em,
      bottom: height - (xLabel ? 2.7 : 1.5) * em,
    };
    if (axes) drawAxes(yTicks);
    context.beginPath();
    context.rect(box.left, box.top, box.right - box.left, box.bottom - box.top);
    context.clip();
    return true;
  }

  function drawAxes(yTicks) {
    const write = (text, px, py, align, baseline) => {
      context.textAlign = align;
      context.textBaseline = baseline;
      context.fillText(text, px, py);
    };
    context.strokeStyle = color("line");
    context.fillStyle = color("text");
    context.lineWidth = em / 16;
    for (const value of ticks(range.x, xTicks)) {
      context.strokeRect(toX(value), box.top, 0, box.bottom - box.top);
      write(xFormat(value), toX(value), box.bottom + 0.3 * em, "center", "top");
    }
    for (const [value, text] of yTicks) {
      context.strokeRect(box.left, toY(value), box.right - box.left, 0);
      write(text, box.left - 0.4 * em, toY(value), "right", "middle");
    }
    write(xLabel, (box.left + box.right) / 2, canvas.height - 0.2 * em, "center", "bottom");
    write(yLabel, 0.2 * em, 0.2 * em, "left", "top");
  }

  function trace(xs, ys) {
    context.beginPath();
    for (let i = 0; i < xs.length; i++) context.lineTo(toX(xs[i]), toY(ys[i]));
  }
  function pen({ color: name = "text", width = 2, dash = [] }) {
    context.strokeStyle = context.fillStyle = color(name);
    context.lineWidth = (width * em) / 16;
    context.setLineDash(dash.map((length) => (length * em) / 16));
  }
  function line(xs, ys, style = {}) {
    pen(style);
    trace(xs, ys);
    context.stroke();
  }
  function area(xs, ys, { base = 0, alpha = 0.25, ...style } = {}) {
    pen(style);
    trace(xs, ys);
    context.lineTo(toX(xs.at(-1)), toY(base));
    context.lineTo(toX(xs[0]), toY(base));
    context.globalAlpha = alpha;
    context.fill();
    context.globalAlpha = 1;
  }
  /* style.color and style.radius may be functions of the point's index; shape: "disc", "ring",
     "square", "triangle" or "cross". */
  function points(xs, ys, { shape = "disc", radius = 4, color: name = "text", alpha = 1 } = {}) {
    const of = (value, i) => (typeof value === "function" ? value(i) : value);
    context.globalAlpha = alpha;
    if (typeof name !== "function") pen({ color: name });
    for (let i = 0; i < xs.length; i++) {
      const r = (of(radius, i) * em) / 16;
      const [px, py] = [toX(xs[i]), toY(ys[i])];
      if (typeof name === "function") pen({ color: name(i) });
      context.beginPath();
      if (shape === "square") context.rect(px - r, py - r, 2 * r, 2 * r);
      else if (shape === "triangle") {
        for (const [side, up] of [[0, -1.3], [1.2, 0.9], [-1.2, 0.9]]) context.lineTo(px + side * r, py + up * r);
        context.closePath();
      } else if (shape === "cross") {
        for (const side of [-r, r]) {
          context.moveTo(px - r, py - side);
          context.lineTo(px + r, py + side);
        }
      } else context.arc(px, py, r, 0, 2 * Math.PI);
      if (["disc", "square", "triangle"].includes(shape)) context.fill();
      else context.stroke();
    }
    context.globalAlpha = 1;
  }
  /* The points (x - mean)' covariance^-1 (x - mean) = radius^2; covariance: [[a, b], [b, c]]. */
  function ellipse(mean, [[a, b], [, c]], { radius = 2, ...style } = {}) {
    const turns = Array.from({ length: 65 }, (_, i) => (i * Math.PI) / 32);
    const [l11, l21] = [Math.sqrt(a), b / Math.sqrt(a)]; // Cholesky
    const l22 = Math.sqrt(Math.max(0, c - l21 * l21));
    line(
      turns.map((t) => mean[0] + radius * l11 * Math.cos(t)),
      turns.map((t) => mean[1] + radius * (l21 * Math.cos(t) + l22 * Math.sin(t))),
      style,
    );
  }
  function text(string, dataX, dataY, { align = "center", baseline = "bottom", ...style } = {}) {
    pen(style);
    context.textAlign = align;
    context.textBaseline = baseline;
    const apart = { bottom: -0.15 * em, top: 0.15 * em }[baseline] ?? 0; // from a line that it names
    const width = context.measureText(string).width;
    const before = { left: 0, center: width / 2, right: width }[align];
    const inside = Math.max(box.left + before, Math.min(box.right - width + before, toX(dataX))); // not cut off
    const [px, py] = [inside, toY(dataY) + apart];
    Object.assign(context, { lineWidth: em / 4, strokeStyle: color("soft") }); // readable over lines
    context.setLineDash([]);
    context.strokeText(string, px, py);
    context.fillText(string, px, py);
  }
  return { canvas, range, start, line, area, points, ellipse, text };
}

const tidy = (value) => signed(value, Number.isInteger(value) ? 0 : Math.abs(value * 10) % 1 < 1e-9 ? 1 : 2);

/* About `count` round numbers that span the range. */
function ticks([low, high], count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

// The frame around a figure ------------------------------------------------------------------

const isFull = (root) => document.fullscreenElement === root;

function fullScreenButton(root) {
  if (!document.fullscreenEnabled) return "";
  const toggle = button("Full screen", () => (isFull(root) ? document.exitFullscreen() : root.requestFullscreen()));
  root.addEventListener("fullscreenchange", () => {
    toggle.textContent = isFull(root) ? "Leave full screen" : "Full screen";
    if (isFull(root)) fitToScreen(root);
  });
  return toggle;
}

/* Draws for paper, light whatever the page's theme, while the page is printed. */
function whilePrinting(root, draw) {
  const printed = matchMedia("print");
  const change = (printing) => () => {
    if (root.hasAttribute("data-print") === printing()) return;
    root.toggleAttribute("data-print", printing());
    draw(); // at once: no frame comes before the page is on paper
  };
  const events = [
    [printed, "change", change(() => printed.matches)],
    [window, "beforeprint", change(() => true)],
    [window, "afterprint", change(() => false)],
  ];
  for (const [target, name, listener] of events) target.addEventListener(name, listener);
  return () => events.forEach(([target, name, listener]) => target.removeEventListener(name, listener));
}

/* As large as it can be without scrolling: figure.css scales width and text by --em2vae-size. */
function fitToScreen(root) {
  const tooTall = (size) => {
    root.style.setProperty("--em2vae-size", size);
    keepHeights(root);
    return root.scrollHeight - root.clientHeight;
  };
  let best = [Infinity];
  for (let size = 1; size > 0.4 && best[0] > 0; size -= 0.05) {
    const excess = tooTall(size);
    if (excess < best[0]) best = [excess, size];
  }
  tooTall(best[0] < root.clientHeight / 4 ? best[1] : 1); // a small screen scrolls whatever the size
}

/* While the width stays, what the figure says takes the room of its longest text so far: a line more
   or less would move the whole page under the hand. */
function keepHeights(root) {
  for (const said of root.querySelectorAll(".em2vae-said")) {
    const width = String(said.clientWidth);
    if (said.dataset.width !== width) said.style.minHeight = "";
    said.dataset.width = width;
    const height = `${said.offsetHeight}px`;
    if (said.style.minHeight !== height) said.style.minHeight = height;
  }
}

/* setup({model, root, redraw, set}) returns {buttons, content, caption, draw, traits, close}: what to
   show, how to paint it into the elements (false: there is nothing to show yet), the traits whose
   change paints it again, and what ends with it. set({trait: value, ...}) also tells a kernel. */
export function interactive(setup) {
  function render({ model, el }) {
    const root = h("figure", {
      class: "em2vae",
      "data-interactive": model.get("_figure"),
      "data-state": "loading",
    });
    const fail = (error) => {
      const message = `This figure could not start: ${error.message}. Reload the page to try again.`;
      root.dataset.state = "error";
      root.replaceChildren(h("p", { class: "em2vae-message", role: "alert" }, message));
    };
    let parts;
    let pending = 0;
    let fitted = 0; // the height that did not fit the screen any better
    const refit = () => {
      if (!isFull(root)) return;
      fitToScreen(root);
      fitted = root.scrollHeight;
    };
    const redraw = () => {
      pending ||= requestAnimationFrame(() => {
        pending = 0;
        try {
          const drawn = parts.draw();
          keepHeights(root);
          if (!isFull(root)) fitted = 0;
          else if (root.scrollHeight > Math.max(root.clientHeight, fitted)) refit(); // it has grown
          if (drawn !== false) root.dataset.state = "ready";
        } catch (error) {
          fail(error);
        }
      });
    };
    const set = (traits) => {
      for (const [trait, value] of Object.entries(traits)) model.set(trait, value);
      model.save_changes();
    };
    el.append(root);
    try {
      parts = setup({ model, root, redraw, set });
    } catch (error) {
      return fail(error);
    }
    const buttons = h("div", { class: "em2vae-buttons" }, ...parts.buttons, fullScreenButton(root));
    const caption = h("figcaption", {}, parts.caption);
    root.append(buttons, ...parts.content, caption);
    const theme = new MutationObserver(redraw);
    const options = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] };
    for (const node of [document.documentElement, document.body]) theme.observe(node, options);
    const forced = matchMedia("(forced-colors: active)");
    forced.addEventListener("change", redraw);
    const size = new ResizeObserver(redraw);
    size.observe(root);
    window.addEventListener("resize", refit); // some browsers size the window late
    for (const trait of parts.traits) model.on(`change:${trait}`, redraw);
    try {
      parts.draw(); // at once, while the page's own scripts keep the first frame waiting
    } catch (error) {
      return fail(error);
    }
    redraw();
    const stopPrinting = whilePrinting(root, () => parts.draw());
    return () => {
      theme.disconnect();
      forced.removeEventListener("change", redraw);
      size.disconnect();
      window.removeEventListener("resize", refit);
      stopPrinting();
      for (const trait of parts.traits) model.off(`change:${trait}`, redraw);
      parts.close?.();
    };
  }
  return { render };
}
