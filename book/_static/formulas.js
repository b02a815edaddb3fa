/* A formula as a line of text: letters and signs, names apart, _ and ^ and / where they belong. */
function formulaText(formula) {
  const copy = formula.cloneNode(true);
  const marks = [
    ["_", "msub > :last-child, :is(msubsup, munderover) > :nth-child(2)"],
    ["_", "munder:not([accentunder]) > :last-child"],
    ["^", ":is(msup, msubsup, munderover) > :last-child"],
    ["/", "mfrac > :last-child"],
  ];
  for (const [mark, places] of marks) {
    for (const place of copy.querySelectorAll(places)) place.prepend(mark);
  }
  for (const name of copy.querySelectorAll("mi, mo")) {
    if (/\p{L}{2}/u.test(name.textContent)) name.append(" ");
  }
  return copy.textContent.replace(/[\u2061-\u2064\ufe00]/g, "");
}

/* Browsers copy each letter of a formula to a line of its own. */
document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (!selection.rangeCount) return;
  const copy = document.createElement("div");
  copy.append(selection.getRangeAt(0).cloneContents());
  const formulas = copy.querySelectorAll("math");
  if (!formulas.length) return;
  event.clipboardData.setData("text/html", copy.innerHTML);
  for (const formula of formulas) formula.replaceWith(formulaText(formula));
  document.body.append(copy); // its lines are those that would show
  event.clipboardData.setData("text/plain", copy.innerText);
  copy.remove();
  event.preventDefault();
});

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
