"""The local Sphinx extension, on a book of two small pages and on its functions alone."""

import base64
import io
import os
import re
import shutil
import zipfile
from types import SimpleNamespace

import em2vae_book
import formulas
import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils import nodes
from execute import cache_folder
from fontTools.ttLib import TTFont
from pages import ROOT, build
from widgets import figures_in

FROM_ENVIRONMENT = ("BOOK_REPOSITORY_URL", "GITHUB_SERVER_URL", "GITHUB_REPOSITORY")
TOC = """
format: jb-book
root: book/index
parts:
  - caption: One
    numbered: 2
    chapters: [{file: book/07-small}, {file: book/get-the-book}]
"""
INDEX = """# A small book
{numref}`fig-line`, {eq}`same`, {doc}`get-the-book`

<div data-em2vae-figure="NAME" data-em2vae-page="book/07-small"></div>
"""
CELLS = [
    "# Small\n\n```{math}\n:label: same\nx = x\n```\n\n## Of $y$\n\nText.",
    'from tqdm import tqdm\n'
    'with open("ROOT/runs", "a") as runs:\n    runs.write("x")\nlist(tqdm(range(3)));',
    "import anywidget, traitlets\n"
    "class Shown(anywidget.AnyWidget):\n"
    '    _esm = "export default { render() {} }"\n'
    '    _figure = traitlets.Unicode("small-figure").tag(sync=True)\n'
    "second, first = sorted([Shown(), Shown()], key=lambda model: model.model_id)\n"
    "hidden = Shown()\ndisplay(first, second)  # eq. same",
]  # fmt: skip
VIEW = re.compile(r'"model_id": "\w+"')
PLOT = {"image": {"alt": "A line."}, "figure": {"caption": "A line.", "name": "fig-line"}}


@pytest.fixture(scope="module")
def small_book(tmp_path_factory):
    root = tmp_path_factory.mktemp("small-book")
    for name in ("_config.yml", "requirements.txt", "book/get-the-book.md"):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    for name in ("book/_ext", "book/_static", "src/em2vae/interactive"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    notebook = nbformat.v4.new_notebook()
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    notebook.cells = [nbformat.v4.new_markdown_cell(CELLS[0])]
    cells = [cell.replace("ROOT", root.as_posix()) for cell in CELLS[1:]]
    notebook.cells += [nbformat.v4.new_code_cell(cell) for cell in cells]
    plot = "import matplotlib.pyplot as plt\nplt.plot([1, 2]);"
    notebook.cells += [nbformat.v4.new_code_cell(plot, metadata={"mystnb": PLOT})]
    nbformat.write(notebook, root / "book/07-small.ipynb")
    (root / "_toc.yml").write_text(TOC)
    (root / "book/index.md").write_text(INDEX.replace("NAME", "small-figure"))
    (root / "book/references.bib").touch()
    return root


def build_small(root, **variables) -> str:
    """Build it with these environment variables alone; return the chapter's HTML."""
    kept = {name: value for name, value in os.environ.items() if name not in FROM_ENVIRONMENT}
    build(root, env=kept | variables)
    return (root / "_build/html/book/07-small.html").read_text(encoding="utf-8")


def test_small_book(small_book):
    """One story, because each build starts from what the last one left."""
    chapter = build_small(small_book)
    index = (small_book / "_build/html/book/index.html").read_text(encoding="utf-8")
    assert runs(small_book) == 1
    assert "mybinder.org" not in chapter and "colab" not in chapter and "github.com" not in chapter
    # It says how to get it without an address that it does not know, and carries what it names.
    assert 'href="get-the-book.html"' in chapter.partition("<article")[0], "beside the downloads"
    how = text_of(small_book, "get-the-book")
    assert "pip install jupyterlab ./em2vae-source.zip" in how and "does not know" in how
    assert "git clone" not in how and "git+" not in how and "REPOSITORY" not in how
    packed = zipfile.ZipFile(small_book / "_build/html/em2vae-source.zip").namelist()
    assert "em2vae-source/book/07-small.ipynb" in packed
    assert "em2vae-source/src/em2vae/interactive/host.js" in packed
    assert {name.split("/")[1] for name in packed} == {"_config.yml", "requirements.txt",
                                                       "_toc.yml", "book", "src"}  # fmt: skip
    # Numbers come from the file name, and other pages see them.
    assert '<span class="eqno">(7.1)' in chapter
    # A formula is MathML everywhere: in its block, in a headline and in the page's contents.
    assert '<div class="formula"><math display="block"><mi>x</mi><mo>=</mo>' in chapter
    page = BeautifulSoup(chapter, "html.parser")
    for place in ("h2", "nav.page-toc"):
        assert page.select_one(f"{place} math").text == "y"
    assert "\\(" not in chapter
    assert "Fig. 7.1" in index and "(7.1)" in index and ">7. Small" in index
    assert '<a href="#equation-same" title="same">(7.1)</a>' in chapter, "eq. same in the code"
    # The chapter's first figure is on both pages, its host once on each; the others stay behind.
    assert chapter.count("em2vae-host.js") == index.count("em2vae-host.js") == 1
    assert [state["_figure"] for state in figures_in(index, [])] == ["small-figure"]
    assert len(figures_in(chapter, [])) == 2
    assert VIEW.search(index)[0] == VIEW.search(chapter)[0]
    assert "data-em2vae-figure" not in index

    # What has not changed is not written again; what pages show of each other is.
    pages = small_book / "_build/html/book"
    written = (pages / "get-the-book.html").stat().st_mtime_ns
    build_small(small_book)
    assert (pages / "get-the-book.html").stat().st_mtime_ns == written
    how = small_book / "book/get-the-book.md"
    how.write_text(how.read_text().replace("# Get the book", "# Take the book\n\nAll of it."))
    build_small(small_book)
    assert "Take the book" in (pages / "index.html").read_text(encoding="utf-8")
    # Nor does a page or a picture stay of which the book knows no more.
    (small_book / "_build/html/_images/old.png").touch()
    for left in (pages / "old.html", pages.parent / "_sources/book/old.md"):
        left.touch()
    (small_book / "book/_static/book.css").write_text("/* changed */")
    build_small(small_book)
    assert not list(pages.parent.rglob("old.*"))
    assert (pages.parent / "_static/book.css").read_text() == "/* changed */"

    chapter = build_small(small_book, BOOK_REPOSITORY_URL="https://github.com/reader/copy.git")
    assert runs(small_book) == 1, "a later build must not run the chapter again"
    assert "mybinder.org/v2/gh/reader/copy/main?urlpath=lab/tree/book/07-small.ipynb" in chapter
    assert "/github/reader/copy/blob/main/book/07-small.ipynb" in chapter
    assert 'href="https://github.com/reader/copy"' in chapter
    how = text_of(small_book, "get-the-book")
    assert "pip install jupyterlab git+https://github.com/reader/copy\n" in how
    assert "git clone https://github.com/reader/copy em2vae-book" in how
    assert "does not know" not in how and "REPOSITORY" not in how

    # A host that the theme does not know, and where Colab cannot read.
    chapter = build_small(small_book, BOOK_REPOSITORY_URL="https://codeberg.org/reader/copy")
    assert 'href="https://codeberg.org/reader/copy"' in chapter and "colab" not in chapter
    assert "mybinder.org/v2/git/https%3A//codeberg.org/reader/copy/main" in chapter

    (small_book / "src/em2vae/interactive/host.js").write_text("// changed")
    wrong = INDEX.replace("NAME", "no-such-figure") + "\n```\n# eq. no-such-equation\n```\n"
    wrong += "\n$\\nosuch 1$\n"
    (small_book / "book/index.md").write_text(wrong)
    with pytest.raises(RuntimeError, match="no figure 'no-such-figure' in the page") as failure:
        build_small(small_book)
    assert "no equation 'no-such-equation'" in str(failure.value)
    unknown = r"book/index.md:\d+: WARNING: formula '.*nosuch 1': .*Unknown command"
    assert re.search(unknown, str(failure.value))
    assert runs(small_book) == 2, "a change in src/ must run the chapter again"
    assert len(list((small_book / "_build/.jupyter_cache").iterdir())) == 1
    assert not (small_book / "_build/html/index.html").exists()


def text_of(root, name) -> str:
    html = (root / f"_build/html/book/{name}.html").read_text(encoding="utf-8")
    return BeautifulSoup(html, "html.parser").find("article").get_text()


def runs(root) -> int:
    return len((root / "runs").read_text())


def test_cache_folder_follows_sources_pins_and_results(tmp_path):
    (tmp_path / "src/em2vae").mkdir(parents=True)
    (tmp_path / "src/em2vae/vae.py").write_text("a = 1")
    (tmp_path / "requirements.txt").write_text("torch==1")
    keys = [cache_folder(tmp_path)]
    (tmp_path / "src/em2vae/vae.py").write_text("a = 2")
    keys.append(cache_folder(tmp_path))
    (tmp_path / "src/em2vae/vae.py").rename(tmp_path / "src/em2vae/other.py")
    keys.append(cache_folder(tmp_path))
    (tmp_path / "requirements.txt").write_text("torch==2")
    keys.append(cache_folder(tmp_path))
    (tmp_path / "benchmarks/results").mkdir(parents=True)
    for name in ("claims", "libraries", "quality"):
        (tmp_path / f"benchmarks/results/{name}.json").write_text("{}")
        keys.append(cache_folder(tmp_path))
    assert len(set(keys)) == 7
    for made in ("__pycache__/vae.pyc", "em2vae.egg-info/PKG-INFO", ".DS_Store"):
        (tmp_path / "src" / made).parent.mkdir(exist_ok=True)
        (tmp_path / "src" / made).write_text("made by a tool")
    assert cache_folder(tmp_path) == keys[-1]


def repository_options(monkeypatch, **variables) -> dict:
    for name in FROM_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    config = SimpleNamespace(html_theme_options={})
    em2vae_book.add_repository(None, config)
    return config.html_theme_options


def test_repository_is_what_the_environment_says(monkeypatch):
    assert repository_options(monkeypatch) == {}
    assert repository_options(monkeypatch, GITHUB_SERVER_URL="https://github.com") == {}
    runner = {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b"}
    assert repository_options(monkeypatch, **runner)["repository_url"] == "https://github.com/a/b"
    assert "colab_url" in repository_options(monkeypatch, **runner)["launch_buttons"]
    named = runner | {"BOOK_REPOSITORY_URL": "https://gitlab.com/c/d/"}
    assert repository_options(monkeypatch, **named)["repository_url"] == "https://gitlab.com/c/d"


def test_no_page_loads_mathjax(site):
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    assert [page for page in pages if re.search(r"<script[^>]*mathjax", page, re.IGNORECASE)] == []


def formula(tex: str, display: bool = True) -> BeautifulSoup:
    return BeautifulSoup(formulas.mathml(nodes.math(text=tex), display), "html.parser")


def test_formulas_have_the_operands_of_tex():
    """In the right half of an aligned line a plus adds, and a relation keeps its spaces."""
    for tex in (r"a&=b\\&+c", r"a={}&b\\+{}&c"):
        cells = formula(rf"\begin{{aligned}}{tex}\end{{aligned}}").find_all("mtd")
        for cell in cells:
            names = [(e.name, e.text) for e in cell.mrow.find_all(recursive=False)]
            operator = next((i for i, (name, _) in enumerate(names) if name == "mo"), None)
            if operator is not None:
                assert ("mi", "") in names[operator - 1 : operator + 2], names


def test_lines_without_an_environment_and_numbered_ones():
    assert len(formula(r"a \\ b").find_all("mtr")) == 2
    assert formula(r"\begin{align}a&=b\end{align}").text == "a=b"


def test_a_formula_with_an_error_is_named(caplog):
    with caplog.at_level("WARNING"):
        assert formula(r"\nosuch < 1").find("code").text == r"\nosuch < 1"
    assert [r.getMessage() for r in caplog.records if r"\nosuch < 1" in r.getMessage()]


def test_the_font_has_what_the_formulas_need(site):
    pages = [page.read_text(encoding="utf-8") for page in site.rglob("*.html")]
    style = (site / "_static" / formulas.STYLE).read_text()
    data = re.search(r"base64,([^)]*)\)", style)[1]
    assert len(data) < 60_000
    font = TTFont(io.BytesIO(base64.b64decode(data)))
    needed = formulas.characters(pages)
    assert {ord("p"), 0x1D45D, 0x1D703, ord("∑")} <= needed  # p, its italic, theta's, a sum
    missing = needed - set(font.getBestCmap())
    assert {chr(code) for code in missing} <= set("\ufe00")  # says which of two shapes
    sizes = font["MATH"].table.MathVariants.VertGlyphCoverage.glyphs
    assert {font.getBestCmap()[ord(c)] for c in "([{|∑∫"} <= set(sizes)
    assert "Copyright" in str(font["name"].getName(0, 3, 1))
