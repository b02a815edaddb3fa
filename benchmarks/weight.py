"""What the pages weigh and how soon a slow machine can use them, beside an older build of the site.

    python benchmarks/weight.py OLD NEW

OLD and NEW are folders of built sites (`_build/html`). Bytes are those of gzip -9; what is
compressed already counts as it is. Times are medians in a headless Chromium whose processor is
slowed down, from a local server, old and new in turn, each time in a fresh browser context.
"""

import gzip
import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import sync_playwright
from results import write_result

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/site"), str(ROOT / "book/_ext")]
from browsers import find_browser  # noqa: E402
from server import serve  # noqa: E402

HEAVIEST, FORMULAS = "12-latent-space", "06-elbo"
LOADS = 7
PAINT_RATE, TASK_RATE = 6, 4  # times slower
# Installed before the page loads: when the first figure is ready, and the longest task.
WATCH = """
    new MutationObserver((_, observer) => {
        if (!document.querySelector("figure.em2vae[data-state=ready]")) return;
        window.firstPaint = performance.now();
        observer.disconnect();
    }).observe(document, { subtree: true, childList: true, attributes: true });
    window.longestTask = 0;
    new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries())
            window.longestTask = Math.max(window.longestTask, duration);
    }).observe({ type: "longtask", buffered: true });
"""
COMPRESSED = {".woff", ".woff2", ".png", ".webp", ".jpg"}


def weight(file: Path) -> int:
    """Bytes of a file on the wire."""
    data = file.read_bytes()
    return len(data) if file.suffix in COMPRESSED else len(gzip.compress(data, 9))


def pages(site: Path) -> dict[str, int]:
    """Bytes of each chapter's HTML, and their sum."""
    found = {file.stem: weight(file) for file in sorted(site.glob("book/[0-9][0-9]-*.html"))}
    return {**found, "sum": sum(found.values())}


def loads(browser, site: Path, url: str) -> dict[str, int]:
    """Bytes of everything that the heaviest chapter asks for, by kind."""
    page, asked = browser.new_page(), {}
    page.on("request", lambda request: asked.update({request.url: request.resource_type}))
    page.goto(f"{url}book/{HEAVIEST}.html")
    page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
    page.wait_for_load_state("networkidle")
    page.close()
    kinds = Counter()
    for address, kind in asked.items():
        if address.startswith(url):
            kinds[kind] += weight(site / unquote(urlsplit(address).path[1:]))
    return {**dict(kinds.most_common()), "sum": kinds.total()}


def measure(browser, url: str, name: str, rate: int, what: str) -> float:
    """Seconds of window.firstPaint or window.longestTask, once all is quiet."""
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": rate})
    page.goto(f"{url}book/{name}.html", timeout=120_000)
    page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # tasks are reported late
    seconds = page.evaluate(what) / 1000
    context.close()
    return seconds


def main() -> None:
    sites = {
        name: Path(folder).resolve()
        for name, folder in zip(("old", "new"), sys.argv[1:], strict=True)
    }
    result = {"heaviest page": HEAVIEST, "page of formulas": FORMULAS, "loads": LOADS}
    result |= {name: {"html, bytes": pages(site)} for name, site in sites.items()}
    kinds = {
        f"first interactive paint at {PAINT_RATE}x, seconds": (HEAVIEST, PAINT_RATE, "firstPaint"),
        f"longest task at {TASK_RATE}x, seconds": (FORMULAS, TASK_RATE, "longestTask"),
    }
    with sync_playwright() as playwright, serve(sites["old"]) as old, serve(sites["new"]) as new:
        browser = playwright.chromium.launch(
            executable_path=find_browser("chromium", playwright.chromium.executable_path),
            args=["--disable-gpu", "--disable-background-networking"],
        )
        urls = {"old": old.url, "new": new.url}
        for name, url in urls.items():
            result[name][f"{HEAVIEST} loads, bytes"] = loads(browser, sites[name], url)
        for kind, (page, rate, what) in kinds.items():
            seconds = {"old": [], "new": []}
            for _ in range(LOADS):
                for name, url in urls.items():
                    seconds[name].append(measure(browser, url, page, rate, what))
            for name, values in seconds.items():
                result[name][kind] = round(statistics.median(values), 2)
        browser.close()
    write_result("weight", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
