/* Search: a word is also found by its other spellings, and excerpts read like text. */
(() => {
  const GREEK = {
    alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ε", zeta: "ζ", eta: "η", theta: "θ",
    kappa: "κ", lambda: "λ", mu: "μ", nu: "ν", xi: "ξ", pi: "π", rho: "ρ", sigma: "σ", tau: "τ",
    phi: "φ", chi: "χ", psi: "ψ", omega: "ω",
  }; // prettier-ignore
  // What the book calls something, and what else readers call it.
  const NAMES = {
    elbo: ["evidence lower bound", "variational lower bound"],
    kl: ["kullback leibler", "relative entropy"],
    vae: ["variational autoencoder", "variational auto encoder", "aevb"],
    log_var: ["logvar", "log var", "log variance", "log sigma"],
    autoencoder: ["auto encoder"],
    likelihood: ["loglikelihood", "mle"],
    mixture: ["gmm"],
    pca: ["principal component analysis"],
    "mini batch": ["minibatch"],
    "monte carlo": ["mcmc"],
    "importance weighted": ["iwae"],
    "score function": ["reinforce", "likelihood ratio gradient"],
    "gumbel softmax": ["concrete distribution"],
    ...Object.fromEntries(Object.entries(GREEK).map(([word, letter]) => [word, [letter]])),
  };
  // From other spellings to the book's.
  const SPELLINGS = [
    [/parametri[sz]/g, "parameteriz"],
    [/(?<=\w{3})is(e[drs]?|ers|ing|ations?)\b/g, "iz$1"],
    [/(col|fav|neighb|behavi)or/g, "$1our"],
    [/\bgray/g, "grey"],
    [/\bcenter/g, "centre"],
    [/eling\b/g, "elling"],
  ];
  const LEFT_OUT =
    "script, style, noscript, svg, img, summary, .headerlink, .toctree-wrapper, .toggle-button, " +
    ".eqno, div.math";
  const BLOCKS = "p, pre, li, dt, dd, th, td, h1, h2, h3, h4, figcaption";
  // In code: imports, commands of TeX, brackets.
  const NO_WORDS = /^(from .* )?import (.*\([^)]*\)|.*)$|\\[A-Za-z]+|\\.|[{}&~]/gm;

  function plain(text) {
    const words = text.replace(/\^2|²/g, "").normalize("NFKC").toLowerCase();
    return words.replace(/[\\^{}]/g, "").replace(/[\s\-‐–—]+/g, " ").trim();
  }

  function* rewritten(text) {
    for (const [ours, others] of Object.entries(NAMES)) {
      for (const other of others) {
        const found = new RegExp(`(?<![\\p{L}\\p{N}_])${other}s?(?![\\p{L}_])`, "u");
        yield text.replace(found, ours);
      }
    }
    for (const [other, ours] of SPELLINGS) yield text.replace(other, ours);
  }

  /** The query as typed, then what else it may be called. */
  function spellings(query) {
    const all = new Set([query]);
    for (const text of all) for (const other of rewritten(plain(text))) all.add(other);
    return [...all];
  }

  /** The words of a page, or of the place in it; code only if asked for. */
  function text(html, anchor, withCode) {
    const page = new DOMParser().parseFromString(html, "text/html");
    const place = anchor && page.getElementById(decodeURIComponent(anchor.slice(1)));
    const root = place || page.querySelector("article") || page.body;
    if (root.matches("dt")) root.append(" ", root.nextElementSibling ?? "");
    for (const element of root.querySelectorAll(LEFT_OUT)) element.remove();
    for (const formula of root.querySelectorAll("math")) formula.replaceWith(formulaText(formula));
    for (const code of root.querySelectorAll("pre")) {
      code.textContent = withCode ? code.textContent.replace(NO_WORDS, "") : "";
    }
    for (const block of root.querySelectorAll(BLOCKS)) block.append(" ");
    return root.textContent.replace(/\s+/g, " ").trim();
  }

  /** The words around the first term that the page has, outside its code if possible. */
  function excerpt(html, terms, anchor) {
    const place = (words) =>
      [...terms].map((term) => words.toLowerCase().indexOf(term)).findLast((at) => at >= 0);
    let words = text(html, anchor, false);
    if (place(words) === undefined) words = text(html, anchor, true);
    const start = words.lastIndexOf(" ", Math.max((place(words) ?? 0) - 120, 0)) + 1;
    const end = words.indexOf(" ", start + 240);
    const summary = document.createElement("p");
    summary.className = "context";
    summary.textContent = `${start ? "… " : ""}${words.slice(start, end < 0 ? undefined : end)}`;
    if (end >= 0) summary.append(" …");
    return summary;
  }

  function query(typed) {
    const word = plain(typed);
    const symbol = Object.values(GREEK).includes(word);
    const found = new Map();
    for (const spelling of spellings(typed)) {
      const [, terms, excluded, marked, objects] = Search._parseQuery(spelling);
      for (const item of Search._performSearch(spelling, terms, excluded, marked, objects)) {
        const [page, title, anchor, description] = item;
        const key = [page, anchor, description].join();
        // The book's own word finds more than the reader's.
        if (plain(spelling) !== word) item[4] += 20;
        // The table of symbols answers a symbol first.
        if (symbol && page.endsWith("notation")) item[4] += 100;
        // An entry of the glossary says which.
        const term = anchor.startsWith("#term-") && anchor.slice(6).replaceAll("-", " ");
        if (term) item[1] = `${title} > ${term}`;
        if (!anchor) item[1] = title.split(" > ")[0];
        if (!(found.get(key)?.item[4] >= item[4])) found.set(key, { item, terms, marked });
      }
    }
    const results = [...found.values()];
    results.sort((a, b) => _orderResultsByScoreThenName(b.item, a.item));
    for (const { item, terms, marked } of results) _displayItem(item, terms, marked);
    _finishSearch(results.length);
  }

  document.addEventListener("DOMContentLoaded", () => {
    if (typeof Search === "undefined") return;
    // A search fetches each page that it found for an excerpt, which browsers refuse over file://
    // and in a frame without an origin.
    if (self.origin === "null" || location.protocol === "file:") {
      DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
    }
    Object.assign(Search, { query, makeSearchSummary: excerpt });
  });
})();
