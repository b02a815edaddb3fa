/* Settings of MathJax, which starts after this script. */
(() => {
  const FONT = "_static/mathjax/output/chtml/fonts/woff-v2/MathJax_Main-Regular.woff";
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const STARTED = 'figure.em2vae:not([data-state="loading"]), :not(figure) > .em2vae-message';
  const PATIENCE = 3000; // ms that formulas wait for figures

  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  // A page in the background has no frames.
  const frame = () => Promise.race([new Promise(requestAnimationFrame), pause(100)]);

  // The host of the figures takes each place away as soon as it is parsed.
  let figures = 0;
  new MutationObserver((records) => {
    for (const { addedNodes } of records) {
      for (const node of addedNodes) if (node.matches?.(VIEW)) figures++;
    }
  }).observe(document, { childList: true, subtree: true });

  /* Formulas are set in one go that blocks the page: page and figures show before. */
  async function showPageFirst() {
    const end = performance.now() + PATIENCE;
    await frame();
    do await frame();
    while (document.querySelectorAll(STARTED).length < figures && performance.now() < end);
  }

  /* A frame without an origin of its own is refused fonts; letters drawn as paths need none. */
  async function chooseOutput() {
    const root = document.documentElement.dataset.content_root;
    try {
      await new FontFace("probe", `url("${root}${FONT}")`).load();
    } catch {
      await MathJax.loader.load("output/svg");
      MathJax.startup.useOutput("svg", true);
    }
  }

  const config = (window.MathJax ??= {});
  // The menu offers parts of MathJax that the site lacks, and makes each formula a tab stop.
  config.options = { ...config.options, enableMenu: false };
  config.startup = {
    ready() {
      // What its menu stored, here or in another book, must not ask for such a part either.
      MathJax._.ui.menu.Menu.Menu.prototype.mergeUserSettings = () => {};
      chooseOutput().then(() => MathJax.startup.defaultReady());
    },
    pageReady: () => showPageFirst().then(() => MathJax.startup.defaultPageReady()),
  };

  /* A formula wider than its column scrolls, also from the keyboard; no other one is a tab stop. */
  function reachWideFormulas() {
    for (const formula of document.querySelectorAll("div.math mjx-container")) {
      if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;
      else formula.removeAttribute("tabindex");
    }
  }
  addEventListener("resize", reachWideFormulas);
  addEventListener("DOMContentLoaded", () => MathJax.startup.promise?.then(reachWideFormulas));
})();
