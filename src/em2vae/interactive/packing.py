"""How figures travel in a static page, the book's and a reader's own; host.js unpacks them.

It stands without PyTorch, because the book's build loads it, too (book/_ext/assets.py).
"""

import base64
import json
import re
import zlib
from pathlib import Path

HERE = Path(__file__).parent
PACKED = "application/vnd.em2vae.figures"


def shared_texts() -> list[str]:
    """How the code and the style of every figure begin: they are shared.js and figure.css."""
    code, style = (
        (HERE / name).read_text(encoding="utf-8") for name in ("shared.js", "figure.css")
    )
    return [re.sub(r"^export (?!default)", "", code, flags=re.MULTILINE), style]


def host_script() -> str:
    """The script that starts the figures of a page."""
    return (HERE / "host.js").read_text(encoding="utf-8")


def pack_figures(models: dict, shared: list[str]) -> str:
    """A script element that holds the figures among the widgets, for host.js.

    It is base64 of a zlib stream of: JSON of {"parts", "sizes", "models"} in a line of its own,
    then all buffers, one after another. What figures of a page share is there once: a model names
    its code and style, and its buffers, by their place in parts and sizes. A part is the number of
    the shared text that it begins with, or -1, and the rest.
    """
    texts, buffers, packed = [], [], {}

    def place(values: list, value) -> int:
        if value not in values:
            values.append(value)
        return values.index(value)

    for name, model in models.items():
        state = model["state"]
        if "_esm" not in state:
            continue  # plain widgets need a kernel
        packed[name] = {
            "state": {k: v for k, v in state.items() if k not in ("_esm", "_css")},
            "texts": {k: place(texts, state[k]) for k in ("_esm", "_css") if k in state},
            "buffers": {
                buffer["path"][0]: place(buffers, base64.b64decode(buffer["data"]))
                for buffer in model.get("buffers", [])
            },
        }

    def split(text: str) -> tuple[int, str]:
        begun = [n for n, start in enumerate(shared) if text.startswith(start)]
        return (begun[0], text.removeprefix(shared[begun[0]])) if begun else (-1, text)

    header = {
        "parts": [split(text) for text in texts],
        "sizes": [len(buffer) for buffer in buffers],
        "models": packed,
    }
    line = json.dumps(header).encode() + b"\n"
    # Filtered data, with its own code every few thousand bytes: 1 to 6 % less than the defaults.
    packer = zlib.compressobj(9, memLevel=6, strategy=zlib.Z_FILTERED)
    data = packer.compress(line + b"".join(buffers)) + packer.flush()
    data = base64.b64encode(data).decode()
    return f'<script type="{PACKED}">{data}</script>'
