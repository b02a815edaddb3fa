"""An interactive figure without a kernel: rendered by itself, and read from a built page."""

import base64
import json
import re
from pathlib import Path

import numpy as np

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


def stored(page: Path, kind: str) -> list[dict]:
    """What the page's scripts of that kind, "state" or "view", hold."""
    script = rf'<script[^>]+widget-{kind}\+json"[^>]*>(.*?)</script>'
    return [json.loads(text) for text in re.findall(script, page.read_text("utf-8"), re.DOTALL)]


def shown_models(page: Path) -> list[dict]:
    """The model behind each view, in the order of the page; without one it is empty."""
    models = {}
    for state in stored(page, "state"):
        models |= state["state"]
    return [models.get(view["model_id"], {"state": {}}) for view in stored(page, "view")]


def states(page: Path, figure: str) -> list[dict]:
    """The traits of each figure of that name, arrays as bytes, in the order of the page."""
    found = [model for model in shown_models(page) if model["state"].get("_figure") == figure]
    for model in found:
        for buffer in model["buffers"]:
            model["state"][buffer["path"][0]] = base64.b64decode(buffer["data"])
    return [model["state"] for model in found]


def figures_on(page: Path) -> int:
    """How many of our figures the page's source holds."""
    return sum("_figure" in model["state"] for model in shown_models(page))


def run_network(spec: dict, data: bytes, values: np.ndarray) -> np.ndarray:
    """The network from its bytes, in NumPy."""
    numbers = np.frombuffer(data, "<f2").astype(np.float64)
    for layer in spec["layers"]:
        n_in, n_out = layer["inputs"], layer["outputs"]
        weight, bias, numbers = np.split(numbers, [n_in * n_out, n_in * n_out + n_out])
        values = weight.reshape(n_out, n_in) @ values + bias
        if layer["activation"] == "relu":
            values = np.maximum(values, 0)
    return values
