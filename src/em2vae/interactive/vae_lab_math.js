/* The arithmetic of the lab: a VAE's bound on a batch, its gradient, and an optimizer's step, on typed
   arrays and without a page. Chapter 11 derives the bound, 13 its weights, 14 the importance-weighted one,
   15 the bugs. Matrices lie in memory row by row; each side that a product runs along is padded with
   zeros to a multiple of eight, which the kernel takes at once. */

const padded = (n) => (n + 7) & ~7;

// Kernels: where arrays lie, and C += A B for A (n, k), B (k, m), C (n, m) -----------------------

const CAPACITY = 64 * 2 ** 20; // bytes

/* Products by SIMD instructions, from the bytes of vae_lab.wat. */
export async function wasmKernel(bytes) {
  const memory = new WebAssembly.Memory({ initial: CAPACITY / 2 ** 16 });
  const { instance } = await WebAssembly.instantiate(bytes, { lab: { memory } });
  let next = 1024;
  return {
    name: "WebAssembly",
    alloc(count) {
      const array = new Float32Array(memory.buffer, next, count);
      next += 4 * padded(count);
      return array;
    },
    multiply: (C, A, B, n, k, m) =>
      instance.exports.multiply(C.byteOffset, A.byteOffset, B.byteOffset, (n + 3) & ~3, k, m),
  };
}

/* The same sums in the same order without WebAssembly; with Float64Array for tests of gradients. */
export function plainKernel(Kind = Float32Array) {
  const round = Kind === Float32Array ? Math.fround : (value) => value;
  return {
    name: "JavaScript",
    alloc: (count) => new Kind(count),
    multiply(C, A, B, n, k, m) {
      for (let i = 0; i < n; i++)
        for (let p = 0; p < k; p++) {
          const value = A[i * k + p];
          if (value) // a blank pixel adds nothing
            for (let j = 0; j < m; j++)
              C[i * m + j] = round(C[i * m + j] + round(value * B[p * m + j]));
        }
    },
  };
}

// Activations: their value, and their slope from what entered and what came out ----------------

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const ACTIVATIONS = {
  relu: [(a) => (a > 0 ? a : 0), (a) => (a > 0 ? 1 : 0)],
  tanh: [Math.tanh, (_, y) => 1 - y * y],
  silu: [(a) => a * sigmoid(a), (a) => sigmoid(a) * (1 + a * (1 - sigmoid(a)))],
};

// The model --------------------------------------------------------------------------------------

/* A model with weights of zero and room for `rows` images in the encoder and `rows * draws` codes in
   the decoder. Its layers' weights (inputs, outputs) and biases are parts of theta, as their gradients
   are of grad. The last of theta is log sigma^2 of a normal likelihood that learns it. */
export function createModel(kernel, { latent, hidden, activation, pixels = 784, rows, draws }) {
  const sizes = [
    [pixels, ...hidden, 2 * latent],
    [latent, ...[...hidden].reverse(), pixels],
  ];
  const shapes = sizes.map((widths) => widths.slice(1).map((n, i) => [widths[i], n]));
  const count = shapes.flat().reduce((sum, [i, o]) => sum + (padded(i) + 1) * padded(o), 8);
  const [theta, grad, first, second] = [0, 1, 2, 3].map(() => kernel.alloc(count));
  let start = 0;
  const part = (length) => {
    start += length;
    return [theta, grad].map((all) => all.subarray(start - length, start));
  };
  const networks = shapes.map((layers, network) => {
    const room = padded(network ? rows * draws : rows);
    return layers.map(([inputs, outputs], depth) => {
      const [I, O] = [padded(inputs), padded(outputs)];
      const [[weight, gradWeight], [bias, gradBias]] = [part(I * O), part(O)];
      const [sums, slopes] = [kernel.alloc(room * O), kernel.alloc(room * O)];
      const last = depth === layers.length - 1;
      return {
        inputs, outputs, I, O, weight, bias, gradWeight, gradBias, sums, slopes,
        values: last ? sums : kernel.alloc(room * O),
        activation: last ? null : ACTIVATIONS[activation],
      };
    });
  });
  const largest = Math.max(...networks.flat().map(({ I, O }) => Math.max(I, O)));
  const widest = Math.max(padded(rows * draws) * largest, largest * largest);
  const [logVariance, gradLogVariance] = part(8);
  return {
    kernel, latent, pixels, theta, grad, first, second, logVariance, gradLogVariance,
    encoder: networks[0], decoder: networks[1], steps: 0,
    images: kernel.alloc(padded(rows) * padded(pixels)),
    codes: kernel.alloc(padded(rows * draws) * padded(latent)),
    turned: kernel.alloc(widest),
    gradCodes: kernel.alloc(padded(rows * draws) * padded(latent)),
  };
}

/* Weights as PyTorch begins: uniform within one over the root of the inputs. */
export function initialize(model, random) {
  for (const layer of [...model.encoder, ...model.decoder]) {
    const bound = 1 / Math.sqrt(layer.inputs);
    const draw = () => bound * (2 * random.uniform() - 1);
    for (let o = 0; o < layer.outputs; o++) {
      for (let i = 0; i < layer.inputs; i++) layer.weight[i * layer.O + o] = draw();
      layer.bias[o] = draw();
    }
  }
}

/* B (m, n) from A (n, m). */
function transpose(B, A, n, m) {
  for (let i = 0; i < n; i++) for (let j = 0; j < m; j++) B[j * n + i] = A[i * m + j];
  return B;
}

function forward(model, network, input, n) {
  for (const { I, O, weight, bias, sums, values, activation } of network) {
    for (let row = 0; row < n; row++) sums.set(bias, row * O);
    model.kernel.multiply(sums, input, weight, n, I, O);
    if (activation) for (let i = 0; i < n * O; i++) values[i] = activation[0](sums[i]);
    input = values;
  }
  return input;
}

/* From the slopes at a network's last sums to the gradient of its weights and, if wanted, its input. */
function backward(model, network, input, n, gradInput = null) {
  for (let depth = network.length - 1; depth >= 0; depth--) {
    const layer = network[depth];
    const { I, O, weight, slopes, gradWeight, gradBias } = layer;
    const below = depth ? network[depth - 1] : null;
    const entered = below ? below.values : input;
    model.kernel.multiply(gradWeight, transpose(model.turned, entered, n, I), slopes, I, n, O);
    for (let row = 0; row < n; row++)
      for (let o = 0; o < O; o++) gradBias[o] += slopes[row * O + o];
    const target = below ? below.slopes : gradInput;
    if (!target) return;
    target.fill(0, 0, n * I);
    model.kernel.multiply(target, slopes, transpose(model.turned, weight, I, O), n, O, I);
    if (below) {
      const slope = below.activation[1];
      for (let i = 0; i < n * I; i++) target[i] *= slope(below.sums[i], below.values[i]);
    }
  }
}

// Likelihoods: log p(x|z) of a pixel, and its slope at the logit -------------------------------------

const LOG_2PI = Math.log(2 * Math.PI);
const TINY = 1e-7; // of the clamp of exhibit 9
const softplus = (l) => Math.max(l, 0) + Math.log1p(Math.exp(-Math.abs(l)));

function bernoulli(x, l) {
  return [x * l - softplus(l), x - sigmoid(l)];
}

/* Exhibit 8: the probability in 32 bits, and PyTorch's cut of its logarithm at -100. */
function roundedBernoulli(x, l) {
  const p = Math.fround(1 / (1 + Math.fround(Math.exp(-l))));
  const value = x * Math.max(Math.log(p), -100) + (1 - x) * Math.max(Math.log(1 - p), -100);
  const slope = (p ? x * (1 - p) : 0) - (p < 1 ? (1 - x) * p : 0);
  return [value, slope];
}

/* Exhibit 9: tanh in place of the sigmoid, silenced by a clamp. */
function clampedTanh(x, l) {
  const t = Math.tanh(l);
  const p = Math.min(Math.max(t, TINY), 1 - TINY);
  const value = x * Math.log(p) + (1 - x) * Math.log(1 - p);
  return [value, p === t ? (x / p - (1 - x) / (1 - p)) * (1 - t * t) : 0];
}

/* A normal around the sigmoid, whose slope at log sigma^2 comes third. */
function normal(x, l, logVariance) {
  const m = sigmoid(l);
  const precision = Math.exp(-logVariance);
  const squared = (x - m) ** 2 * precision;
  const value = -0.5 * (squared + logVariance + LOG_2PI);
  return [value, (x - m) * precision * m * (1 - m), 0.5 * (squared - 1)];
}

// The bound -------------------------------------------------------------------------------------

/* The terms of a batch, and in model.grad the gradient of their mean bound.

   x holds B images in a row, eps S * B codes of noise, draw by draw. settings: likelihood
   ("bernoulli", "normal", "learned"), logVariance (of "normal"), objective ("elbo", "iwae",
   "autoencoder"), beta, freeBits (nats a dimension), bug (a name or null). Returns means over the
   batch in nats: elbo (or the importance-weighted bound), logLikelihood, kl, and klPerDim (K). */
export function bound(model, x, eps, settings) {
  const { latent: K, pixels: D, encoder, decoder, images, codes } = model;
  const [stride, across] = [padded(D), padded(K)];
  const B = x.length / D;
  const S = eps.length / (B * K);
  const rows = S * B;
  const { bug, objective } = settings;
  model.grad.fill(0);
  for (let b = 0; b < B; b++) images.set(x.subarray(b * D, (b + 1) * D), b * stride);

  const heads = forward(model, encoder, images, B);
  const head = encoder.at(-1);
  const at = (b, k) => heads[b * head.O + k];
  const [mu, logVar] = [(b, k) => answer(at(b, k)), (b, k) => answer(at(b, K + k))];
  const answer = bug === "relu" ? (value) => Math.max(value, 0) : (value) => value;
  const width = (b, k) => Math.exp((bug === "variance" ? 1 : 0.5) * logVar(b, k));
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < K; k++) {
      const b = r % B;
      const noise = objective === "autoencoder" ? 0 : width(b, k) * eps[r * K + k];
      codes[r * across + k] = mu(b, k) + noise;
    }
  forward(model, decoder, codes, rows);

  const { logLikelihoods, slopeOfVariance } = likelihoods(model, B, rows, settings);
  const klPerDim = Array.from({ length: K }, (_, k) => {
    let sum = 0;
    for (let b = 0; b < B; b++)
      sum += 0.5 * (Math.expm1(logVar(b, k)) - logVar(b, k) + mu(b, k) ** 2);
    return sum / B;
  });
  const logWeights = logLikelihoods.map((value, r) => {
    const b = r % B;
    for (let k = 0; k < K; k++) {
      const e = eps[r * K + k];
      value += 0.5 * (e * e + logVar(b, k) - codes[r * across + k] ** 2);
    }
    return value;
  });
  const weights = objective === "iwae" ? importance(logWeights, B, S, bug) : null;
  const weightOf = (r) => (weights ? weights[r] : 1 / S) / B;

  const out = decoder.at(-1);
  for (let r = 0; r < rows; r++)
    for (let d = 0; d < D; d++) out.slopes[r * out.O + d] *= weightOf(r);
  if (settings.likelihood === "learned")
    for (let r = 0; r < rows; r++) model.gradLogVariance[0] += weightOf(r) * slopeOfVariance[r];
  backward(model, decoder, codes, rows, model.gradCodes);

  const beta = objective === "autoencoder" ? 0 : settings.beta / (bug === "kl-mean" ? K : 1);
  const paid = klPerDim.map((kl) => (kl < settings.freeBits ? 0 : beta));
  head.slopes.fill(0, 0, B * head.O);
  for (let b = 0; b < B; b++)
    for (let k = 0; k < K; k++) {
      let [slopeMu, slopeLogVar] = [0, 0];
      for (let r = b; r < rows; r += B) {
        let slope = model.gradCodes[r * across + k];
        if (weights) slope -= weightOf(r) * codes[r * across + k];
        slopeMu += slope;
        if (objective === "autoencoder") continue;
        const half = bug === "variance" ? 1 : 0.5;
        slopeLogVar += half * slope * width(b, k) * eps[r * K + k];
        if (weights) slopeLogVar += 0.5 * weightOf(r);
      }
      if (!weights) {
        slopeMu -= (paid[k] * mu(b, k)) / B;
        slopeLogVar -= (paid[k] * 0.5 * Math.expm1(logVar(b, k))) / B;
      }
      const passes = (value) => (bug !== "relu" || value > 0 ? 1 : 0);
      head.slopes[b * head.O + k] = slopeMu * passes(at(b, k));
      head.slopes[b * head.O + K + k] = slopeLogVar * passes(at(b, K + k));
    }
  backward(model, encoder, images, B);

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const logLikelihood = mean(logLikelihoods);
  const kl = klPerDim.reduce((sum, value) => sum + value, 0);
  const charged = klPerDim.reduce((sum, value) => sum + Math.max(value, settings.freeBits), 0);
  const elbo = weights ? mean(weights.bounds) : logLikelihood - beta * charged;
  return { elbo, logLikelihood, kl, klPerDim };
}

/* log p(x|z) of each row, in model.decoder the slopes at the logits, and those at log sigma^2. */
function likelihoods(model, B, rows, { likelihood, logVariance, bug }) {
  const { pixels: D, images, decoder } = model;
  const { O, sums, slopes } = decoder.at(-1);
  const stride = padded(D);
  const variance = likelihood === "learned" ? model.logVariance[0] : logVariance;
  const special = { "sigmoid-log": roundedBernoulli, tanh: clampedTanh }[bug];
  const pixel = likelihood === "bernoulli" ? (special ?? bernoulli) : normal;
  const share = bug === "pixel-mean" ? 1 / D : 1;
  const [logLikelihoods, slopeOfVariance] = [new Float64Array(rows), new Float64Array(rows)];
  slopes.fill(0, 0, padded(rows) * O);
  const pair = (r, b, scale) => {
    for (let d = 0; d < D; d++) {
      const [value, slope, other] = pixel(images[b * stride + d], sums[r * O + d], variance);
      logLikelihoods[r] += scale * value;
      slopes[r * O + d] += scale * slope;
      slopeOfVariance[r] += scale * (other ?? 0);
    }
  };
  for (let r = 0; r < rows; r++) {
    if (bug !== "broadcast") pair(r, r % B, share);
    else for (let b = 0; b < B; b++) pair(r, b, 1 / B); // exhibit 12: everybody with everybody
  }
  return { logLikelihoods, slopeOfVariance };
}

/* Each draw's share in the gradient of log mean exp, and in `.bounds` that value for each image. */
function importance(logWeights, B, S, bug) {
  const sign = bug === "upside-down" ? -1 : 1; // exhibit 7
  const weights = new Float64Array(logWeights.length);
  weights.bounds = new Float64Array(B);
  for (let b = 0; b < B; b++) {
    let top = -Infinity;
    for (let s = 0; s < S; s++) top = Math.max(top, sign * logWeights[s * B + b]);
    let sum = 0;
    for (let s = 0; s < S; s++) sum += Math.exp(sign * logWeights[s * B + b] - top);
    for (let s = 0; s < S; s++) weights[s * B + b] = Math.exp(sign * logWeights[s * B + b] - top) / sum;
    weights.bounds[b] = sign * (top + Math.log(sum / S));
  }
  return weights;
}

// Optimizers: a step uphill ------------------------------------------------------------------------

/* Adam with PyTorch's defaults, or plain gradient ascent; it learns log sigma^2 only if `learned`. */
export function step(model, { optimizer, learningRate, likelihood }) {
  const { theta, grad, first, second } = model;
  if (likelihood !== "learned") model.gradLogVariance.fill(0);
  model.steps++;
  if (optimizer === "sgd") {
    for (let i = 0; i < theta.length; i++) theta[i] += learningRate * grad[i];
    return;
  }
  const rate = learningRate / (1 - 0.9 ** model.steps);
  const correction = Math.sqrt(1 - 0.999 ** model.steps);
  for (let i = 0; i < theta.length; i++) {
    first[i] += 0.1 * (grad[i] - first[i]);
    second[i] += 0.001 * (grad[i] * grad[i] - second[i]);
    theta[i] += (rate * first[i]) / (Math.sqrt(second[i]) / correction + 1e-8);
  }
}
