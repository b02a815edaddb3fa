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
sys.path.insert(0, str(ROOT / "tests/site"))
from chromium import find_browser  # noqa: E402

PAGE = "book/12-latent-space"
FIGURES = ("2 dimensions", "20 dimensions")  # the explorers of the page
MOVES = 200
LOADS = 7
# From the input event to painted pixels. Work is what the machine does: the event's handlers, then
# the frame's from its first callback until the task that runs after its paint. The rest of the
# latency is the wait for the screen's next frame.
MOVE_SLIDERS = """async (moves) => {
    const figures = [...document.querySelectorAll("figure[data-interactive='latent-explorer']")];
    const times = figures.map(() => []);
    for (const [n, figure] of figures.entries()) {
        const sliders = [...figure.querySelectorAll(".em2vae-sliders input")];
        for (let move = 0; move < moves; move++) {
            const slider = sliders[move % sliders.length];
            slider.value = Number(slider.max) * Math.sin(move);
            let begun;
            requestAnimationFrame(() => (begun = performance.now()));
            const start = performance.now();
            slider.dispatchEvent(new Event("input", { bubbles: true }));
            const handled = performance.now();
            await new Promise((done) => requestAnimationFrame(() => {
                const channel = new MessageChannel();
                channel.port1.onmessage = done;
                channel.port2.postMessage(0);
            }));
            const painted = performance.now();
            times[n].push({ work: handled - start + painted - begun, latency: painted - start });
        }
    }
    return times;
}"""
# Installed before the page loads: when the first figure is ready, that is, painted.
FIRST_PAINT = """new MutationObserver((_, observer) => {
    if (!document.querySelector("figure.em2vae[data-state=ready]")) return;
    window.firstPaint = performance.now();
    observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true });"""


def serve(folder: Path) -> ThreadingHTTPServer:
    class Handler(SimpleHTTPRequestHandler):
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


def move_sliders(browser, url: str) -> list[dict]:
    page = browser.new_page()
    page.goto(url)
    page.wait_for_selector("figure.em2vae[data-state=ready]")
    page.wait_for_timeout(1000)  # the page's own scripts have settled
    page.evaluate(MOVE_SLIDERS, 10)
    return [
        {name: summary([time[name] for time in times]) for name in ("work", "latency")}
        for times in page.evaluate(MOVE_SLIDERS, MOVES)
    ]


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
            executable_path=find_browser(playwright.chromium.executable_path),
            args=["--disable-gpu", "--disable-background-networking"],
        )
        url = f"http://127.0.0.1:{server.server_port}/{PAGE}.html"
        result["first interactive paint, seconds"] = summary(first_paint(browser, url))
        sliders = move_sliders(browser, url)
        result["slider to pixels, milliseconds"] = dict(zip(FIGURES, sliders, strict=True))
        browser.close()
        server.shutdown()
    write_result("site", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
