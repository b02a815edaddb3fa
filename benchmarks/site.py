"""How fast the site is: a slider's answer, the first paint of a figure, a build without changes.

    python benchmarks/site.py

Builds the book if need be and measures it in a headless browser without a graphics card.
"""

import functools
import json
import statistics
import subprocess
import sys
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from playwright.sync_api import sync_playwright
from results import write_result

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/site"), str(ROOT / "book/_ext")]
from browsers import find_browser  # noqa: E402
from pages import PAGES  # noqa: E402

PAGE = "book/12-latent-space"  # its first paint is measured
MOVES = 100
LOADS = 7
# From the input event to painted pixels. Work is what the machine does: the event's handlers, then
# the frame's from its first callback until the task that runs after its paint. The rest of the
# latency is the wait for the screen's next frame.
MEASURE = """
    const painted = () => new Promise((done) => requestAnimationFrame(() => {
        const channel = new MessageChannel();
        channel.port1.onmessage = () => done(performance.now());
        channel.port2.postMessage(0);
    }));
    const measure = async (act) => {
        let begun;
        requestAnimationFrame(() => (begun = performance.now()));
        const start = performance.now();
        act();
        const handled = performance.now();
        const end = await painted();
        return { work: handled - start + end - begun, latency: end - start };
    };
"""
MOVE_SLIDERS = f"""async (moves) => {{ {MEASURE}
    const figures = [...document.querySelectorAll("figure.em2vae[data-interactive]")];
    const times = [];
    for (const figure of figures) {{
        figure.scrollIntoView();
        await painted();
        const seen = (slider) => slider.checkVisibility({{ visibilityProperty: true }});
        const sliders = [...figure.querySelectorAll("input[type=range]")].filter(seen);
        if (!sliders.length) continue; // it is worked with selects and buttons alone
        const moved = [];
        for (let move = 0; move < moves; move++) {{
            const slider = sliders[move % sliders.length];
            const [low, high] = [Number(slider.min), Number(slider.max)];
            slider.value = low + (high - low) * (0.5 + 0.5 * Math.sin(move));
            const act = () => slider.dispatchEvent(new Event("input", {{ bubbles: true }}));
            moved.push(await measure(act));
        }}
        times.push([figure.dataset.interactive, moved]);
    }}
    return times;
}}"""
# A pen that draws a ring on the pad, and the networks that answer at each of its moves.
DRAW = f"""async ([name, moves]) => {{ {MEASURE}
    const pad = document.querySelector(`[data-interactive='${{name}}'] .em2vae-pad`);
    pad.scrollIntoView();
    pad.setPointerCapture = () => {{}}; // no real pointer is down
    await painted();
    const box = pad.getBoundingClientRect();
    const send = (type, move) => pad.dispatchEvent(new PointerEvent(type, {{
        buttons: 1,
        clientX: box.left + box.width * (0.5 + 0.3 * Math.cos(move / 16)),
        clientY: box.top + box.height * (0.5 + 0.3 * Math.sin(move / 16)),
    }}));
    const times = [];
    send("pointerdown", 0);
    for (let move = 1; move <= moves; move++)
        times.push(await measure(() => send("pointermove", move)));
    send("pointerup", moves);
    return times;
}}"""
# Milliseconds between the frames of an animation that a button starts.
WATCH = """async ([name, button, count]) => {
    const figure = document.querySelector(`figure[data-interactive='${name}']`);
    figure.scrollIntoView();
    const times = [];
    [...figure.querySelectorAll("button")].find((b) => b.innerText === button).click();
    for (let i = 0; i < count; i++) times.push(await new Promise(requestAnimationFrame));
    return times.slice(1).map((time, i) => time - times[i]);
}"""
PADS = ["amortized-pad", "style-transfer", "codebook"]
SLOWER = 6  # times, as a phone
ANIMATIONS = [  # figure, button, frames
    ("em-stepper", "Run", 120),
    ("amortized-pad", "Refine", 38),
]
# Installed before the page loads: when the first figure is ready, that is, painted.
FIRST_PAINT = """new MutationObserver((_, observer) => {
    if (!document.querySelector("figure.em2vae[data-state=ready]")) return;
    window.firstPaint = performance.now();
    observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def serve(folder: Path) -> ThreadingHTTPServer:
    class Handler(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # a connection serves many files, as everywhere today

        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def summary(values: list[float]) -> dict:
    """Median and the largest but for the worst twentieth."""
    return {
        "median": round(statistics.median(values), 2),
        "95th percentile": round(sorted(values)[int(0.95 * (len(values) - 1))], 2),
    }


def work_and_latency(moved: list[dict]) -> dict[str, dict]:
    return {kind: summary([move[kind] for move in moved]) for kind in ("work", "latency")}


def first_paint(browser, url: str) -> list[float]:
    """Seconds from the start of the navigation, each time in a fresh browser context."""
    seconds = []
    for _ in range(LOADS):
        context = browser.new_context()
        context.add_init_script(FIRST_PAINT)
        page = context.new_page()
        page.goto(url)
        page.wait_for_function("window.firstPaint")
        seconds.append(page.evaluate("window.firstPaint") / 1000)
        context.close()
    return seconds


def move_sliders(page) -> dict[str, dict]:
    """Work and latency of every figure on the page, by its name."""
    page.evaluate(MOVE_SLIDERS, 10)
    return {name: work_and_latency(moved) for name, moved in page.evaluate(MOVE_SLIDERS, MOVES)}


def draw_on(page, name: str) -> dict[str, dict]:
    """Work and latency of a pen's moves on a figure's pad, and the same on a slower machine."""
    times = {}
    throttle = page.context.new_cdp_session(page)
    for label, rate in ((name, 1), (f"{name}, {SLOWER} times slower", SLOWER)):
        throttle.send("Emulation.setCPUThrottlingRate", {"rate": rate})
        page.evaluate(DRAW, [name, 10])
        times[label] = work_and_latency(page.evaluate(DRAW, [name, MOVES]))
    throttle.send("Emulation.setCPUThrottlingRate", {"rate": 1})
    return times


def open_settled(browser, url: str):
    page = browser.new_page()
    page.goto(url)
    page.wait_for_timeout(1000)  # the page's own scripts have settled
    return page


def build() -> float:
    """Seconds that `make book` takes."""
    start = time.perf_counter()
    subprocess.run(["make", "book"], cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    build()
    result = {"page": PAGE, "warm `make book`, seconds": summary([build() for _ in range(3)])}
    with sync_playwright() as playwright, serve(ROOT / "_build/html") as server:
        browser = playwright.chromium.launch(
            executable_path=find_browser("chromium", playwright.chromium.executable_path),
            args=["--disable-gpu", "--disable-background-networking"],
        )
        url = f"http://127.0.0.1:{server.server_port}/"
        seconds = first_paint(browser, f"{url}{PAGE}.html")
        result["first interactive paint, seconds"] = summary(seconds)
        sliders, drawing, frames = {}, {}, {}
        for name in PAGES:
            page = open_settled(browser, f"{url}{name}.html")
            sliders |= move_sliders(page)
            for pad in PADS:
                if page.locator(f"[data-interactive='{pad}']").count():
                    drawing |= draw_on(page, pad)
            for figure, button, count in ANIMATIONS:
                if page.locator(f"[data-interactive='{figure}']").count():
                    times = page.evaluate(WATCH, [figure, button, count])
                    frames[f"{figure}: {button}"] = summary(times)
            page.close()
        result["slider to pixels, milliseconds"] = sliders
        result["pen to pixels, milliseconds"] = drawing
        result["between frames, milliseconds"] = frames
        browser.close()
        server.shutdown()
    write_result("site", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
