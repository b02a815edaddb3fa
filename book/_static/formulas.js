/* A formula wider than its column scrolls, also from the keyboard; no other one is a tab stop. */
document.addEventListener("DOMContentLoaded", () => {
  const REACHED = { tabindex: "0", role: "group", "aria-label": "Formula" };

  const watcher = new ResizeObserver((entries) => {
    const boxes = entries.map(({ target }) => target);
    const wide = new Set(boxes.filter((box) => box.scrollWidth > box.clientWidth));
    for (const box of boxes) {
      for (const [name, value] of Object.entries(REACHED)) {
        if (wide.has(box)) box.setAttribute(name, value);
        else box.removeAttribute(name);
      }
    }
  });
  for (const box of document.querySelectorAll("div.formula, span.math")) watcher.observe(box);
});
