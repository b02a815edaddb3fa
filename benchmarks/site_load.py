"""How soon a page can be read and used and how heavy the pages are, beside an older build.

    python benchmarks/site_load.py OLD NEW

Two folders with built sites. Each page load is fresh, and the sites take turns. Bytes are those of
`gzip -9`; what is compressed already counts as it is.
"""

import contextlib
import gzip
import json
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from pathlib import Path
from urllib.parse import unquote, urlsplit

from playwright.sync_api import sync_playwright
from results import write_result

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/site"), str(ROOT / "book/_ext")]
from browsers import find_browser  # noqa: E402
from engines import Firefox, WebKit  # noqa: E402
from pages import DOCNAMES  # noqa: E402
from server import serve  # noqa: E402

PAGE = "book/06-elbo"  # the one with the most formulas
HEAVIEST = "book/12-latent-space"
ROUNDS = 5
COMPRESSED = {".woff", ".woff2", ".png", ".webp", ".jpg"}
# Put in front of the page's other scripts: the end of the frame in which each formula first stands,
# whoever set it, and the longest task until then.
NOTE = """<script>
window.longest = 0;
const tasks = new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longest = Math.max(longest, duration);
});
if (PerformanceObserver.supportedEntryTypes.includes("longtask"))
  tasks.observe({ type: "longtask", buffered: true });
const allSet = () => document.readyState !== "loading" && document.fonts.status === "loaded" &&
  [...document.querySelectorAll(".math")].every((e) => e.querySelector("mjx-container, math"));
window.formulasPainted = new Promise((done) => requestAnimationFrame(function look() {
  if (!allSet()) return requestAnimationFrame(look);
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => done(performance.now());
  port2.postMessage(0);
}));
window.figurePainted = new Promise((done) => new MutationObserver((_, observer) => {
  if (!document.querySelector("figure.em2vae[data-state=ready]")) return;
  observer.disconnect();
  done(performance.now());
}).observe(document, { subtree: true, childList: true, attributeFilter: ["data-state"] }));
</script>"""
PAINTED = "() => formulasPainted"
FIGURE = "() => figurePainted"
RESTED = """async () => {
  await formulasPainted;
  await new Promise((done) => setTimeout(done, 1000));
  return longest;
}"""
# What is measured in Chromium: the page, how many times slower the processor, and the script.
CHROMIUM = {
    "formulas painted, Chromium, 6 times slower": (PAGE, 6, PAINTED),
    "longest task, Chromium, 4 times slower": (PAGE, 4, RESTED),
    "first figure, Chromium, 6 times slower": (HEAVIEST, 6, FIGURE),
}


def noting(site: Path, folder: Path) -> Path:
    """A copy of a site two of whose pages note their times."""
    copy = shutil.copytree(site, folder)
    for name in (PAGE, HEAVIEST):
        page = copy / f"{name}.html"
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("<head>", f"<head>{NOTE}", 1), encoding="utf-8")
    return copy


def launch(playwright):
    return playwright.chromium.launch(
        executable_path=find_browser("chromium", playwright.chromium.executable_path),
        args=["--disable-gpu", "--disable-background-networking"],
    )


def in_chromium(browser, url: str, slower: int, script: str) -> float:
    """What the script returns on the page, loaded with a slowed CPU, in seconds."""
    context = browser.new_context()
    page = context.new_page()
    context.new_cdp_session(page).send("Emulation.setCPUThrottlingRate", {"rate": slower})
    page.goto(url, wait_until="commit")
    milliseconds = page.evaluate(script)
    context.close()
    return milliseconds / 1000


def in_engine(kind, path: str, server, folder: Path) -> float:
    """Seconds until the formulas are painted in a fresh Firefox or WebKit."""
    engine = kind(path, folder, server)
    try:
        engine.open(f"{server.url}{PAGE}.html")
        return engine.run(PAINTED) / 1000
    finally:
        engine.close()


def measure(servers: dict, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Seconds by what is measured and by site; the sites take turns."""
    paths = {kind: find_browser(kind.__name__.lower()) for kind in (Firefox, WebKit)}
    ways = {f"formulas painted, {kind.__name__}": kind for kind in paths}
    found = {name: {site: [] for site in servers} for name in ways}
    found |= {name: {site: [] for site in servers} for name in CHROMIUM}
    for turn in range(ROUNDS):
        for site, server in servers.items():
            for name, kind in ways.items():
                profile = folder / f"{kind.__name__}-{site}-{turn}"
                profile.mkdir()
                found[name][site].append(in_engine(kind, paths[kind], server, profile))
            with sync_playwright() as playwright:
                browser = launch(playwright)
                for name, (page, slower, script) in CHROMIUM.items():
                    url = f"{server.url}{page}.html"
                    found[name][site].append(in_chromium(browser, url, slower, script))
                browser.close()
    return found


def weight(file: Path) -> int:
    """Bytes of a file on the wire."""
    data = file.read_bytes()
    return len(data) if file.suffix in COMPRESSED else len(gzip.compress(data, 9))


def html(site: Path) -> dict[str, int]:
    """Bytes of HTML of each chapter, and of all."""
    chapters = [name for name in DOCNAMES if name.removeprefix("book/")[:2].isdigit()]
    sizes = {name: weight(site / f"{name}.html") for name in chapters}
    return {"all chapters": sum(sizes.values()), **sizes}


def loads(site: Path) -> dict[str, int]:
    """Bytes of everything that HEAVIEST asks for, by kind, and of all."""
    asked, kinds = {}, Counter()
    with serve(site) as server, sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.on("request", lambda request: asked.update({request.url: request.resource_type}))
        page.goto(f"{server.url}{HEAVIEST}.html")
        page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
        page.wait_for_load_state("networkidle")
        browser.close()
    for url, kind in asked.items():
        if url.startswith(server.url):
            kinds[kind] += weight(site / unquote(urlsplit(url).path[1:]))
    return {"all files": kinds.total(), **kinds}


def side_by_side(sizes: dict[str, dict[str, int]]) -> dict[str, dict]:
    """Bytes by name: old, new and their ratio."""
    old, new = sizes["old"], sizes["new"]
    table = {name: (old.get(name, 0), new.get(name, 0)) for name in {**old, **new}}
    return {
        name: {"old": a, "new": b, **({"ratio": round(b / a, 3)} if a else {})}
        for name, (a, b) in table.items()
    }


def summary(times: dict[str, list[float]]) -> dict:
    """Medians, their ratio, and the range of the ratio of the turns."""
    medians = {site: round(statistics.median(values), 3) for site, values in times.items()}
    ratios = [new / old for old, new in zip(times["old"], times["new"], strict=True)]
    return {
        **medians,
        "ratio": round(medians["new"] / medians["old"], 3),
        "from": round(min(ratios), 3),
        "to": round(max(ratios), 3),
    }


def main() -> None:
    sites = {"old": Path(sys.argv[1]), "new": Path(sys.argv[2])}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        servers = {
            site: stack.enter_context(serve(noting(path, folder / site)))
            for site, path in sites.items()
        }
        found = measure(servers, folder)
    result = {
        "page of formulas": PAGE,
        "heaviest page": HEAVIEST,
        "turns": ROUNDS,
        "seconds": {name: summary(times) for name, times in found.items()},
        "HTML, bytes": side_by_side({site: html(path) for site, path in sites.items()}),
        f"{HEAVIEST} loads, bytes": side_by_side({s: loads(path) for s, path in sites.items()}),
    }
    write_result("site_load", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
