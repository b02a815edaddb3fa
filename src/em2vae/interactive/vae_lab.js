import {
  SIDE, button, bytesOf, checkbox, counted, crc32, digitCanvas, h, interactive, latentMap, normalize,
  plot, plural, seededRandom, select, sentence, signed, slider, stroke, subscript,
} from "./shared.js";

const CAPTION =
  "A variational autoencoder, trained in this page. Solid curves: 1,000 held-out digits, measured by the right bound. " +
  "Dashed: what the program itself reports, averaged over each epoch. The map shows the codes of 500 held-out digits, " +
  "each drawn as its label (in more than two dimensions, along the two with the largest divergence), and the code of yours. Codes beyond its frame stand at the edge.";
const NAMES = {
  latent: "Latent dimensions", layers: "Hidden layers", hidden: "Units in each", activation: "Activation",
  likelihood: "Likelihood", sigma: "σ of a pixel", objective: "Objective", draws: "Draws per image",
  beta: "β", warmup: "Epochs in which β grows", freeBits: "Free nats a dimension", bug: "Break it",
  optimizer: "Optimizer", learningRate: "Learning rate", batch: "Mini-batch", images: "Training images",
  seed: "Seed",
};
const WORDS = {
  relu: "ReLU", tanh: "tanh", silu: "SiLU",
  bernoulli: "Bernoulli, binary pixels", grey: "Bernoulli, grey pixels", normal: "normal, σ fixed",
  learned: "normal, σ learned",
  elbo: "ELBO", iwae: "importance-weighted", autoencoder: "plain autoencoder",
  adam: "Adam", sgd: "plain SGD",
};
const BUGS = {
  none: ["nothing", ""],
  "kl-mean": ["5: the divergence averaged over dimensions", "the report is better than the right bound, and the divergence is large"],
  variance: ["6: noise times σ²", "hardly any; the report is a little better than the right bound"],
  "upside-down": ["7: importance weights upside down", "the report lies below the right bound, the further the more draws"],
  sigmoid: ["8: sigmoid, then logarithm", "none, until a pixel is very wrong"],
  tanh: ["9: tanh and a clamp", "a bound more than a hundred nats too low, though every mini-batch counts a step"],
  relu: ["10: a ReLU on log σ²", "blurred pictures and a low bound; no σ below 1"],
  step: ["11: the step outside the loop", "the curves hardly move"],
  broadcast: ["12: everybody with everybody", "all reconstructions are the same blot; the divergence goes to zero"],
  pixels: ["likelihood averaged over pixels (chapter 13)", "the divergence goes to zero: it weighs 784 times too much"],
};
const RIDDLES = ["relu", "kl-mean", "step", "broadcast", "variance", "tanh"];
const RECORDS = 1000; // of a run, kept at most: a curve has no more pixels
const ACTIVE = 0.1; // nats of divergence, above which the sentence counts a dimension
const NAMED = 4; // settings that a run's sentence names
const GROUPS = {
  Model: ["latent", "layers", "hidden", "activation", "likelihood", "sigma"],
  Objective: ["objective", "draws", "beta", "warmup", "freeBits", "bug"],
  Training: ["optimizer", "learningRate", "batch", "images", "digits", "seed"],
};
const PRESETS = [
  ["start", "The default", {}, null, "Two latent dimensions and the ELBO. Train for fifteen epochs: where do the digits part first?"],
  ["collapse", "A collapse", { latent: 10, beta: 4 }, null, "β = 4 makes every nat of the code cost four. Which bars of the divergence stay at zero? Set β back to 1 while it trains: do they come back?"],
  ["beta", "Heavy β beside β = 1", { latent: 8, beta: 8 }, { latent: 8 }, "The same seed with β = 8 and 1. Compare reconstructions, samples and the bars."],
  ["free", "Free nats", { latent: 10, beta: 4, freeBits: 0.5 }, { latent: 10, beta: 4 }, "Half a nat a dimension for free, beside none: what do the dimensions do with it?"],
  ["autoencoder", "A plain autoencoder beside a VAE", { objective: "autoencoder" }, {}, "No noise, no divergence. Reconstructions against samples: which model knows what a digit is?"],
  ["few", "Too few images", { latent: 10, hidden: 256, batch: 10, images: 100 }, null, "A hundred images. Watch the dashed and the solid curve part: where would you have stopped?"],
  ["iwae", "Importance-weighted", { latent: 8, objective: "iwae", draws: 5 }, { latent: 8 }, "Five draws inside the logarithm, beside the ELBO. Their bounds are not the same quantity: the samples are."],
  ["lost", "A learning rate too large", { optimizer: "sgd", learningRate: 0.1 }, null, "Plain SGD at 0.1, for a sum over 784 pixels. The bound is soon lost, and the lab says what to change."],
  ...Object.keys(BUGS).filter((bug) => bug !== "none").map((bug) => [
    bug, bug === "pixels" ? "Break it: likelihood averaged over pixels" : `Break it, exhibit ${BUGS[bug][0]}`,
    { latent: 8, ...needs(bug), bug }, { latent: 8, ...needs(bug) }, `A with the bug, B without. Look for: ${BUGS[bug][1]}.`,
  ]),
];

/* What a bug needs in order to change anything. */
function needs(bug) {
  if (bug === "upside-down") return { objective: "iwae", draws: 5 };
  const patch = {};
  if (["kl-mean", "variance"].includes(bug) || bug.startsWith("riddle")) patch.objective = "elbo";
  if (["sigmoid", "tanh"].includes(bug) || bug.startsWith("riddle")) patch.likelihood = "bernoulli";
  if (bug.startsWith("riddle")) patch.latent = 8;
  return patch;
}

/* After a change of one setting: a bug brings what it needs, and goes where that is taken away. */
function settle(settings, changed) {
  const wanted = needs(settings.bug);
  if (changed === "bug") {
    if (settings.draws > 1) delete wanted.draws;
    return { ...settings, ...wanted };
  }
  const met = Object.entries(wanted).every(([name, value]) => name === "draws" || settings[name] === value);
  const moot = settings.objective === "autoencoder" && settings.bug === "relu"; // no σ there
  return met && !moot ? settings : { ...settings, bug: "none" };
}

const forWorker = (settings) => {
  const riddle = settings.bug.startsWith("riddle") ? RIDDLES[settings.bug.slice(7) - 1] : null;
  return riddle ? { ...settings, bug: riddle } : settings;
};

// The address ----------------------------------------------------------------------------------

const START = "#lab:";

/* Settings that differ from the defaults, and behind a semicolon those of run B. */
function toAddress(runs, defaults) {
  const text = (settings) =>
    Object.keys(defaults).filter((name) => settings[name] !== defaults[name])
      .map((name) => `${name}=${settings[name]}`).join(",");
  return START + runs.map(text).join(";");
}

/* The settings of the runs, or null where the address holds none; throws where it is damaged. */
function fromAddress(hash, rules, defaults) {
  if (!hash.startsWith(START)) return null;
  const parts = decodeURIComponent(hash.slice(START.length)).split(";");
  if (parts.length > 2) throw new Error("it names more than two runs");
  return parts.map((part) => {
    const settings = { ...defaults };
    for (const pair of part.split(",").filter(Boolean)) {
      const [name, text] = pair.split("=");
      const rule = rules[name];
      if (!rule) throw new Error(`it names a setting ${name}`);
      const value = typeof rule.value === "number" ? Number(text) : text;
      const fits = rule.options ? rule.options.includes(value)
        : name === "digits" ? /^\d+$/.test(value)
        : value >= rule.min && value <= rule.max && (rule.step < 1 || Number.isInteger(value));
      if (!fits) throw new Error(`${name} is ${text}`);
      settings[name] = value;
    }
    return settings;
  });
}

// Controls -------------------------------------------------------------------------------------

function inWords(name, value) {
  if (name === "bug") return BUGS[value]?.[0] ?? value.replace("-", " ");
  if (name === "digits" || name === "learningRate") return String(value);
  return WORDS[value] ?? counted(value);
}

/* The controls of all settings; update(settings) shows them. */
function settingsPanel(rules, onchange) {
  const controls = {};
  for (const [name, rule] of Object.entries(rules)) {
    const label = NAMES[name];
    if (rule.options) {
      const options = rule.options.map((value) => [String(value), inWords(name, value)]);
      const change = (text) => onchange(name, typeof rule.value === "number" ? Number(text) : text);
      const { element, input } = select({ label, options, value: String(rule.value), onchange: change });
      element.classList.add("em2vae-setting");
      controls[name] = { element, input, update: (value) => (input.value = String(value)) };
    } else if (name !== "digits") {
      const format = (value) => (rule.step < 1 ? value.toFixed(1) : String(value));
      const { min, max, step, value } = rule;
      controls[name] = slider({ label, min, max, step, value, format, oninput: (v) => onchange(name, v) });
    }
  }
  const boxes = Array.from({ length: 10 }, (_, digit) =>
    checkbox({
      label: String(digit),
      checked: true,
      onchange: () => onchange("digits", boxes.flatMap(({ input }, n) => (input.checked ? [n] : [])).join("")),
    }),
  );
  controls.digits = {
    element: h("fieldset", { class: "em2vae-digits" }, h("legend", {}, "Digits"), ...boxes.map(({ element }) => element)),
    update: (digits) => boxes.forEach(({ input }, n) => (input.checked = digits.includes(n))),
  };
  const groups = Object.entries(GROUPS).map(([title, names]) =>
    h("fieldset", {}, h("legend", {}, title), ...names.map((name) => controls[name].element)),
  );
  function update(settings) {
    for (const [name, control] of Object.entries(controls)) control.update(settings[name]);
    const { objective, likelihood } = settings;
    const idle = {
      sigma: likelihood !== "normal",
      beta: objective !== "elbo", warmup: objective !== "elbo", freeBits: objective !== "elbo",
      draws: objective === "autoencoder",
    };
    for (const [name, off] of Object.entries(idle)) controls[name].input.disabled = off;
  }
  return { element: h("div", { class: "em2vae-settings" }, ...groups), update };
}

// A run ----------------------------------------------------------------------------------------

/* Pictures as bytes, n to a row, ink on paper. */
function drawTiles(canvas, bytes, columns) {
  const count = bytes.length / 784;
  const rows = Math.max(1, Math.ceil(count / columns));
  if (canvas.width !== 28 * columns) canvas.width = 28 * columns;
  if (canvas.height !== 28 * rows) canvas.height = 28 * rows;
  const picture = new ImageData(canvas.width, canvas.height);
  for (let n = 0; n < count; n++)
    for (let i = 0; i < 784; i++) {
      const row = 28 * Math.floor(n / columns) + Math.floor(i / 28);
      const at = 4 * (row * canvas.width + 28 * (n % columns) + (i % 28));
      picture.data[at] = picture.data[at + 1] = picture.data[at + 2] = 255 - bytes[784 * n + i];
      picture.data[at + 3] = 255;
    }
  canvas.getContext("2d").putImageData(picture, 0, 0);
}

const FRAMES = [3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128];

/* The smallest frame that holds 95 of 100 codes. */
function frameOf(xs, ys) {
  const far = Float32Array.from(xs, (x, n) => Math.max(Math.abs(x), Math.abs(ys[n]))).sort();
  return FRAMES.find((limit) => limit >= far[Math.floor(0.95 * far.length)]) ?? FRAMES.at(-1);
}

/* Every other record, and the last. */
const thinned = (records) => records.filter((_, n) => n % 2 === 0 || n === records.length - 1);

function createRun({ name, model, settings, source, onchange, onweights }) {
  const worker = new Worker(source);
  const state = { settings, view: null, records: [], lost: null, kernel: null, failed: null, views: 0 };
  const send = (type, more = {}) => worker.postMessage({ type, ...more });
  const picture = (text, kind) => h("div", { class: `em2vae-picture em2vae-${kind}` }, h("span", {}, text));
  const map = latentMap({ colors: model.get("_colors"), limit: 3 });
  const color = model.get("_palette")["AB".indexOf(name)]; // of its curves
  const [position, speed] = [h("span"), h("span", { class: "em2vae-speed" })];
  const title = h("p", { class: "em2vae-title", style: `border-color: ${color}` }, position, " ", speed);
  const parts = {
    reconstructions: [picture("Held-out digits, and below them their reconstructions", "rows"), 10],
    samples: [picture("Samples: draws of the prior, decoded", "rows"), 10],
    manifold: [picture("Codes from −2.4 to 2.4, decoded", "manifold"), 12],
    own: [picture("Your digit, reconstructed", "own"), 1],
  };
  const canvases = Object.fromEntries(Object.entries(parts).map(([key, [box]]) => {
    const canvas = digitCanvas(`${box.textContent}, run ${name}`);
    box.prepend(canvas);
    return [key, canvas];
  }));
  worker.onmessage = ({ data }) => {
    const { type } = data;
    if (type === "view") {
      state.view = data;
      state.views++;
    } else if (type === "record") {
      if (!data.train) [state.records, state.lost] = [[], null];
      state.records.push(data);
      if (state.records.length > RECORDS) state.records = thinned(state.records);
    } else if (type === "lost") state.lost = data.message;
    else if (type === "kernel") state.kernel = data.name;
    else return onweights(data);
    onchange();
  };
  worker.onerror = (event) => {
    event.preventDefault();
    state.failed = event.message || "this browser lets no worker start from this page";
    onchange();
  };
  const train = ["_train", "_test"].map((set) => ({
    pixels: bytesOf(model.get(set)).slice(),
    labels: bytesOf(model.get(`${set}_labels`)).slice(),
  }));
  send("start", {
    wasm: globalThis.WebAssembly ? bytesOf(model.get("_wasm")).slice() : null,
    data: { train: train[0], test: train[1] },
    settings: forWorker(settings),
  });

  /* In words, after as many epochs at most; settings that differ from the defaults first. */
  function describe(defaults, most) {
    const { settings, view, records, lost, failed, kernel } = state;
    const record = records.findLast(({ epochs }) => epochs <= most);
    const own = Object.keys(defaults).filter((key) => settings[key] !== defaults[key]);
    const changed = own.slice(0, NAMED).map((key) => `${(NAMES[key] ?? key).toLowerCase()}: ${inWords(key, settings[key])}`);
    if (own.length > NAMED) changed.push(`and ${own.length - NAMED} more`);
    const prefix = `Run ${name}${own.length ? ` (${changed.join("; ")})` : ""}`;
    if (failed) return `${prefix} could not start: ${failed}.`;
    if (!view || !record) return `${prefix} is getting ready.`;
    const { epochs, test: { elbo, logLikelihood, kl, klPerDim } } = record;
    const slow = kernel === "JavaScript" ? " This browser has no WebAssembly: training is slower." : "";
    const bound = elbo === null ? "no bound" : `bound ${signed(elbo, 1)}`;
    const open = klPerDim.filter((each) => each > ACTIVE).length;
    const where = klPerDim.length > 2 ? `, more than ${ACTIVE} in ${open} of ${klPerDim.length} dimensions` : "";
    const measured = `${bound}, log-likelihood ${signed(logLikelihood, 1)}, divergence ${signed(kl, 1)} nats${where}`;
    const stopped = lost ? ` It stopped: its bound was lost. The likely cause: ${lost}. The weights before that are on show.` : "";
    const step = view.batch ? ` The last mini-batch: ${signed(view.batch.elbo, 1)}.` : "";
    return `${prefix} after ${plural(epochs, "epoch")}, on held-out digits: ${measured}.${step}${stopped}${slow}`;
  }

  const frame = () => (state.view ? frameOf(state.view.xs, state.view.ys) : 0);

  function draw(limit) {
    const { view } = state;
    if (!view) return;
    const names = view.dims.map((k) => (k < state.settings.latent ? `z${subscript(k + 1)}` : ""));
    const own = view.own ? view.dims.map((k) => view.own.mu[k] ?? 0) : null;
    const sigma = view.own ? view.dims.map((k) => view.own.width[k] ?? 0) : null;
    map.draw({ key: `${state.views}`, limit, names, labels: view.labels, xs: view.xs, ys: view.ys },
      own, null, own && state.settings.objective !== "autoencoder" ? [{ mean: own, sigma }] : []);
    position.textContent = `${name}: epoch ${counted(view.epochs)}, step ${counted(view.steps)}`;
    const rate = counted(Math.round(view.speed / 100) * 100);
    speed.textContent = view.running && view.speed ? `${rate} images a second` : "paused";
    const both = new Uint8ClampedArray(20 * 784);
    both.set(view.originals);
    both.set(view.reconstructions, 10 * 784);
    drawTiles(canvases.reconstructions, both, 10);
    drawTiles(canvases.samples, view.samples, 10);
    parts.manifold[0].hidden = !view.manifold.length;
    if (view.manifold.length) drawTiles(canvases.manifold, view.manifold, 12);
    parts.own[0].style.visibility = view.own ? "visible" : "hidden"; // its place is kept
    if (view.own) drawTiles(canvases.own, view.own.picture, 1);
    const when = `of run ${name} after ${plural(view.epochs, "epoch")}`;
    map.canvas.setAttribute("aria-label", `Codes of ${view.labels.length} held-out digits, map ${when}`);
    canvases.reconstructions.setAttribute("aria-label", `Held-out digits and their reconstructions ${when}`);
    canvases.samples.setAttribute("aria-label", `Ten samples ${when}`);
    canvases.manifold.setAttribute("aria-label", `Pictures decoded from a grid of codes ${when}`);
    canvases.own.setAttribute("aria-label", `Your digit as reconstructed ${when}`);
    send("shown");
  }
  const element = h("div", { class: "em2vae-run" }, title, map.canvas,
    ...["reconstructions", "samples", "manifold", "own"].map((key) => parts[key][0]));
  return { name, state, send, element, frame, draw, describe, close: () => worker.terminate() };
}

// Curves ---------------------------------------------------------------------------------------

const finite = (value) => (Number.isFinite(value) ? signed(value, 1) : "unknown");

/* A curve of each run: what the program reports, dashed, and the held-out images. */
function curves(palette, yLabel, key) {
  const figure = plot({ palette, x: [0, 10], y: [0, 1], xLabel: "epochs", yLabel, aspect: 1.6 });
  function draw(runs) {
    const all = runs.flatMap(({ state }) => state.records);
    const last = Math.max(10, ...all.map(({ epochs }) => epochs));
    const recorded = Math.max(0, ...all.map(({ epochs }) => epochs));
    const settled = all.filter(({ epochs }) => epochs >= Math.min(3, recorded / 3)); // the start lies far below
    const values = (settled.length ? settled : all)
      .flatMap(({ train, test }) => [train?.[key], test[key]]).filter(Number.isFinite);
    const [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
    const room = Math.max(1, 0.08 * (high - low));
    const ends = runs.map(({ name, state }) => `run ${name} ${finite(state.records.at(-1)?.test[key])}`);
    figure.canvas.setAttribute("aria-label", `Curve over ${last} epochs, ${yLabel}; at its end ${ends.join(", ")}`);
    figure.range.x = [0, last];
    figure.range.y = [key === "kl" ? 0 : low - room, high + room];
    if (!figure.start()) return;
    runs.forEach(({ state }, color) => {
      const train = state.records.filter(({ train }) => train);
      const held = state.records.filter(({ test }) => test[key] !== null);
      figure.line(train.map(({ epochs }) => epochs), train.map(({ train }) => train[key]), { color, dash: [5, 4], width: 1.5 });
      figure.line(held.map(({ epochs }) => epochs), held.map(({ test }) => test[key]), { color, width: 2.5 });
    });
  }
  return { canvas: figure.canvas, draw };
}

function bars(palette) {
  const figure = plot({ palette, x: [0.4, 2.6], y: [0, 1], xLabel: "latent dimension", yLabel: "divergence of each, nats", aspect: 1.6, xFormat: (v) => (Number.isInteger(v) ? String(v) : "") });
  function draw(runs) {
    const found = runs.map(({ state }) => state.records.at(-1)?.test.klPerDim ?? []);
    const texts = found.map((kl, n) => `run ${runs[n].name} ${[...kl].map((value) => value.toFixed(1)).join(" ")}`);
    figure.canvas.setAttribute("aria-label", `Bars, the divergence of each latent dimension in nats: ${texts.join("; ")}`);
    figure.range.x = [0.4, Math.max(1, ...found.map((kl) => kl.length)) + 0.6];
    figure.range.y = [0, 1.1 * Math.max(1, ...found.flatMap((kl) => [...kl]))];
    if (!figure.start()) return;
    found.forEach((kl, color) => {
      const left = (k) => k + 0.6 + (0.8 * color) / found.length;
      for (let k = 0; k < kl.length; k++)
        figure.area([left(k), left(k) + 0.8 / found.length], [kl[k], kl[k]], { color, alpha: 0.85 });
    });
  }
  return { canvas: figure.canvas, draw };
}

// The figure -----------------------------------------------------------------------------------

export default interactive(({ model, root, redraw, set }) => {
  // State
  const rules = model.get("_rules");
  const names = Object.values(GROUPS).flat(); // in the order of the panel, also in words and addresses
  const defaults = Object.fromEntries(names.map((name) => [name, rules[name].value]));
  const inBook = document.documentElement.dataset.content_root !== undefined;
  const source = URL.createObjectURL(
    new Blob([`${seededRandom}\n${model.get("_worker")}`], { type: "text/javascript" }),
  );
  let runs = [];
  let edited = 0; // the run whose settings the panel shows
  let training = false;
  let until = Infinity; // epochs
  let notice = ""; // on the address, the last preset, a file
  let saving = false;
  let ink = new Float64Array(SIDE * SIDE);
  let pen = null;
  const images = bytesOf(model.get("_test"));
  const labels = bytesOf(model.get("_test_labels"));

  function onweights({ epochs, weights }) {
    const bytes = new Uint8Array(weights.buffer);
    set({ _weights: new DataView(weights.buffer) });
    if (!saving) return;
    saving = false;
    notice = `Run A is saved as vae.lab, as it is after ${plural(epochs, "epoch")}.`;
    redraw();
    const header = { format: "em2vae lab 1", settings: runs[0].state.settings, epochs, crc32: crc32(bytes) };
    const file = new Blob([`${JSON.stringify(header)}\n`, bytes]);
    const link = h("a", { href: URL.createObjectURL(file), download: "vae.lab" });
    link.click();
    URL.revokeObjectURL(link.href);
  }

  const newRun = (name, settings) =>
    createRun({ name, model, settings, source, onchange: keepStep, onweights });

  const going = () => runs.filter(({ state }) => !state.lost && !state.failed);
  const behind = (some) => Math.min(...some.map(({ state }) => state.records.at(-1)?.epochs ?? 0));

  /* Neither of two runs goes more than an epoch ahead, and none beyond `until`. */
  function keepStep() {
    const next = going().length > 1 ? behind(going()) + 1 : Infinity;
    for (const { send } of going()) send("limit", { epochs: Math.min(next, until) });
    if (training && behind(going()) >= until) run(false);
    redraw();
  }

  /* As many runs as there are settings, with these settings. */
  function use(all, writes = true) {
    runs.slice(all.length).forEach((run) => run.close());
    runs = all.map((settings, n) => {
      const run = runs[n] ?? newRun("AB"[n], settings);
      if (run.state.settings !== settings) run.send("settings", { settings: forWorker(settings) });
      run.state.settings = settings;
      if (run.state.view) startAnew(run);
      run.send("run", { on: training });
      return run;
    });
    keepStep();
    edited = Math.min(edited, runs.length - 1);
    columns.replaceChildren(...runs.map(({ element }) => element));
    columns.classList.toggle("em2vae-two", runs.length > 1);
    sendDigit();
    publish(writes);
  }

  function startAnew({ state, send }) {
    state.records = [];
    send("reset");
  }

  function publish(writes = true) {
    const known = PRESETS.find(([, , first, second]) => {
      const all = [first, second].filter(Boolean).map((own) => ({ ...defaults, ...own }));
      return toAddress(all, defaults) === address();
    });
    presetPicker.input.value = known ? known[0] : "own";
    set({ settings: runs[0].state.settings });
    panel.update(runs[edited].state.settings);
    if (inBook && writes) history.replaceState(null, "", address());
    redraw();
  }
  const address = () => toAddress(runs.map(({ state }) => state.settings), defaults);

  function run(on, most = Infinity) {
    [training, until] = [on, most];
    for (const { state, send } of runs) {
      if (on) state.lost = null;
      send("run", { on });
    }
    keepStep();
    if (!on) runs[0].send("weights");
  }

  // Controls
  const panel = settingsPanel(rules, (name, value) => {
    const { state, send } = runs[edited];
    if (value === "") {
      notice = "One digit must stay.";
      panel.update(state.settings);
      return redraw();
    }
    state.settings = settle({ ...state.settings, [name]: value }, name);
    send("settings", { settings: forWorker(state.settings) });
    if (name === "bug") runs.forEach(startAnew); // what it does is seen from the start
    if (training) send("run", { on: true });
    notice = "";
    keepStep();
    publish();
  });
  const trainButton = button("Train", () => run(!training));
  const stepButton = button("One step", () => {
    run(false);
    for (const { send } of runs) send("step");
  });
  const tenButton = button("Ten epochs", () => run(true, behind(runs) + 10));
  const resetButton = button("Start anew", () => {
    runs.forEach(startAnew);
    keepStep();
  });
  const compareButton = button("Compare with a run B", () => {
    const first = runs[0].state.settings;
    use(runs.length > 1 ? [first] : [first, { ...first, bug: "none" }]);
  });
  const saveButton = button("Save the weights", () => {
    saving = true;
    runs[0].send("weights");
  });
  const linkButton = button("Copy a link", async () => {
    const link = location.href.split("#")[0] + address();
    try {
      await navigator.clipboard.writeText(link);
      notice = "The link is copied: it opens the lab with these settings.";
      linkButton.textContent = "Link copied";
      setTimeout(() => (linkButton.textContent = "Copy a link"), 2000);
    } catch {
      notice = `The link to these settings: ${link}`;
    }
    redraw();
  });
  const presetPicker = select({
    label: "Try",
    options: [["own", "settings of your own"], ...PRESETS.map(([key, text]) => [key, text])],
    value: "start",
    onchange(key) {
      if (key === "own") return;
      const [, , first, second, text] = PRESETS.find(([name]) => name === key);
      notice = text;
      use([first, second].filter(Boolean).map((own) => ({ ...defaults, ...own })));
    },
  });
  const editedPicker = select({
    label: "Settings of run",
    options: [["0", "A"], ["1", "B"]],
    value: "0",
    onchange(n) {
      edited = Number(n);
      publish();
    },
  });

  const settingsBox = h("details", { open: true, class: "em2vae-more" },
    h("summary", {}, "Settings"),
    h("div", { class: "em2vae-buttons" }, editedPicker.element, linkButton, saveButton),
    panel.element,
  );
  // On the wall the drawings have the room; who wants to change something opens the settings.
  root.addEventListener("fullscreenchange", () => (settingsBox.open = document.fullscreenElement !== root));

  const pad = h("canvas", { width: SIDE, height: SIDE, class: "em2vae-digit em2vae-pad", role: "img", "aria-label": "Pad: draw a digit" });
  function sendDigit() {
    const pixels = ink.some((value) => value > 0) ? Float32Array.from(normalize(ink)) : null;
    for (const { send } of runs) send("digit", { pixels });
  }
  const strokeTo = (event, first) => {
    const box = pad.getBoundingClientRect();
    const scale = SIDE / box.width;
    const to = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    stroke(ink, first ? to : pen, to);
    pen = to;
    sendDigit();
    redraw();
  };
  pad.addEventListener("pointerdown", (event) => {
    pad.setPointerCapture(event.pointerId);
    if (padPicker.input.value !== "own") putOnPad("own");
    strokeTo(event, true);
  });
  pad.addEventListener("pointermove", (event) => pen && event.buttons && strokeTo(event, false));
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (pen = null));
  function putOnPad(choice) {
    padPicker.input.value = choice;
    const n = choice === "own" || choice === "" ? -1 : labels.indexOf(Number(choice));
    const pixel = (i) => 784 * n + 28 * Math.floor(i / SIDE / 4) + Math.floor((i % SIDE) / 4);
    ink = ink.map((_, i) => (n < 0 ? 0 : images[pixel(i)] / 255));
    sendDigit();
    redraw();
  }
  const padPicker = select({
    label: "On the pad",
    options: [["own", "my drawing"], ...Array.from({ length: 10 }, (_, digit) => [String(digit), `a held-out ${digit}`])],
    value: "own",
    onchange: putOnPad,
  });
  const clearButton = button("Clear the pad", () => putOnPad("own"));

  // Draw
  const palette = model.get("_palette");
  const plots = [
    curves(palette, "bound, nats", "elbo"),
    curves(palette, "log-likelihood, nats", "logLikelihood"),
    curves(palette, "divergence, nats", "kl"),
    bars(palette),
  ];
  const columns = h("div", { class: "em2vae-runs" });
  const said = sentence();

  function draw() {
    const limit = Math.max(...runs.map((each) => each.frame()));
    for (const each of runs) each.draw(limit);
    for (const each of plots) each.draw(runs);
    const picture = new ImageData(SIDE, SIDE);
    for (let i = 0; i < SIDE * SIDE; i++) {
      picture.data[4 * i] = picture.data[4 * i + 1] = picture.data[4 * i + 2] = 255 * (1 - ink[i]);
      picture.data[4 * i + 3] = 255;
    }
    pad.getContext("2d").putImageData(picture, 0, 0);
    if (training && runs.every(({ state }) => state.lost || state.failed)) training = false;
    trainButton.textContent = training ? "Pause" : "Train";
    compareButton.textContent = runs.length > 1 ? "Without run B" : "Compare with a run B";
    editedPicker.element.hidden = runs.length < 2;
    editedPicker.input.value = String(edited);
    linkButton.hidden = !inBook;
    const reached = ({ records, failed }) => (failed ? Infinity : (records.at(-1)?.epochs ?? -1));
    const common = Math.min(...runs.map(({ state }) => reached(state)));
    said.say([notice, ...runs.map((each) => each.describe(defaults, common))].filter(Boolean).join(" "));
    return runs.every(({ state }) => state.view || state.failed);
  }

  document.addEventListener("visibilitychange", hide);
  function hide() {
    if (training) for (const { send } of runs) send("run", { on: !document.hidden });
  }
  function open() {
    let asked = null;
    try {
      asked = fromAddress(location.hash, rules, defaults);
    } catch (error) {
      asked = [{ ...defaults }];
      notice = `The address is damaged: ${error.message}. The lab opens with its defaults.`;
    }
    if (!asked) return false;
    training = false;
    use(asked);
    requestAnimationFrame(() => root.scrollIntoView());
    return true;
  }
  const followAddress = () => open();
  if (inBook) addEventListener("hashchange", followAddress);
  model.on("change:settings", adopt);
  /* Settings that a kernel has set. */
  function adopt() {
    const settings = model.get("settings");
    const same = Object.keys(defaults).every((name) => settings[name] === runs[0].state.settings[name]);
    if (same) return;
    runs[0].state.settings = settings;
    runs[0].send("settings", { settings: forWorker(settings) });
    publish();
  }
  if (!inBook || !open()) use([{ ...defaults, ...model.get("settings") }], false);

  return {
    buttons: [trainButton, stepButton, tenButton, resetButton, compareButton, presetPicker.element],
    content: [
      said.element,
      h("div", { class: "em2vae-lab" },
        columns,
        h("div", { class: "em2vae-curves" },
          ...plots.map(({ canvas }) => canvas),
          h("div", { class: "em2vae-beside" },
            h("div", { class: "em2vae-picture" }, pad),
            h("div", { class: "em2vae-side" }, padPicker.element, clearButton),
          ),
        ),
      ),
      settingsBox,
    ],
    caption: CAPTION,
    draw,
    traits: [],
    close() {
      for (const each of runs) each.close();
      document.removeEventListener("visibilitychange", hide);
      removeEventListener("hashchange", followAddress);
      model.off("change:settings", adopt);
      URL.revokeObjectURL(source);
    },
  };
});
