/* What the interactive figures share: networks, controls, the latent map, and the frame around a
   figure. Joined with each figure's module by figure.py. */

// Bytes and networks -------------------------------------------------------------------------

const crcOfByte = Uint32Array.from({ length: 256 }, (_, crc) => {
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

export function crc32(view) {
  let crc = -1;
  for (let i = 0; i < view.byteLength; i++)
    crc = (crc >>> 8) ^ crcOfByte[(crc ^ view.getUint8(i)) & 255];
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
  halves ??= Float32Array.from({ length: 65536 }, (_, bits) => half(bits));
  return Float32Array.from({ length: count }, (_, i) => halves[view.getUint16(start + 2 * i, true)]);
}

export function unpackNetwork({ layers, crc32: expected }, view) {
  if (crc32(view) !== expected) throw new Error("its weights are damaged (checksum)");
  let start = 0;
  const take = (count) => {
    start += 2 * count;
    return unpackHalves(view, start - 2 * count, count);
  };
  return layers.map((layer) => ({
    ...layer,
    weight: take(layer.outputs * layer.inputs),
    bias: take(layer.outputs),
  }));
}

const activations = {
  identity: (a) => a,
  relu: (a) => (a > 0 ? a : 0),
  tanh: Math.tanh,
  silu: (a) => a / (1 + Math.exp(-a)),
};

export function forward(network, input) {
  for (const { inputs, outputs, activation, weight, bias } of network) {
    const output = new Float32Array(outputs);
    const activate = activations[activation];
    for (let o = 0, w = 0; o < outputs; o++) {
      let sum = bias[o];
      for (let i = 0; i < inputs; i++) sum += weight[w++] * input[i];
      output[o] = activate(sum);
    }
    input = output;
  }
  return input;
}

export const decode = (decoder, z) => forward(decoder, z).map((logit) => 1 / (1 + Math.exp(-logit)));

export function encode(encoder, x) {
  const heads = forward(encoder, x);
  const K = heads.length / 2;
  return { mu: heads.slice(0, K), logVar: heads.slice(K) };
}

export const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

export const bytesOf = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);

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
    input.value = number;
    shown.textContent = format(number);
    input.setAttribute("aria-valuetext", format(number));
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

export const signed = (value, digits = 2) =>
  `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;

export const subscript = (index) =>
  String(index).replace(/\d/g, (digit) => String.fromCharCode(0x2080 + Number(digit)));

// Pictures -----------------------------------------------------------------------------------

export function digitCanvas(label, size = 28) {
  return h("canvas", { width: size, height: size, class: "em2vae-digit", role: "img", "aria-label": label });
}

/* Ink on paper: grey values (28*28) in [0, 1], at column, row of a canvas of such tiles. */
export function drawDigit(canvas, values, column = 0, row = 0) {
  const picture = new ImageData(28, 28);
  for (let i = 0; i < 784; i++) {
    const grey = Math.round(255 * (1 - values[i]));
    picture.data.set([grey, grey, grey, 255], 4 * i);
  }
  canvas.getContext("2d").putImageData(picture, 28 * column, 28 * row);
}

const themeColor = (element, name) => getComputedStyle(element).getPropertyValue(name).trim();

function readable(color, dark) {
  if (!dark) return color;
  const channels = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return `rgb(${channels.map((c) => Math.round(c * 0.62 + 255 * 0.38)).join(" ")})`;
}

/* A square map of codes, each drawn as its digit (at the edge if it lies beyond), with a ring at
   the current point. */
export function latentMap({ colors, limit, onpick }) {
  const canvas = h("canvas", { class: "em2vae-map", role: "img" });
  const points = document.createElement("canvas"); // redrawn only when size, theme or data change
  let drawn = "";
  const toPixels = (value) => ((value + limit) / (2 * limit)) * canvas.width;
  const inside = (value) => Math.max(-limit, Math.min(limit, value));
  const pick = (event) => {
    const box = canvas.getBoundingClientRect();
    const at = (offset, length) => inside((2 * (offset / length) - 1) * limit);
    onpick(at(event.clientX - box.left, box.width), -at(event.clientY - box.top, box.height));
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pick(event);
  });
  canvas.addEventListener("pointermove", (event) => event.buttons && pick(event));

  function drawPoints({ xs, ys, labels, names }) {
    const context = points.getContext("2d");
    const dark = themeColor(canvas, "--em2vae-dark") === "1";
    const em = Math.max(canvas.width / 36, parseFloat(getComputedStyle(canvas).fontSize));
    points.width = points.height = canvas.width;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.strokeStyle = themeColor(canvas, "--em2vae-line");
    context.strokeRect(toPixels(0), 0, 0, canvas.width);
    context.strokeRect(0, canvas.width - toPixels(0), canvas.width, 0);
    context.font = `600 ${0.62 * em}px system-ui, sans-serif`;
    for (let i = 0; i < xs.length; i++) {
      context.fillStyle = readable(colors[labels[i]], dark);
      context.fillText(labels[i], toPixels(inside(xs[i])), canvas.width - toPixels(inside(ys[i])));
    }
    context.font = `${0.75 * em}px system-ui, sans-serif`;
    context.fillStyle = themeColor(canvas, "--em2vae-text");
    context.strokeStyle = themeColor(canvas, "--em2vae-soft"); // a rim that keeps the text readable
    context.lineWidth = em / 4;
    const write = (text, x, y) => {
      context.strokeText(text, x, y);
      context.fillText(text, x, y);
    };
    for (let tick = 1 - Math.ceil(limit); tick < limit; tick++) {
      if (!tick) continue;
      write(signed(tick, 0), toPixels(tick), canvas.width - 0.6 * em);
      write(signed(tick, 0), 0.8 * em, canvas.width - toPixels(tick));
    }
    write(names[0], canvas.width - 1.2 * em, canvas.width - toPixels(0) - 0.8 * em);
    write(names[1], toPixels(0) + 1.2 * em, 0.8 * em);
  }

  function draw(data, cursor, path = null) {
    const width = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!width) return; // not laid out yet: the resize observer draws again
    if (canvas.width !== width) canvas.width = canvas.height = width;
    const key = `${data.key} ${width} ${themeColor(canvas, "--em2vae-text")}`;
    if (key !== drawn) drawPoints(data);
    drawn = key;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, width);
    context.drawImage(points, 0, 0);
    context.lineWidth = Math.max(2, width / 200);
    context.strokeStyle = themeColor(canvas, "--em2vae-text");
    const [x, y] = [toPixels(cursor[0]), width - toPixels(cursor[1])];
    context.beginPath();
    if (path) {
      context.moveTo(toPixels(path[0][0]), width - toPixels(path[0][1]));
      context.lineTo(toPixels(path[1][0]), width - toPixels(path[1][1]));
    }
    context.moveTo(x + width / 40, y);
    context.arc(x, y, width / 40, 0, 2 * Math.PI);
    context.stroke();
    context.fillStyle = themeColor(canvas, "--em2vae-accent");
    context.beginPath();
    context.arc(x, y, width / 80, 0, 2 * Math.PI);
    context.fill();
  }
  return { canvas, draw };
}

// The frame around a figure ------------------------------------------------------------------

function fullScreenButton(root) {
  if (!document.fullscreenEnabled) return "";
  const toggle = button("Full screen", () =>
    document.fullscreenElement === root ? document.exitFullscreen() : root.requestFullscreen(),
  );
  root.addEventListener("fullscreenchange", () => {
    toggle.textContent = document.fullscreenElement === root ? "Leave full screen" : "Full screen";
  });
  return toggle;
}

/* setup({model, root, redraw}) returns {buttons, content, caption, draw, traits}: what to show, how
   to paint it into the elements, and the traits whose change paints it again. */
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
    const redraw = () => {
      pending ||= requestAnimationFrame(() => {
        pending = 0;
        try {
          parts.draw();
          root.dataset.state = "ready";
        } catch (error) {
          fail(error);
        }
      });
    };
    el.append(root);
    try {
      parts = setup({ model, root, redraw });
    } catch (error) {
      return fail(error);
    }
    const buttons = h("div", { class: "em2vae-buttons" }, ...parts.buttons, fullScreenButton(root));
    const caption = h("figcaption", {}, parts.caption);
    root.append(buttons, ...parts.content, caption);
    const theme = new MutationObserver(redraw);
    const options = { attributes: true, attributeFilter: ["data-theme", "data-jp-theme-light"] };
    for (const node of [document.documentElement, document.body]) theme.observe(node, options);
    const size = new ResizeObserver(redraw);
    size.observe(root);
    for (const trait of parts.traits) model.on(`change:${trait}`, redraw);
    try {
      parts.draw(); // at once, while the page's own scripts keep the first frame waiting
    } catch (error) {
      return fail(error);
    }
    redraw();
    return () => {
      theme.disconnect();
      size.disconnect();
      for (const trait of parts.traits) model.off(`change:${trait}`, redraw);
    };
  }
  return { render };
}
