/* The lab's training: images, their order and noise from a seed, what is measured of the model, and what
   is shown of it. Joined behind vae_lab_math.js and seededRandom() of shared.js, it is a worker of the page;
   createTraining needs no worker. */

const HELD_OUT_SEED = 20_000; // of the noise and the binary images on which every model is judged
const POINTS = 500; // on the map
const SAMPLES = 10;
const MANIFOLD = 12; // pictures in a row
const MANIFOLD_END = 2.4;
const TOO_LOW = -1e6; // nats an image: 1,300 a pixel

const BATCHED = ["batch", "draws"]; // they change the model's room, not the model
const BUILT = ["latent", "layers", "hidden", "activation", "images", "digits", "seed"];

/* data: {train, test}, each {pixels: bytes (N, 784), labels: bytes (N,)}. */
export function createTraining(kernel, data, first) {
  let settings = first;
  let model, random, train, test, order, good;
  let [epochs, position] = [0, 0];
  let sums = null; // of this epoch's terms
  let gathered = new Float32Array(0);
  let waiting = null; // exhibit 11: the gradient that waits for the end of the epoch

  function pick({ pixels, labels }, count) {
    const digits = settings.digits.split("").map(Number);
    const chosen = [...labels.keys()].filter((n) => digits.includes(labels[n])).slice(0, count);
    return {
      count: chosen.length,
      labels: chosen.map((n) => labels[n]),
      of: (n) => pixels.subarray(784 * chosen[n], 784 * (chosen[n] + 1)),
    };
  }

  const binary = () => settings.likelihood === "bernoulli";

  /* Grey values, or a draw of zeros and ones. */
  function fill(x, start, bytes, uniform) {
    for (let d = 0; d < 784; d++) {
      const grey = bytes[d] / 255;
      x[start + d] = uniform ? (uniform() < grey ? 1 : 0) : grey;
    }
  }

  /* Images in a row, until the next are gathered. */
  function gather(images, indices, { uniform }) {
    const size = 784 * indices.length;
    if (gathered.length < size) gathered = new Float32Array(size);
    const x = gathered.subarray(0, size);
    indices.forEach((n, i) => fill(x, 784 * i, images.of(n), binary() ? uniform : null));
    return x;
  }

  const noise = (count, { normal }) => Float32Array.from({ length: count }, normal);

  function buildModel() {
    kernel.reset();
    const { latent, layers, hidden, activation, batch, draws } = settings;
    const widths = Array(layers).fill(hidden);
    model = createModel(kernel, { latent, hidden: widths, activation, rows: batch, draws });
  }

  function start() {
    random = seededRandom(settings.seed);
    buildModel();
    initialize(model, random.uniform);
    train = pick(data.train, settings.images);
    test = pick(data.test, Infinity);
    order = [...Array(train.count).keys()];
    good = model.theta.slice();
    [epochs, position, waiting] = [0, 0, null];
    clearSums();
  }

  function clearSums() {
    sums = { count: 0, elbo: 0, logLikelihood: 0, kl: 0 };
  }

  /* Other settings: false if the model must be built anew. */
  function change(next) {
    const differs = (names) => names.some((name) => next[name] !== settings[name]);
    const rebuilds = differs(BUILT);
    const moves = differs(BATCHED);
    settings = next;
    if (rebuilds) start();
    else if (moves) {
      const kept = ["theta", "first", "second"].map((name) => [name, model[name].slice()]);
      const { steps } = model;
      buildModel();
      for (const [name, values] of kept) model[name].set(values);
      model.steps = steps;
    }
    return !rebuilds;
  }

  function shuffle() {
    for (let i = order.length - 1; i > 0; i--) {
      const j = Math.floor(random.uniform() * (i + 1));
      [order[i], order[j]] = [order[j], order[i]];
    }
  }

  /* One step of the optimizer. The terms of its mini-batch; `epoch`: their means over the epoch that
     it has ended, or null. Throws an Error with the likely cause where the bound is lost. */
  function advance() {
    if (!position) shuffle();
    const indices = order.slice(position, position + settings.batch);
    const x = gather(train, indices, random);
    const eps = noise(settings.draws * indices.length * settings.latent, random);
    const warm = settings.warmup ? Math.min(1, (epochs + position / order.length) / settings.warmup) : 1;
    const terms = bound(model, x, eps, { ...settings, beta: warm * settings.beta });
    if (!(terms.elbo > TOO_LOW)) {
      model.theta.set(good);
      for (const moment of [model.first, model.second]) moment.fill(0); // they may be lost, too
      model.steps = 0;
      throw new Error(cause(settings));
    }
    good.set(model.theta);
    position += indices.length;
    const ended = position >= order.length;
    if (settings.bug === "step") {
      waiting ??= new Float64Array(model.grad.length);
      for (let i = 0; i < waiting.length; i++) waiting[i] += model.grad[i];
      if (ended) model.grad.set(waiting);
    }
    if (settings.bug !== "step" || ended) {
      takeStep(model, settings);
      waiting = null;
    }
    sums.count += indices.length;
    for (const name of ["elbo", "logLikelihood", "kl"]) sums[name] += indices.length * terms[name];
    const mean = (name) => sums[name] / sums.count;
    let epoch = null;
    if (ended) {
      epoch = { elbo: mean("elbo"), logLikelihood: mean("logLikelihood"), kl: mean("kl") };
      epochs++;
      position = 0;
      clearSums();
    }
    return { ...terms, count: indices.length, epoch };
  }

  /* The right bound on all held-out images, always with the same noise. */
  function judge() {
    const { latent, batch, draws } = settings;
    const fixed = seededRandom(HELD_OUT_SEED);
    const found = { elbo: 0, logLikelihood: 0, kl: 0, klPerDim: new Float64Array(latent) };
    for (let n = 0; n < test.count; n += batch) {
      const count = Math.min(batch, test.count - n);
      const x = gather(test, Array.from({ length: count }, (_, i) => n + i), fixed);
      const terms = bound(model, x, noise(draws * count * latent, fixed), settings, false);
      const share = count / test.count;
      for (const name of ["elbo", "logLikelihood", "kl"]) found[name] += share * terms[name];
      terms.klPerDim.forEach((kl, k) => (found.klPerDim[k] += share * kl));
    }
    if (settings.objective === "autoencoder") found.elbo = null; // it has no bound
    return found;
  }

  const bytesOfLogits = (logits) =>
    Uint8ClampedArray.from(toPixels(logits, settings.bug), (value) => 255 * value);

  /* What the page draws: codes (POINTS, 2) along two latent dimensions, and pictures as bytes.
     `drawn`: the reader's digit, as grey values (784), or null. */
  function look(dims, drawn) {
    const { latent: K, batch, bug } = settings;
    const fixed = seededRandom(HELD_OUT_SEED);
    const count = Math.min(POINTS, test.count);
    const [xs, ys] = [new Float32Array(count), new Float32Array(count)];
    const spread = (n) => 4 * ((0.618 * n) % 1) - 2; // where there is no second dimension
    for (let n = 0; n < count; n += batch) {
      const size = Math.min(batch, count - n);
      const x = gather(test, Array.from({ length: size }, (_, i) => n + i), fixed);
      const { mu } = encodeBatch(model, x, bug);
      for (let i = 0; i < size; i++) {
        xs[n + i] = mu[i * K + dims[0]];
        ys[n + i] = K > 1 ? mu[i * K + dims[1]] : spread(n + i);
      }
    }
    const shown = firstOfEach(test.labels);
    const { mu: z } = encodeBatch(model, gather(test, shown, fixed), bug);
    const priors = noise(SAMPLES * K, seededRandom(HELD_OUT_SEED + 1));
    const grid = K === 2 ? manifold() : [];
    const seen = {
      xs, ys, labels: test.labels.slice(0, count),
      originals: Uint8ClampedArray.from(shown.flatMap((n) => [...test.of(n)])),
      reconstructions: bytesOfLogits(decodeBatch(model, z)),
      samples: bytesOfLogits(decodeBatch(model, priors)),
      manifold: bytesOfLogits(decodeBatch(model, grid)),
      own: null,
    };
    if (drawn) {
      const x = drawn.map((grey) => (binary() ? (grey > 0.5 ? 1 : 0) : grey));
      const { mu, width } = encodeBatch(model, x, bug);
      seen.own = { mu, width, picture: bytesOfLogits(decodeBatch(model, mu)) };
    }
    return seen;
  }

  start();
  return {
    advance, judge, look, change,
    restart: start,
    weights: () => getWeights(model),
    get model() { return model; },
    get epochs() { return epochs; },
    get steps() { return model.steps; },
  };
}

/* Codes on a grid (MANIFOLD^2, 2), the top row first. */
function manifold() {
  const at = (i) => MANIFOLD_END * ((2 * i) / (MANIFOLD - 1) - 1);
  return Array.from({ length: MANIFOLD * MANIFOLD }, (_, n) => [
    at(n % MANIFOLD), -at(Math.floor(n / MANIFOLD)),
  ]).flat();
}

/* Where each digit stands first. */
const firstOfEach = (labels) =>
  Array.from({ length: 10 }, (_, digit) => labels.indexOf(digit)).filter((n) => n >= 0);

function cause({ optimizer, likelihood }) {
  if (optimizer === "sgd")
    return "plain SGD at this learning rate, for a bound that is a sum over 784 pixels; take a smaller rate, or Adam";
  if (likelihood === "learned")
    return "a learned variance that ran towards zero; fix the variance or take a smaller learning rate";
  return "the learning rate; take a smaller one";
}

// The worker: messages in, views and records out ---------------------------------------------------

const VIEW_MS = 150;
const SLICE_MS = 25;

function serve(port) {
  let training = null;
  let [running, drawn, waiting] = [false, null, false];
  let limit = Infinity; // epochs, beyond which another run must catch up
  let judged = null; // the last record of the held-out images
  let [shownAt, busy, seen] = [0, 0, 0]; // when; milliseconds and images since then
  const loop = new MessageChannel();
  let turning = false; // whether a turn of the loop is due

  /* The two dimensions with the largest divergence, in their order. */
  function dims() {
    const ranked = [...judged.klPerDim.keys()].sort((a, b) => judged.klPerDim[b] - judged.klPerDim[a]);
    return ranked.length > 1 ? ranked.slice(0, 2).sort((a, b) => a - b) : [0, 1];
  }

  function record(epoch) {
    judged = training.judge();
    port.postMessage({ type: "record", epochs: training.epochs, train: epoch, test: judged });
  }

  function show(batch = null) {
    const shown = dims();
    const speed = busy ? (1000 * seen) / busy : null;
    const { epochs, steps } = training;
    port.postMessage({ type: "view", epochs, steps, speed, running, batch, dims: shown, ...training.look(shown, drawn) });
    [shownAt, busy, seen, waiting] = [performance.now(), 0, 0, true];
  }

  /* A step, and a record where it ends an epoch; false if the bound was lost. */
  function advance() {
    const start = performance.now();
    try {
      const terms = training.advance();
      seen += terms.count;
      busy += performance.now() - start;
      if (terms.epoch) record(terms.epoch);
      return terms;
    } catch (error) {
      running = false;
      show();
      port.postMessage({ type: "lost", message: error.message });
      return null;
    }
  }

  const active = () => running && training.epochs < limit;
  function turn() {
    if (active() && !turning) loop.port2.postMessage(null);
    turning = active();
  }
  function work() {
    turning = false;
    const end = performance.now() + SLICE_MS;
    while (active() && performance.now() < end) advance();
    if (running && !waiting && performance.now() - shownAt > VIEW_MS) show();
    turn();
  }
  loop.port1.onmessage = work;

  function run(on) {
    const paused = running && !on;
    running = on;
    turn();
    if (paused) show();
  }

  function restart() {
    record(null);
    show();
  }

  const answers = {
    async start({ wasm, data, settings }) {
      let kernel = plainKernel();
      try {
        if (wasm) kernel = await wasmKernel(wasm);
      } catch {
        // no WebAssembly here
      }
      training = createTraining(kernel, data, settings);
      port.postMessage({ type: "kernel", name: kernel.name });
      restart();
    },
    settings({ settings }) {
      if (training.change(settings)) {
        if (!running) show();
      } else restart();
    },
    reset() {
      training.restart();
      restart();
    },
    run: ({ on }) => run(on),
    limit({ epochs }) {
      limit = epochs;
      turn();
    },
    step() {
      const terms = advance();
      if (terms) show({ elbo: terms.elbo, logLikelihood: terms.logLikelihood, kl: terms.kl });
    },
    digit({ pixels }) {
      const changed = pixels || drawn;
      drawn = pixels;
      if (changed && !running) show();
    },
    shown: () => (waiting = false),
    weights: () => port.postMessage({ type: "weights", epochs: training.epochs, weights: training.weights() }),
  };
  // One after another: the kernel takes a moment to start.
  let last = Promise.resolve();
  port.onmessage = ({ data }) => {
    last = last.then(() => answers[data.type](data));
    last.catch((error) => setTimeout(() => { throw error; })); // to the page's onerror
  };
}

if (typeof WorkerGlobalScope !== "undefined") serve(self);
