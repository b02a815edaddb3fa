"""What the book needs from Sphinx beyond _config.yml: see the docstring of each function."""

import gc
import json
import os
import re
import shutil
import zipfile
from html import escape
from pathlib import Path

from assets import copy_host, lighten_pages, shrink_files
from docutils import nodes
from execute import cache_folder, execute, hash_files, sources
from myst_nb.core.render import WIDGET_STATE_MIMETYPE, WIDGET_VIEW_MIMETYPE, sanitize_script_content
from myst_nb.sphinx_ import NbMetadataCollector
from pybtex.plugin import find_plugin, register_plugin
from sphinx.util import logging

logger = logging.getLogger(__name__)

HOST = "em2vae-host.js"
BRANCH = "main"
GET_THE_BOOK = "book/get-the-book"
# What the site carries of itself, for readers whose copy does not know its repository.
SOURCE = "em2vae-source.zip"
SOURCE_PARTS = (
    "README.md",
    "Makefile",
    "conftest.py",
    "pyproject.toml",
    "requirements.txt",
    "_config.yml",
    "_toc.yml",
    "book",
    "src",
    "tests",
    "benchmarks",
    "findings",
)
CODE_BLOCK = re.compile(r'<div class="highlight">.*?</div>', re.DOTALL)
EQUATION_NAME = re.compile(r"\b([Ee]q\.) ([a-z][a-z0-9-]*[a-z0-9])")
REUSED_FIGURE = re.compile(r"<div\b[^>]*\bdata-em2vae-figure=[^>]*>\s*</div>")


def choose_execution_cache(app, config) -> None:
    """Say where the execution cache is, and drop older ones."""
    cache = cache_folder(Path(app.srcdir))
    for other in cache.parent.glob("*"):
        if other != cache:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    config.nb_execution_cache_path = str(cache)


def execute_chapters(app, env, docnames) -> None:
    """Fill the cache of the chapters that are read next; MyST-NB runs one that fails again."""
    paths = [Path(env.doc2path(name)) for name in docnames]
    chapters = [path for path in paths if path.suffix == ".ipynb"]
    for error in execute(chapters, cache_folder(Path(app.srcdir))):
        logger.warning(error)


def repository_url() -> str:
    """The address of the book's repository, if the build's environment names it, else ""."""
    url = os.environ.get("BOOK_REPOSITORY_URL", "").strip().rstrip("/").removesuffix(".git")
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    return url or (f"{server}/{name}" if server and name else "")


def site_hash(app, config) -> None:
    """Have all pages made again when something else changes that they are made of."""
    book = Path(app.srcdir) / "book"
    files = [*sources(book / "_ext"), *sources(book / "_static"), *book.glob("*.bib")]
    config.em2vae_site = f"{repository_url()} {hash_files(book, files)}"


def add_repository(app, config) -> None:
    """Repository and launch buttons, if the build knows its own repository."""
    url = repository_url()
    if not url:
        return
    buttons = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}
    if url.startswith("https://github.com/"):  # Colab reads notebooks from nowhere else
        buttons["colab_url"] = "https://colab.research.google.com"
    config.html_theme_options |= {
        "repository_url": url,
        # The theme stops at a host that it does not know. Most of the others are like GitLab.
        "repository_provider": "github" if "://github." in url else "gitlab",
        "repository_branch": BRANCH,
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": buttons,
    }


def name_repository(app, docname, source) -> None:
    """Write the repository's address for REPOSITORY_URL, and drop the blocks that do not apply.

    A block stands between lines `% if repository` (or `% if no repository`) and `% end`.
    """
    url = repository_url()
    dropped = "no repository" if url else "repository"
    block = rf"^% if {dropped}\n.*?^% end\n"
    text = re.sub(block, "", source[0], flags=re.MULTILINE | re.DOTALL)
    source[0] = text.replace("REPOSITORY_URL", url)


def number_by_file_name(app, env) -> list[str]:
    """Give book/11-vae the number 11, so that the text, the files and the site agree."""
    for docname, numbers in env.toc_secnumbers.items():
        name = re.match(r"\d+(?=-)", docname.rpartition("/")[2])
        if not name:
            continue
        chapter = int(name[0])
        for table in (numbers, *env.toc_fignumbers.get(docname, {}).values()):
            table.update({key: (chapter, *old[1:]) for key, old in table.items() if old})
        titles = [env.titles[docname], *env.tocs[docname].findall(nodes.reference)]
        for title in titles:
            if title.get("secnumber"):
                title["secnumber"] = (chapter, *title["secnumber"][1:])
    return []


def rewrite_all(app, env) -> set[str]:
    """Have all pages written again when something changes that pages show of each other.

    Sphinx writes what it has read, and would leave old titles, numbers and names elsewhere.
    """
    exercises = getattr(env, "sphinx_exercise_registry", {}).items()
    shown = [
        *(found for domain in env.domains.values() for found in domain.get_objects()),
        *((name, title.astext()) for name, title in env.titles.items()),
        *((label, exercise["node"]["title"]) for label, exercise in exercises),
        *env.toctree_includes.items(),
        *env.toc_secnumbers.items(),
        *env.toc_fignumbers.items(),
        *{target.key for ref in env.get_domain("cite").citation_refs for target in ref.targets},
    ]
    shown = sorted(map(repr, shown))
    if getattr(env, "em2vae_shown", None) == shown:
        return set()
    env.em2vae_shown = shown
    return env.found_docs


def drop_leftovers(app) -> None:
    """Remove pages and pictures of earlier builds."""
    out, env = Path(app.outdir), app.env
    pages = {env.doc2path(name, base=False) for name in env.found_docs}
    pictures = {name for _, name in env.images.values()}
    for path in (out / "book").rglob("*.html"):
        if path.relative_to(out).with_suffix("").as_posix() not in env.found_docs:
            path.unlink()
    for path in (out / "_sources").rglob("*.*"):
        if path.is_file() and path.relative_to(out / "_sources").as_posix() not in pages:
            path.unlink()
    for path in (out / "_images").glob("*"):
        if path.name not in pictures:
            path.unlink()


def note_reused_figures(app, doctree) -> None:
    """Have a page that reuses a figure read again when the figure's chapter changes."""
    for node in doctree.findall(nodes.raw):
        for tag in REUSED_FIGURE.findall(node.astext()):
            page = figure_attributes(tag)["page"]
            if page in app.env.found_docs:
                app.env.note_dependency(app.env.doc2path(page, base=False))


def figure_attributes(tag: str) -> dict[str, str]:
    """The figure's and the page's name in a tag that reuses a figure."""
    return {"figure": "", "page": "", **dict(re.findall(r'data-em2vae-(\w+)="([^"]*)"', tag))}


def reuse_figures(app, pagename, templatename, context, doctree) -> None:
    """Replace <div data-em2vae-figure="NAME" data-em2vae-page="DOCNAME"></div> by the figure.

    The figure is the first one of that name in the other page; its state is copied, and that
    page's notebook runs only once.
    """

    def embed(match: re.Match) -> str:
        name, page = figure_attributes(match[0]).values()
        found = find_figure(app.env, page, name)
        if not found:
            logger.warning("no figure %r in the page %r", name, page, location=pagename)
            return f"<p>The figure {escape(name)} is missing.</p>"
        model_id, state = found
        return script(WIDGET_VIEW_MIMETYPE, {"model_id": model_id}) + script(
            WIDGET_STATE_MIMETYPE, {"state": {model_id: state}}
        )

    body, count = REUSED_FIGURE.subn(embed, context.get("body") or "")
    if count:
        context["body"] = body
        app.add_js_file(HOST)


def find_figure(env, docname: str, name: str) -> tuple[str, dict] | None:
    """The id and the model of the page's first figure of that name."""
    if docname not in env.found_docs:
        return None
    _, attributes = NbMetadataCollector.get_js_files(env, docname).get(
        "ipywidgets_state", (None, {"body": '{"state": {}}'})
    )
    models = json.loads(attributes["body"])["state"]  # sorted by their ids, which are random
    views = (node.astext() for node in env.get_doctree(docname).findall(nodes.raw))
    for model_id in re.findall(r'"model_id": "(\w+)"', "".join(views)):
        if model_id in models and models[model_id]["state"].get("_figure") == name:
            return model_id, models[model_id]
    return None


def script(kind: str, content: dict) -> str:
    """A script element that holds data."""
    return f'<script type="{kind}">{sanitize_script_content(json.dumps(content))}</script>\n'


def link_equations(app, pagename, templatename, context, doctree) -> None:
    """Code and printed text name an equation by its label, `eq. m-step`: link its number."""
    equations = app.env.get_domain("math").equations

    def link(match: re.Match) -> str:
        eq, label = match.groups()
        if label not in equations:
            logger.warning("no equation %r", label, location=pagename)
            return match[0]
        page, _ = equations[label]
        anchor = nodes.make_id(f"equation-{label}")
        number = ".".join(map(str, app.env.toc_fignumbers[page]["displaymath"][anchor]))
        uri = app.builder.get_relative_uri(pagename, page)
        return f'{eq} <a href="{uri}#{anchor}" title="{label}">({number})</a>'

    body = context.get("body") or ""
    context["body"] = CODE_BLOCK.sub(lambda block: EQUATION_NAME.sub(link, block[0]), body)


def add_to_head(app, pagename, templatename, context, doctree) -> None:
    """Run first.js before the theme's own first line, and say at the downloads how to run them."""
    first = (Path(__file__).parent / "first.js").read_text(encoding="utf-8")
    context["metatags"] = f"{context.get('metatags', '')}\n<script>\n{first}</script>\n"
    for button in context.get("header_buttons", []):
        if button.get("label") == "download-buttons" and GET_THE_BOOK in app.env.found_docs:
            link = {
                "type": "link",
                "url": context["pathto"](GET_THE_BOOK),
                "text": "How to run it",
                "tooltip": "What a notebook needs",
                "icon": "fas fa-circle-question",
                "label": "how-to-run-button",
            }
            button["buttons"].append(link)


def pack_book(root: Path, target: Path) -> None:
    """The book's sources in one archive, which pip installs as it is."""
    parts = [root / part for part in SOURCE_PARTS]
    files = [f for part in parts for f in (sources(part) if part.is_dir() else [part])]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in files:
            if file.is_file():
                archive.write(file, f"{target.stem}/{file.relative_to(root).as_posix()}")


def copy_files(app, exception) -> None:
    """The book itself and the host of its figures."""
    if exception or app.builder.format != "html":
        return
    copy_host(Path(app.outdir) / "_static" / HOST)
    pack_book(Path(app.srcdir), Path(app.outdir) / SOURCE)
    drop_leftovers(app)


def write_redirect(app, exception) -> None:
    """The top of the folder: without the link to its icon, browsers would ask for a favicon.ico."""
    if exception or app.builder.format != "html":
        return
    root = f"{app.config.master_doc}.html"
    (Path(app.outdir) / "index.html").write_text(
        f"""<!doctype html>
<html lang="en">
<title>{escape(app.config.html_title)}</title>
<link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0; url={root}">
<a href="{root}">{escape(app.config.html_title)}</a>
""",
        encoding="utf-8",
    )


def setup(app) -> dict:
    # Pages are large trees, which Python's collector would walk again for each 700 new objects.
    gc.set_threshold(100_000)
    # The chapters' progress bars would otherwise end up in their pages.
    os.environ["TQDM_DISABLE"] = "1"
    # Found once: sphinxcontrib.bibtex searches all installed packages for them at every citation.
    for name in ("docutils", "plaintext"):
        backend = find_plugin("pybtex.backends", name)
        register_plugin("pybtex.backends", name, backend, force=True)
    app.connect("config-inited", choose_execution_cache)
    app.add_config_value("em2vae_site", "", "env")
    app.connect("config-inited", site_hash)
    app.connect("config-inited", add_repository)
    app.connect("builder-inited", lighten_pages)
    app.connect("env-before-read-docs", execute_chapters)
    app.connect("source-read", name_repository)
    app.connect("doctree-read", note_reused_figures)
    # After Sphinx's own numbering.
    app.connect("env-get-updated", number_by_file_name, priority=900)
    app.connect("env-get-updated", rewrite_all, priority=950)
    app.connect("html-page-context", reuse_figures)
    app.connect("html-page-context", link_equations)
    # After the theme has made its buttons.
    app.connect("html-page-context", add_to_head, priority=600)
    app.connect("build-finished", copy_files)
    app.connect("build-finished", shrink_files)
    # Before the table of contents adds a barer one.
    app.connect("build-finished", write_redirect, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
