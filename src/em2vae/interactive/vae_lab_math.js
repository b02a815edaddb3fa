/* The arithmetic of the lab: a VAE's bound on a batch, its gradient, and an optimizer's step, on typed
   arrays and without a page. Chapter 11 derives the bound, 13 its weights, 14 the importance-weighted one,
   15 the bugs. Matrices lie in memory row by row; each side that a product runs along is padded with
   zeros to a multiple of eight, which the kernel takes at once. */

const padded = (n) => (n + 7) & ~7;

// Kernels: where arrays lie, and C += A B for A (n, k), B (k, m), C (n, m) -----------------------

const MEGABYTES = 64;

/* Products by SIMD instructions, from the bytes of vae_lab.wasm. */
export async function wasmKernel(bytes) {
  const memory = new WebAssembly.Memory({ initial: 16 * MEGABYTES });
  const { instance } = await WebAssembly.instantiate(bytes, { lab: { memory } });
  const { multiply } = instance.exports;
  let next = 0;
  return {
    name: "WebAssembly",
    reset() {
      new Uint8Array(memory.buffer, 0, next).fill(0);
      next = 0;
    },
    alloc(count) {
      const array = new Float32Array(memory.buffer, next, count);
      next += 4 * padded(count);
      return array;
    },
    multiply: (C, A, B, n, k, m) =>
      multiply(C.byteOffset, A.byteOffset, B.byteOffset, (n + 3) & ~3, k, m),
  };
}

/* The same sums in the same order without WebAssembly; with Float64Array for tests of gradients. */
export function plainKernel(Kind = Float32Array) {
  const round = Kind === Float32Array ? Math.fround : (value) => value;
  return {
    name: "JavaScript",
    reset() {},
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

// The model --------------------------------------------------------------------------------------

const sigmoid = (a) => 1 / (1 + Math.exp(-a));
const ACTIVATIONS = {
  // value of what enters; slope from what entered and what came out
  relu: [(a) => (a > 0 ? a : 0), (a) => (a > 0 ? 1 : 0)],
  tanh: [Math.tanh, (_, y) => 1 - y * y],
  silu: [(a) => a * sigmoid(a), (a) => sigmoid(a) * (1 + a * (1 - sigmoid(a)))],
};

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
  const [logVariance, gradLogVariance] = part(8);
  const largest = Math.max(...networks.flat().map(({ I, O }) => Math.max(I, O)));
  const codes = padded(rows * draws) * padded(latent);
  return {
    kernel, latent, pixels, rows, draws, theta, grad, first, second, logVariance, gradLogVariance,
    encoder: networks[0], decoder: networks[1], steps: 0,
    images: kernel.alloc(padded(rows) * padded(pixels)),
    codes: kernel.alloc(codes),
    gradCodes: kernel.alloc(codes),
    turned: kernel.alloc(Math.max(padded(rows * draws) * largest, largest * largest)),
  };
}

/* Each number that is learned, in PyTorch's order: of each layer the weights (outputs, inputs) and the
   biases, encoder first; log sigma^2 last. */
function eachWeight(model, visit) {
  for (const { inputs, outputs, O, weight, bias } of [...model.encoder, ...model.decoder]) {
    const bound = 1 / Math.sqrt(inputs);
    for (let o = 0; o < outputs; o++) for (let i = 0; i < inputs; i++) visit(weight, i * O + o, bound);
    for (let o = 0; o < outputs; o++) visit(bias, o, bound);
  }
  visit(model.logVariance, 0, 0);
}

/* Weights as PyTorch begins: uniform within one over the root of the inputs. */
export function initialize(model, uniform) {
  eachWeight(model, (array, i, bound) => (array[i] = bound * (2 * uniform() - 1)));
}

export function getWeights(model) {
  const weights = [];
  eachWeight(model, (array, i) => weights.push(array[i]));
  return Float32Array.from(weights);
}

export function setWeights(model, weights) {
  let next = 0;
  eachWeight(model, (array, i) => (array[i] = weights[next++]));
}

/* B (m, n) from A (n, m). */
function transpose(B, A, n, m) {
  for (let i = 0; i < n; i++) for (let j = 0, at = i * m; j < m; j++) B[j * n + i] = A[at + j];
  return B;
}

function forwardThrough(model, network, input, n) {
  for (const { I, O, weight, bias, sums, values, activation } of network) {
    for (let row = 0; row < n; row++) sums.set(bias, row * O);
    model.kernel.multiply(sums, input, weight, n, I, O);
    if (activation) {
      const [value] = activation;
      for (let i = 0; i < n * O; i++) values[i] = value(sums[i]);
    }
    input = values;
  }
  return input;
}

/* From the slopes at a network's last sums to the gradient of its weights and, if wanted, its input. */
function backwardThrough(model, network, input, n, gradInput = null) {
  for (let depth = network.length - 1; depth >= 0; depth--) {
    const { I, O, weight, slopes, gradWeight, gradBias } = network[depth];
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

// Likelihoods ------------------------------------------------------------------------------------

/* Each gives log p(x|z) of one image, its pixels from x[at] on and its logits from l[out] on, writes
   its slopes at the logits, and gives the slope at log sigma^2 where there is one. x2 holds the pixels'
   squares, or their mean where x is a mean of images. */
const LOG_2PI = Math.log(2 * Math.PI);
const TINY = 1e-7; // of the clamp of exhibit 9

/* The logarithm of all pixels' 1 + exp(-|l|), each between 1 and 2, is taken at once. (A pair taken apart,
   `[a, b] = [x, y]`, would leave an array behind for each pixel.) */
function bernoulli({ x, at, l, out, slopes, D }) {
  let sum = 0;
  let product = 1;
  for (let d = 0; d < D; d++) {
    const pixel = x[at + d];
    const logit = l[out + d];
    const e = Math.exp(-Math.abs(logit));
    sum += pixel * logit - (logit > 0 ? logit : 0);
    product *= 1 + e;
    slopes[out + d] = pixel - (logit > 0 ? 1 : e) / (1 + e);
  }
  return [sum - Math.log(product), 0];
}

/* Exhibit 8: the probability in 32 bits, and PyTorch's cut of its logarithm at -100. */
function roundedBernoulli({ x, at, l, out, slopes, D }) {
  let sum = 0;
  for (let d = 0; d < D; d++) {
    const pixel = x[at + d];
    const p = Math.fround(1 / (1 + Math.fround(Math.exp(-l[out + d]))));
    sum += pixel * Math.max(Math.log(p), -100) + (1 - pixel) * Math.max(Math.log(1 - p), -100);
    slopes[out + d] = (p ? pixel * (1 - p) : 0) - (p < 1 ? (1 - pixel) * p : 0);
  }
  return [sum, 0];
}

/* Exhibit 9: tanh in place of the sigmoid, silenced by a clamp. */
function clampedTanh({ x, at, l, out, slopes, D }) {
  let sum = 0;
  for (let d = 0; d < D; d++) {
    const pixel = x[at + d];
    const t = Math.tanh(l[out + d]);
    const p = Math.min(Math.max(t, TINY), 1 - TINY);
    sum += pixel * Math.log(p) + (1 - pixel) * Math.log(1 - p);
    slopes[out + d] = p === t ? (pixel / p - (1 - pixel) / (1 - p)) * (1 - t * t) : 0;
  }
  return [sum, 0];
}

/* A normal around the sigmoid. */
function normal({ x, x2, at, l, out, slopes, D, logVariance }) {
  const precision = Math.exp(-logVariance);
  let squared = 0;
  for (let d = 0; d < D; d++) {
    const pixel = x[at + d];
    const m = sigmoid(l[out + d]);
    squared += x2[at + d] - 2 * pixel * m + m * m;
    slopes[out + d] = (pixel - m) * precision * m * (1 - m);
  }
  squared *= precision;
  return [-0.5 * (squared + D * (logVariance + LOG_2PI)), 0.5 * (squared - D)];
}

const SPECIAL = { sigmoid: roundedBernoulli, tanh: clampedTanh };

/* The pixels that a decoder's logits stand for, in place. */
export function toPixels(logits, bug) {
  const mean = bug === "tanh" ? (l) => Math.max(Math.tanh(l), 0) : sigmoid;
  for (let i = 0; i < logits.length; i++) logits[i] = mean(logits[i]);
  return logits;
}

/* log p(x|z) of each row, in the decoder the slopes at its logits, and those at log sigma^2. */
function likelihoods(model, B, rows, { likelihood, sigma, bug }) {
  const { pixels: D, images, decoder } = model;
  const { O, sums, slopes } = decoder.at(-1);
  const stride = padded(D);
  const isNormal = likelihood === "normal" || likelihood === "learned";
  const logVariance = likelihood === "learned" ? model.logVariance[0] : 2 * Math.log(sigma);
  const evaluate = isNormal ? normal : (SPECIAL[bug] ?? bernoulli);
  let [x, x2] = [images, isNormal ? images.map((pixel) => pixel * pixel) : null];
  const together = bug === "broadcast"; // exhibit 12: each image with everybody's reconstruction
  if (together) [x, x2] = [x, x2].map((values) => values && meanRow(values, B, stride));
  const [values, varianceSlopes] = [new Float64Array(rows), new Float64Array(rows)];
  for (let r = 0; r < rows; r++) {
    const at = together ? 0 : (r % B) * stride;
    const row = { x, x2, at, l: sums, out: r * O, slopes, D, logVariance };
    [values[r], varianceSlopes[r]] = evaluate(row);
  }
  return { values, varianceSlopes };
}

function meanRow(values, n, stride) {
  const mean = new Float64Array(stride);
  for (let row = 0; row < n; row++)
    for (let d = 0; d < stride; d++) mean[d] += values[row * stride + d] / n;
  return mean;
}

// The bound -------------------------------------------------------------------------------------

/* mu and log sigma^2 of images x, one after another, and the draw's width. */
export function encodeBatch(model, x, bug = null, learn = false) {
  const { latent: K, pixels: D, encoder, images } = model;
  const B = x.length / D;
  for (let b = 0; b < B; b++) images.set(x.subarray(b * D, (b + 1) * D), b * padded(D));
  const heads = forwardThrough(model, encoder, images, B);
  const { O } = encoder.at(-1);
  const [mu, logVar, width] = [0, 1, 2].map(() => new Float64Array(B * K));
  for (let b = 0; b < B; b++)
    for (let k = 0; k < K; k++) {
      const [i, raw] = [b * K + k, heads[b * O + K + k]];
      mu[i] = heads[b * O + k];
      logVar[i] = bug === "relu" ? Math.max(raw, 0) : raw; // exhibit 10
      if (bug === "variance" && !learn) logVar[i] *= 2; // what its draws stand for
      width[i] = Math.exp((bug === "variance" && learn ? 1 : 0.5) * logVar[i]); // exhibit 6
    }
  return { mu, logVar, width };
}

/* Logits (n, D) of codes z (n, K). */
export function decodeBatch(model, z) {
  const { latent: K, pixels: D, decoder, codes } = model;
  const n = z.length / K;
  const logits = new Float32Array(n * D);
  const room = model.rows * model.draws;
  const { O, sums } = decoder.at(-1);
  for (let start = 0; start < n; start += room) {
    const rows = Math.min(room, n - start);
    for (let r = 0; r < rows; r++)
      for (let k = 0; k < K; k++) codes[r * padded(K) + k] = z[(start + r) * K + k];
    forwardThrough(model, decoder, codes, rows);
    for (let r = 0; r < rows; r++)
      logits.set(sums.subarray(r * O, r * O + D), (start + r) * D);
  }
  return logits;
}

/* The terms of a batch, and in model.grad the gradient of their mean bound.

   x holds B images in a row, eps S * B codes of noise, draw by draw. settings: likelihood
   ("bernoulli", "normal", "learned"), sigma (of "normal"), objective ("elbo", "iwae",
   "autoencoder"), beta, freeBits (nats a dimension), bug (a name or "none"). Returns means over the
   batch in nats: elbo (or the importance-weighted bound; an autoencoder has its log-likelihood),
   logLikelihood, kl, and klPerDim (K).

   learn: false computes no gradient, and the right bound of the model that the settings have trained:
   beta is 1, nothing is free, and of the bugs only those remain that are part of the model. */
export function bound(model, x, eps, settings, learn = true) {
  const { latent: K, pixels: D, encoder, decoder, codes } = model;
  const across = padded(K);
  const B = x.length / D;
  const rows = eps.length / K;
  const S = rows / B;
  const { objective } = settings;
  const bug = learn || ["relu", "tanh"].includes(settings.bug) ? settings.bug : "none";
  const plain = objective === "autoencoder";
  const { mu, logVar, width } = encodeBatch(model, x, settings.bug, learn);
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < K; k++) {
      const i = (r % B) * K + k;
      codes[r * across + k] = mu[i] + (plain ? 0 : width[i] * eps[r * K + k]);
    }
  forwardThrough(model, decoder, codes, rows);
  const { values, varianceSlopes } = likelihoods(model, B, rows, { ...settings, bug });
  if (bug === "pixels") for (let r = 0; r < rows; r++) values[r] /= D;

  const klPerDim = new Float64Array(K);
  for (let i = 0; i < B * K; i++)
    klPerDim[i % K] += (0.5 * (Math.expm1(logVar[i]) - logVar[i] + mu[i] ** 2)) / B;
  const mean = (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length;
  const total = (numbers) => numbers.reduce((sum, value) => sum + value, 0);
  const terms = { logLikelihood: mean(values), kl: total(klPerDim), klPerDim };
  const beta = !learn ? 1 : settings.beta / (bug === "kl-mean" ? K : 1); // exhibit 5
  const free = learn ? settings.freeBits : 0;
  let weights = null; // of each draw in the gradient of an importance-weighted bound
  if (plain) terms.elbo = terms.logLikelihood;
  else if (objective === "iwae") {
    const logWeights = values.map((value, r) => {
      for (let k = 0; k < K; k++)
        value += 0.5 * (eps[r * K + k] ** 2 + logVar[(r % B) * K + k] - codes[r * across + k] ** 2);
      return value;
    });
    weights = importance(logWeights, B, S, bug);
    terms.elbo = mean(weights.bounds);
  } else terms.elbo = terms.logLikelihood - beta * total(klPerDim.map((kl) => Math.max(kl, free)));
  if (!learn) return terms;

  model.grad.fill(0);
  const weightOf = (r) => (weights ? weights[r] : 1 / S) / B;
  const out = decoder.at(-1);
  for (let r = 0; r < rows; r++) {
    const weight = weightOf(r) / (bug === "pixels" ? D : 1);
    for (let i = r * out.O, end = i + D; i < end; i++) out.slopes[i] *= weight;
    if (settings.likelihood === "learned") model.gradLogVariance[0] += weight * varianceSlopes[r];
  }
  backwardThrough(model, decoder, codes, rows, model.gradCodes);

  const head = encoder.at(-1);
  const paid = klPerDim.map((kl) => (plain || kl < free ? 0 : beta));
  const half = bug === "variance" ? 1 : 0.5;
  for (let b = 0; b < B; b++)
    for (let k = 0; k < K; k++) {
      const i = b * K + k;
      let [slopeMu, slopeLogVar] = [0, 0];
      for (let r = b; r < rows; r += B) {
        let slope = model.gradCodes[r * across + k];
        if (weights) {
          slope -= weightOf(r) * codes[r * across + k];
          slopeLogVar += 0.5 * weightOf(r);
        }
        slopeMu += slope;
        if (!plain) slopeLogVar += half * slope * width[i] * eps[r * K + k];
      }
      if (!weights) {
        slopeMu -= (paid[k] * mu[i]) / B;
        slopeLogVar -= (paid[k] * 0.5 * Math.expm1(logVar[i])) / B;
      }
      if (bug === "relu" && !logVar[i]) slopeLogVar = 0;
      head.slopes[b * head.O + k] = slopeMu;
      head.slopes[b * head.O + K + k] = slopeLogVar;
    }
  backwardThrough(model, encoder, model.images, B);
  return terms;
}

/* Each draw's weight in the gradient of log mean exp over the draws, and in `.bounds` that value for
   each image. */
function importance(logWeights, B, S, bug) {
  const weights = new Float64Array(B * S);
  weights.bounds = new Float64Array(B);
  const upsideDown = bug === "upside-down"; // exhibit 7: the softmax of the loss, not detached
  const sign = upsideDown ? -1 : 1;
  for (let b = 0; b < B; b++) {
    let [top, sum, mean] = [-Infinity, 0, 0];
    for (let r = b; r < B * S; r += B) top = Math.max(top, sign * logWeights[r]);
    for (let r = b; r < B * S; r += B) sum += weights[r] = Math.exp(sign * logWeights[r] - top);
    for (let r = b; r < B * S; r += B) mean += (weights[r] /= sum) * logWeights[r];
    weights.bounds[b] = upsideDown ? mean : top + Math.log(sum / S);
    if (upsideDown) for (let r = b; r < B * S; r += B) weights[r] *= 1 - logWeights[r] + mean;
  }
  return weights;
}

// Optimizers: a step uphill ------------------------------------------------------------------------

/* Adam with PyTorch's defaults, or plain gradient ascent. */
export function takeStep(model, { optimizer, learningRate }) {
  const { theta, grad, first, second } = model;
  model.steps++;
  if (optimizer === "sgd") {
    for (let i = 0; i < theta.length; i++) theta[i] += learningRate * grad[i];
    return;
  }
  const rate = learningRate / (1 - 0.9 ** model.steps);
  const correction = 1 / Math.sqrt(1 - 0.999 ** model.steps);
  for (let i = 0; i < theta.length; i++) {
    const slope = grad[i];
    const m = (first[i] += 0.1 * (slope - first[i]));
    const v = (second[i] += 0.001 * (slope * slope - second[i]));
    theta[i] += (rate * m) / (Math.sqrt(v) * correction + 1e-8);
  }
}
