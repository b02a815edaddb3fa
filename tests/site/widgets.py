"""An interactive figure without a kernel: rendered by itself, and read from a built page."""

import base64
import json
import re
import zlib
from pathlib import Path

import numpy as np
from assets import packing

# Imports a module from its text, as the static page does.
IMPORT = """(text) => import(URL.createObjectURL(new Blob([text], { type: "text/javascript" })))"""
VIEW = """(base64) =>
    new DataView(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer)"""
# A front end without a kernel that writes down what the figure sends.
RENDER = f"""async ([text, state, binary]) => {{
    const {{ default: figure }} = await ({IMPORT})(text);
    const values = {{ ...state }};
    for (const [name, data] of Object.entries(binary))
        values[name] = ({VIEW})(data);
    const listeners = {{}};
    window.model = {{
        saved: 0,
        get: (name) => values[name],
        set(name, value) {{
            values[name] = value;
            (listeners[`change:${{name}}`] ?? []).forEach((callback) => callback());
        }},
        on: (event, callback) => (listeners[event] ??= []).push(callback),
        off: (event, callback) => {{
            listeners[event] = listeners[event].filter((other) => other !== callback);
        }},
        save_changes() {{ this.saved += 1; }},
        listening: () => Object.values(listeners).flat().length,
    }};
    document.body.replaceChildren();
    window.close_figure = figure.render({{ model, el: document.body }});
}}"""


# What a figure says, as people see it; its <output> says the same to a screen reader, at rest.
SENTENCE = ".em2vae-said"
# The first frame draws what was changed, the second comes after it.
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"


# The rest after which a voice speaks comes when `rested()` says so, not after 700 ms: on a slow
# machine two frames may take longer than that.
HOLD_REST = """() => {
    const [start, stop, held] = [setTimeout, clearTimeout, new Map()];
    let ids = 0;
    window.setTimeout = (speak, ms, ...given) =>
        ms === 700 ? (held.set((ids -= 1), speak), ids) : start(speak, ms, ...given);
    window.clearTimeout = (id) => held.delete(id) || stop(id);
    window.rested = async () => {
        for (const speak of held.values()) await speak(); // which one is heard by itself
        held.clear();
    };
}"""


def wait_until_drawn(page) -> None:
    """Wait for the frame that shows what was done last."""
    page.evaluate(DRAWN)


def evaluate(target, script: str, argument=None):
    """As `target.evaluate`, on a page or an element, but fast where there are many numbers."""
    call = f"""async (...given) => {{
        const argument = JSON.parse(given.pop());
        return JSON.stringify(await ({script})(...given, argument));
    }}"""
    return json.loads(target.evaluate(call, json.dumps(argument)))


def words_of(figure) -> str:
    """The figure's sentence, as people see it, its no-break spaces like any other."""
    return figure.locator(SENTENCE).inner_text().replace("\u00a0", " ")


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def render(page, figure, **binary):
    """The figure in a page of its own, with window.model in the kernel's place."""
    state = figure.get_state()
    names = [name for name, value in state.items() if isinstance(value, bytes | memoryview)]
    binary = {name: encoded(bytes({**state, **binary}[name])) for name in names}
    plain = {name: value for name, value in state.items() if name not in names}
    page.evaluate(RENDER, [figure._esm, plain, binary])
    page.add_style_tag(content=figure._css)
    page.wait_for_selector('figure.em2vae:not([data-state="loading"])')
    return page


def figures_in(html: str, shared: list[str]) -> list[dict]:
    """The traits of each figure of a page, its code, style and arrays in place, in their order.

    `shared` are the texts with which parts of code and style begin (assets.py).
    """
    models = {}
    for packed in re.findall(r'<script type="[^"]*em2vae.figures">(.*?)</script>', html):
        line, _, rest = zlib.decompress(base64.b64decode(packed)).partition(b"\n")
        header = json.loads(line)
        texts = [(shared[n] if n >= 0 else "") + own for n, own in header["parts"]]
        ends = np.cumsum(header["sizes"])
        buffers = [rest[end - size : end] for size, end in zip(header["sizes"], ends, strict=True)]
        for name, model in header["models"].items():
            code = {key: texts[place] for key, place in model["texts"].items()}
            arrays = {key: buffers[place] for key, place in model["buffers"].items()}
            models[name] = {**model["state"], **code, **arrays}
    views = re.findall(r'<script[^>]+widget-view\+json"[^>]*>(.*?)</script>', html, re.DOTALL)
    shown = [json.loads(view)["model_id"] for view in views]
    return [models[name] for name in shown if name in models]


def states(page: Path, figure: str) -> list[dict]:
    """The traits of each figure of that name, arrays as bytes, in the order of the page."""
    found = figures_in(page.read_text("utf-8"), packing.shared_texts())
    return [state for state in found if state.get("_figure") == figure]


def figures_on(page: Path) -> int:
    """How many of our figures the page's source holds."""
    return sum(
        "_figure" in state for state in figures_in(page.read_text("utf-8"), packing.shared_texts())
    )


def layers_of(spec: dict, data: bytes) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weight (outputs, inputs) and bias of each layer, from the bytes that travel."""
    layers = []
    for layer in spec["layers"]:
        n_in, n_out = layer["inputs"], layer["outputs"]
        high, low = np.frombuffer(data, np.uint8, 2 * n_in * n_out).reshape(2, n_out, n_in)
        halves = np.frombuffer(data, "<f2", 2 * n_out, 2 * n_in * n_out).astype(np.float64)
        steps, bias = halves.reshape(2, n_out)
        layers.append((steps[:, None] * (256.0 * high + low - 0x8080), bias))
        data = data[2 * n_in * n_out + 4 * n_out :]
    return layers


def run_network(spec: dict, data: bytes, values: np.ndarray) -> np.ndarray:
    """The network from its bytes, in NumPy."""
    for layer, (weight, bias) in zip(spec["layers"], layers_of(spec, data), strict=True):
        values = weight @ values + bias
        if layer["activation"] == "relu":
            values = np.maximum(values, 0)
    return values
