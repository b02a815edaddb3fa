"""The pages of the site, from the table of contents, and how the site is built."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from execute import dependencies, sources
from playwright.sync_api import Error
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html"
DOCNAMES = list(parse_toc_yaml(ROOT / "_toc.yml"))
PAGES = [*DOCNAMES, "search"]
HTML_TYPE = "text/html; charset=utf-8"
# How many figures have been painted for the first time or replaced by a message.
STARTED = """() => document.querySelectorAll(
    'figure.em2vae:not([data-state="loading"]), :not(figure) > .em2vae-message').length
"""
# What an open page lacks: its title, one visible headline, formulas that are set in their font.
FAULTS = """() => {
    const headlines = [...document.querySelectorAll("h1")].filter((e) => e.checkVisibility());
    const unset = [...document.querySelectorAll(".math")]
        .filter((e) => !e.querySelector("math > *") || e.querySelector("merror"));
    const flat = [...document.querySelectorAll("math")]
        .filter((e) => e.checkVisibility() && !(e.getBoundingClientRect().height > 1));
    const font = [...document.fonts].find((e) => e.family.includes("Formulas"));
    const unused = document.querySelector("math") && font?.status !== "loaded";
    return [
        ...(document.title ? [] : ["no title"]),
        ...(headlines.length === 1 ? [] : [`${headlines.length} headlines`]),
        ...unset.map((e) => `not set: ${e.textContent}`),
        ...flat.map((e) => `not drawn: ${e.textContent}`),
        ...(unused ? [`the font of the formulas is ${font?.status}`] : []),
    ];
}"""


def out_of_date(built: Path) -> bool:
    """Whether the built file is missing or older than a source."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml", *sources(ROOT / "book")]
    files += dependencies(ROOT)
    return not built.exists() or max(p.stat().st_mtime for p in files) > built.stat().st_mtime


def build(root: Path, **options) -> None:
    """What `make book` does, with the tools of the running Python."""
    tool = shutil.which("jupyter-book", path=str(Path(sys.executable).parent)) or "jupyter-book"
    command = [tool, "build", ".", "-W", "-n", "--keep-going"]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, **options)
    if run.returncode:
        # The next run must build again, all of it.
        (root / "_build/html/index.html").unlink(missing_ok=True)
        shutil.rmtree(root / "_build/.doctrees", ignore_errors=True)
        raise RuntimeError(f"{' '.join(run.args)} failed:\n{run.stdout}\n{run.stderr}")


def faults(page) -> list[str]:
    """What an open page of Playwright lacks, one line each."""
    return page.evaluate(FAULTS)


def views(site: Path, name: str) -> int:
    """How many figures a page's source holds. On the open page the host replaces their views
    before it has loaded their modules, and until then nothing tells that there will be figures."""
    page = site / re.split("[?#]", name)[0]
    page = page if page.suffix == ".html" else page.with_name(f"{page.name}.html")
    return page.read_text(encoding="utf-8").count('type="application/vnd.jupyter.widget-view+json"')


def figures_alone(html: str) -> str:
    """A light page with the figures and the style, and of all scripts those that they need."""
    head, _, body = html.partition("</head>")
    scripts = r"<script(?![^>]*em2vae)[^>]*>.*?</script>"
    head = re.sub(rf'{scripts}|<link rel="preload"[^>]*>', "", head, flags=re.DOTALL)
    figures = r'<script[^>]+(?:widget-view\+json|em2vae\.figures)"[^>]*>.*?</script>'
    views = re.findall(figures, body, re.DOTALL)
    return f"""{head}<script>document.documentElement.dataset.theme = "light"</script></head><body>
        <main class="bd-main"><div class="bd-content"><div class="bd-article-container">
        <article class="bd-article"><h1>Figures</h1>
        {"".join(f"<div>{view}</div>" for view in views)}
        </article></div></div></main></body></html>"""


def wait_until_settled(page, figures: int, problems: list[str]) -> None:
    """Wait for the first paint of that many figures and for the fonts."""
    try:
        page.wait_for_function(f"({STARTED})() >= {figures}")
    except Error:
        problems.append(f"{page.url}: not all of {figures} figures have started after 10 s")
    page.evaluate("document.fonts.ready.then(() => null)")
