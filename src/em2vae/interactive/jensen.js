import { button, h, interactive, plot, select, sentence, signed, slider } from "./shared.js";

const CURVES = {
  log: { label: "logarithm", of: "logarithm", f: Math.log, slope: (m) => 1 / m, y: [-2.2, 2.4] },
  sqrt: { label: "square root", of: "square root", f: Math.sqrt, slope: (m) => 0.5 / Math.sqrt(m), y: [0, 2.9] },
  line: { label: "straight line x / 2", of: "line", f: (x) => x / 2, slope: () => 0.5, y: [0, 3.3] },
};
const NAMES = ["A", "B", "C"];
const CAPTION =
  "Drag A, B and C along the curve, or drag the mean, which moves all three. The ring is the curve's height at the mean; " +
  "the square is the mean of the three heights. It lies in the triangle, and the triangle lies under the curve and under the tangent (dotted). " +
  "The three weights are rescaled to add up to 100 %. " +
  "Halve the distances a few times and watch the gap; then choose the straight line.";

export default interactive(({ model, set }) => {
  // State
  const [left, right] = model.get("_limits");
  const start = { points: model.get("points"), weights: model.get("weights"), curve: model.get("curve") };
  const within = (x) => Math.max(left, Math.min(right, x));
  const replaced = (values, at, value) => values.map((old, i) => (i === at ? value : old));
  const average = (values, shares) => values.reduce((sum, value, i) => sum + shares[i] * value, 0);

  /* The two sides of eq. jensen. */
  function heights() {
    const weights = model.get("weights");
    const total = weights.reduce((sum, w) => sum + w, 0);
    const shares = weights.map((w) => w / total);
    const xs = model.get("points");
    const { f } = CURVES[model.get("curve")];
    const ys = xs.map(f);
    const mean = average(xs, shares);
    return { shares, xs, ys, mean, ofMean: f(mean), ofValues: average(ys, shares) };
  }
  function moveMean(to) {
    const { xs, mean } = heights();
    const shift = Math.max(left - Math.min(...xs), Math.min(right - Math.max(...xs), to - mean));
    set({ points: xs.map((x) => within(x + shift)) });
  }
  function halve() {
    const { xs, mean } = heights();
    set({ points: xs.map((x) => mean + (x - mean) / 2) });
  }

  // Controls
  let held = -1; // 0, 1, 2: a point; 3: the mean
  function pick(x, y, first) {
    if (first) held = nearest(x, y);
    if (held === 3) moveMean(x);
    else set({ points: replaced(model.get("points"), held, within(Math.round(100 * x) / 100)) });
  }
  const axes = plot({
    palette: model.get("_colors"),
    x: [0, right + 0.2],
    y: CURVES.log.y,
    xLabel: "x",
    yLabel: "f(x)",
    aspect: 1.15,
    onpick: pick,
    handles,
  });
  function handles() {
    const { xs, ys, mean, ofMean } = heights();
    return [...xs.map((x, i) => [x, ys[i]]), [mean, ofMean]];
  }
  function nearest(x, y) {
    const { xs, ys, mean, ofMean, ofValues } = heights();
    const across = right - left;
    const up = axes.range.y[1] - axes.range.y[0];
    const onGap = Math.max(ofValues, Math.min(ofMean, y));
    const distances = [...xs, mean].map((px, i) => Math.hypot((px - x) / across, ((ys[i] ?? onGap) - y) / up));
    return distances.indexOf(Math.min(...distances));
  }
  const curve = select({
    label: "Curve f",
    options: Object.entries(CURVES).map(([key, { label }]) => [key, label]),
    value: model.get("curve"),
    onchange: (key) => set({ curve: key }),
  });
  const places = NAMES.map((name, i) =>
    slider({
      label: `Point ${name}`,
      min: left,
      max: right,
      step: 0.01,
      value: model.get("points")[i],
      format: signed,
      oninput: (x) => set({ points: replaced(model.get("points"), i, x) }),
    }),
  );
  const weights = NAMES.map((name, i) =>
    slider({
      label: `Weight ${name}`,
      min: 0.05,
      max: 1,
      step: 0.05,
      value: model.get("weights")[i],
      format: () => `${Math.round(100 * heights().shares[i])} %`,
      oninput: (w) => set({ weights: replaced(model.get("weights"), i, w) }),
    }),
  );
  const meanPlace = slider({
    label: "Mean",
    note: "moves all three",
    min: left,
    max: right,
    step: 0.01,
    value: heights().mean,
    format: signed,
    oninput: moveMean,
  });

  const pairs = NAMES.flatMap((_, i) => [places[i].element, weights[i].element]);
  const sliders = h("div", { class: "em2vae-sliders", style: "grid-template-columns: 1fr 1fr" }, ...pairs);

  // Draw
  const said = sentence();
  const grid = Array.from({ length: 201 }, (_, i) => 0.05 + (i * (right + 0.15)) / 200);

  function draw() {
    const key = model.get("curve");
    const { f, slope, of, y } = CURVES[key];
    const { shares, xs, ys, mean, ofMean, ofValues } = heights();
    curve.input.value = key;
    places.forEach(({ update }, i) => update(xs[i]));
    weights.forEach(({ update }, i) => update(model.get("weights")[i]));
    meanPlace.input.min = (mean + left - Math.min(...xs)).toFixed(2); // the first point to reach an edge stops all
    meanPlace.input.max = (mean + right - Math.max(...xs)).toFixed(2);
    meanPlace.update(mean);
    const gap = ofMean - ofValues;
    said.say(
      `The mean is ${signed(mean)}. Its ${key === "line" ? "height on the line" : of} is ${signed(ofMean)}; ` +
      `the mean of the three ${key === "line" ? "heights" : `${of}s`} is ${signed(ofValues)}. Gap: ${Math.abs(gap).toFixed(3)}.`,
    );
    axes.canvas.setAttribute(
      "aria-label",
      `The ${of} with points at ${xs.map((x, i) => `${signed(x)} (${Math.round(100 * shares[i])} %)`).join(", ")}. ` +
        `The curve at their mean ${signed(mean)} is ${signed(ofMean)} high, the mean of their heights is ${signed(ofValues)}.`,
    );

    axes.range.y = y;
    if (!axes.start()) return;
    const tangent = [0, right + 0.2];
    axes.line(tangent, tangent.map((x) => ofMean + slope(mean) * (x - mean)), { color: 2, width: 2, dash: [2, 4] });
    axes.line(grid, grid.map(f), { color: 0, width: 3 });
    axes.line([...xs, xs[0]], [...ys, ys[0]], { color: "text", width: 1 });
    axes.line([0, mean], [ofMean, ofMean], { color: 0, width: 1.5, dash: [6, 4] });
    axes.line([0, mean], [ofValues, ofValues], { color: "accent", width: 1.5, dash: [6, 4] });
    axes.line([mean, mean], [y[0], ofValues], { color: "text", width: 1, dash: [2, 3] });
    axes.line([mean, mean], [ofValues, ofMean], { color: "accent", width: 6 });
    axes.points(xs, ys, { radius: (i) => 4 + 8 * shares[i] });
    axes.points([mean], [ofValues], { shape: "square", radius: 6, color: "accent" });
    axes.points([mean], [ofMean], { shape: "ring", radius: 8, color: 0 });
    const above = 0.04 * (y[1] - y[0]);
    axes.text("f of the mean", mean < 1.5 ? mean + 0.5 : 0.1, ofMean, { align: "left", color: 0 });
    const side = mean < 0.7 * right ? { align: "left", x: mean + 0.2 } : { align: "right", x: mean - 0.2 };
    axes.text("mean of f", side.x, ofValues, { align: side.align, baseline: "top", color: "accent" });
    const order = [0, 1, 2].sort((i, j) => xs[i] - xs[j]);
    const middle = Math.max(left + 0.1, Math.min(right - 0.1, xs[order[1]]));
    const names = [Math.min(xs[order[0]], middle - 0.22), middle, Math.max(xs[order[2]], middle + 0.22)]; // side by side at least
    order.forEach((i, place) => axes.text(NAMES[i], names[place], ys[i] + above));
  }

  return {
    buttons: [
      button("Halve the distances", halve),
      button("Start again", () => set(start)),
    ],
    content: [
      h(
        "div",
        { class: "em2vae-body" },
        axes.canvas,
        h("div", { class: "em2vae-side" }, said.element, curve.element, meanPlace.element, sliders),
      ),
    ],
    caption: CAPTION,
    draw,
    traits: ["points", "weights", "curve"],
  };
});
