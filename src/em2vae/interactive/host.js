/* Hosts anywidget figures on a static page: unpacks their state, which the build stored in the page
   (packing.py), and calls each module's render({model, el}), the interface that anywidget
   defines for any front end. A classic script, because browsers refuse module files over file://. */
(() => {
  const PACKED = "application/vnd.em2vae.figures";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const scripts = (type) => [...document.querySelectorAll(`script[type="${type}"]`)];

  /* The models by their ids, from base64 of a zlib stream: a line of JSON, then all buffers. Code and
     style that all figures share, em2vaeShared, stand before this script, if the pages share them. */
  async function unpack(base64) {
    if (!self.DecompressionStream) throw new Error("it needs a browser of 2023 or later");
    const text = atob(base64);
    const packed = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
    let start = bytes.indexOf(10) + 1;
    const header = JSON.parse(new TextDecoder().decode(bytes.subarray(0, start)));
    const { parts, sizes, models } = header;
    const texts = parts.map(([shared, own]) => (self.em2vaeShared?.[shared] ?? "") + own);
    const buffers = sizes.map((size) => new DataView(bytes.buffer, (start += size) - size, size));
    const named = (places, values) =>
      Object.fromEntries(Object.entries(places).map(([name, place]) => [name, values[place]]));
    for (const model of Object.values(models))
      Object.assign(model.state, named(model.texts, texts), named(model.buffers, buffers));
    return models;
  }

  function staticModel({ state }) {
    const values = { ...state };
    const listeners = new Map();
    return {
      get: (name) => values[name],
      set(name, value) {
        values[name] = value;
        for (const callback of listeners.get(`change:${name}`) ?? []) callback();
      },
      on: (event, callback) => listeners.set(event, [...(listeners.get(event) ?? []), callback]),
      off: (event, callback) =>
        listeners.set(event, (listeners.get(event) ?? []).filter((other) => other !== callback)),
      save_changes() {},
      send() {},
    };
  }

  const modules = new Map();
  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).catch((error) => loadInline(source, error)));
    }
    return modules.get(source);
  }

  // A page may come with a Content-Security-Policy that refuses modules from a Blob URL. Many such
  // policies allow inline scripts; then the module is one, and hands its figure over in an event.
  const POLICY =
    "this page's Content-Security-Policy allows neither scripts from blob: addresses nor inline scripts. It " +
    "starts where the policy's script-src holds blob:, and in a downloaded copy of the book";
  let inlined = 0;
  function loadInline(source, error) {
    if (!(error instanceof TypeError)) throw error; // the module came, and is faulty
    const name = `em2vae-module-${inlined++}`;
    const script = document.createElement("script");
    script.type = "module";
    const own = source.replace(/^export default /m, "const em2vaeFigure = ");
    script.textContent = `${own}\ndocument.dispatchEvent(new CustomEvent("${name}", { detail: em2vaeFigure }));`;
    return new Promise((resolve, reject) => {
      document.addEventListener(name, ({ detail }) => resolve({ default: detail }), { once: true });
      document.addEventListener("securitypolicyviolation", ({ blockedURI }) => {
        if (blockedURI === "inline") reject(new Error(POLICY));
      });
      setTimeout(reject, 3000, error); // no policy is the cause
      document.head.append(script);
    });
  }

  const styles = new Set();
  function addStyle(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
  }

  function explain(el, text) {
    const message = document.createElement("p");
    message.className = "em2vae-message";
    message.setAttribute("role", "status");
    message.append(`${text} `);
    const notebook = document.querySelector('a[href$=".ipynb"]');
    if (notebook) {
      const link = document.createElement("a");
      link.href = notebook.href;
      link.textContent = "Download the notebook";
      message.append(link, " and run it in JupyterLab.");
    } else {
      message.append("Open the notebook in JupyterLab.");
    }
    el.replaceChildren(message);
  }

  // One figure after another, a frame apart: the first one shows before the next one computes.
  let shown = Promise.resolve();
  const nextFrame = () =>
    new Promise((done) => {
      requestAnimationFrame(() => setTimeout(done));
      setTimeout(done, 200); // no frames come while the page is hidden
    });
  function show(view, model) {
    const el = document.createElement("div");
    view.replaceWith(el);
    shown = shown.then(() => start(el, model)).then(nextFrame);
  }
  async function start(el, model) {
    try {
      if (failure) throw failure;
      if (!model) return explain(el, "This control needs a running kernel.");
      addStyle(model.state._css);
      const module = await load(model.state._esm);
      await module.default.render({ model: staticModel(model), el });
    } catch (error) {
      explain(el, `This figure could not start: ${error.message}.`);
    }
  }

  // Called where this script stands, in the page's head behind its packed figures, and again when the
  // page is parsed: they unpack and their modules load meanwhile, and a figure starts as soon as its
  // place is there.
  const models = {};
  const unpacking = [];
  let failure = null;
  async function read(script) {
    script.remove();
    try {
      Object.assign(models, await unpack(script.textContent));
    } catch (error) {
      failure = error;
    }
    for (const { state } of Object.values(models)) load(state._esm).catch(() => {});
    showKnown();
  }
  const readAll = () => unpacking.push(...scripts(PACKED).map(read));
  function idOf(view) {
    try {
      return JSON.parse(view.textContent).model_id;
    } catch {
      return null; // only half of it is parsed yet
    }
  }
  function showKnown() {
    for (const view of scripts(VIEW)) if (models[idOf(view)]) show(view, models[idOf(view)]);
  }

  readAll();
  const places = new MutationObserver(showKnown);
  places.observe(document, { childList: true, subtree: true });
  document.addEventListener(
    "readystatechange",
    async () => {
      places.disconnect();
      readAll();
      await Promise.all(unpacking);
      for (const view of scripts(VIEW)) show(view, models[idOf(view)]);
    },
    { once: true },
  );
})();
