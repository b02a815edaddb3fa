/* A link to a place in a page. After the browser went there the page goes on growing and shrinking:
   solutions fold, figures and fonts take their size. Until all have settled, or the reader moves, the
   place stays where it belongs. */
(() => {
  const REST = 1000; // ms without a change of size, after which the page has settled
  let place = null;
  let loaded = false;
  let settled = false;
  let timer;

  function unfold(element) {
    let unfolded = false;
    for (let box = element.parentElement; box; box = box.parentElement) {
      if (!box.matches("details:not([open]), .toggle-hidden")) continue;
      if (box.matches("details")) box.open = true;
      else box.querySelector(".toggle-button").click();
      unfolded = true;
    }
    return unfolded;
  }

  function go() {
    place?.scrollIntoView({ behavior: "instant" });
  }

  function follow() {
    place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (place && unfold(place)) go();
    if (settled) place = null;
  }

  function leave() {
    if (document.fonts.status === "loading") return rest();
    go();
    place = null;
    settled = true;
  }

  function rest() {
    clearTimeout(timer);
    if (loaded) timer = setTimeout(leave, REST);
  }

  for (const move of ["wheel", "touchmove", "pointerdown", "keydown"]) {
    addEventListener(move, () => (place = null), { capture: true, passive: true });
  }
  addEventListener("hashchange", follow);
  addEventListener("DOMContentLoaded", () => {
    // Who comes back or reloads stays where they were.
    if (performance.getEntriesByType("navigation")[0]?.type === "navigate") follow();
    const article = document.querySelector("article");
    const resized = () => (go(), rest());
    if (article) new ResizeObserver(resized).observe(article);
  });
  addEventListener("load", () => {
    loaded = true;
    rest();
  });
})();
