"""How fast a page opens and how heavy the pages are, beside an older build of the site.

    python benchmarks/site_load.py OLD NEW

Two folders with built sites. Each page load is fresh, and the sites take turns.
"""

import contextlib
import gzip
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from results import write_result

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests/site"), str(ROOT / "book/_ext")]
from browsers import find_browser  # noqa: E402
from engines import Firefox, WebKit  # noqa: E402
from pages import DOCNAMES  # noqa: E402
from server import serve  # noqa: E402

PAGE = "book/06-elbo"  # the one with the most formulas
ROUNDS = 3
SLOWER = {"formulas": 6, "longest task": 4}  # times, by Chromium's own throttling of the CPU
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
</script>"""
PAINTED = "() => formulasPainted"
RESTED = """async () => {
  await formulasPainted;
  await new Promise((done) => setTimeout(done, 1000));
  return longest;
}"""


def noting(site: Path, folder: Path) -> Path:
    """A copy of a site whose PAGE notes its times."""
    copy = shutil.copytree(site, folder)
    page = copy / f"{PAGE}.html"
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<head>", f"<head>{NOTE}", 1), encoding="utf-8")
    return copy


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
    chromium = {
        f"formulas painted, Chromium, {SLOWER['formulas']} times slower": "formulas",
        f"longest task, Chromium, {SLOWER['longest task']} times slower": "longest task",
    }
    found |= {name: {site: [] for site in servers} for name in chromium}
    for turn in range(ROUNDS):
        for site, server in servers.items():
            for name, kind in ways.items():
                profile = folder / f"{kind.__name__}-{site}-{turn}"
                profile.mkdir()
                found[name][site].append(in_engine(kind, paths[kind], server, profile))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=find_browser("chromium", playwright.chromium.executable_path),
                    args=["--disable-gpu", "--disable-background-networking"],
                )
                for name, key in chromium.items():
                    script = PAINTED if key == "formulas" else RESTED
                    url = f"{server.url}{PAGE}.html"
                    found[name][site].append(in_chromium(browser, url, SLOWER[key], script))
                browser.close()
    return found


def weights(site: Path) -> dict[str, float]:
    """Megabytes of HTML, gzipped, of each chapter."""
    chapters = [name for name in DOCNAMES if name.removeprefix("book/")[:2].isdigit()]
    files = ((site / f"{name}.html").read_bytes() for name in chapters)
    return {
        name: round(len(gzip.compress(file, 9)) / 1e6, 4)
        for name, file in zip(chapters, files, strict=True)
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
    html = {site: weights(path) for site, path in sites.items()}
    result = {
        "page": PAGE,
        "turns": ROUNDS,
        "seconds": {name: summary(times) for name, times in found.items()},
        "HTML gzipped, megabytes": {
            "all chapters": {site: round(sum(sizes.values()), 3) for site, sizes in html.items()},
            **{name: {site: html[site][name] for site in html} for name in html["new"]},
        },
    }
    write_result("site_load", result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
