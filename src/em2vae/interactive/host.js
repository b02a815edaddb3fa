/* Hosts anywidget figures on a static page: reads the widget state that MyST-NB stored in the
   page and calls each module's render({model, el}), the interface that anywidget defines for any
   front end. A classic script, because browsers refuse module files over file://. */
(() => {
  const STATE = "application/vnd.jupyter.widget-state+json";
  const VIEW = "application/vnd.jupyter.widget-view+json";
  const scripts = (type) => [...document.querySelectorAll(`script[type="${type}"]`)];

  function bytes(base64) {
    const text = atob(base64);
    const array = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) array[i] = text.charCodeAt(i);
    return new DataView(array.buffer);
  }

  function staticModel({ state, buffers = [] }) {
    const values = { ...state };
    for (const { path, data } of buffers) {
      const parent = path.slice(0, -1).reduce((value, key) => value[key], values);
      parent[path.at(-1)] = bytes(data);
    }
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

  async function show(view, models) {
    const el = document.createElement("div");
    view.replaceWith(el);
    const model = models[idOf(view)];
    if (!model?.state?._esm) return explain(el, "This control needs a running kernel.");
    try {
      addStyle(model.state._css);
      const module = await load(model.state._esm);
      await module.default.render({ model: staticModel(model), el });
    } catch (error) {
      explain(el, `This figure could not start: ${error.message}.`);
    }
  }

  // Called where this script stands, in the page's head behind its widget state, and again while the
  // page is parsed: modules load meanwhile, and a figure starts as soon as its place is there.
  const models = {};
  function readStates() {
    for (const script of scripts(STATE)) {
      Object.assign(models, JSON.parse(script.textContent).state);
      script.remove();
    }
    for (const { state } of Object.values(models)) if (state._esm) load(state._esm).catch(() => {});
  }
  function idOf(view) {
    try {
      return JSON.parse(view.textContent).model_id;
    } catch {
      return null; // only half of it is parsed yet
    }
  }

  readStates();
  const places = new MutationObserver(() => {
    for (const view of scripts(VIEW)) if (models[idOf(view)]) show(view, models);
  });
  places.observe(document, { childList: true, subtree: true });
  document.addEventListener(
    "readystatechange",
    () => {
      places.disconnect();
      readStates();
      for (const view of scripts(VIEW)) show(view, models);
    },
    { once: true },
  );
})();
