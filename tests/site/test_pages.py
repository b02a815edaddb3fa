"""Every built page: in the table of contents, linked, and readable without its pictures."""

import functools
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from pages import DOCNAMES, PAGES, faults

IMAGE_SUFFIX = re.compile(r"\.(svg|png|jpe?g|gif|webp)\b", re.IGNORECASE)

# How many children MathML asks for.
PARTS = {"mfrac": 2, "mroot": 2, "msub": 2, "msup": 2, "munder": 2, "mover": 2,
         "msubsup": 3, "munderover": 3}  # fmt: skip


@functools.cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@functools.cache
def ids(path: Path) -> set[str]:
    return {tag["id"] for tag in soup(path).find_all(id=True)}


def article(site: Path, name: str):
    return soup(site / f"{name}.html").find("article")


def test_every_page_is_in_the_table_of_contents(site):
    built = {path.relative_to(site).with_suffix("").as_posix() for path in site.rglob("*.html")}
    assert built - {"index"} - {p for p in built if p.startswith("_static/")} == set(PAGES)


def test_the_first_page_lists_each_chapter_once(site):
    tables = article(site, "book/index").select("table a")
    chapters = [name for name in PAGES if re.match(r"book/\d\d-", name)]
    listed = [f"book/{tag['href'].removesuffix('.html')}" for tag in tables]
    assert [name for name in listed if name in chapters] == chapters


@pytest.mark.parametrize("name", PAGES)
def test_page_loads_clean_from_a_server(open_page, name):
    """From a folder: test_looks.py."""
    assert faults(open_page(name)) == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_top_of_the_folder_opens_the_book(open_page, scheme):
    page = open_page("index.html", scheme)
    page.wait_for_url(f"**/{DOCNAMES[0]}.html")
    page.wait_for_load_state("networkidle")  # nothing is cut off by the end of the test


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(site, name):
    source = site / f"{name}.html"
    broken = []
    for tag in soup(source).find_all(["a", "img", "link", "script"]):
        address = tag.get("href") or tag.get("src") or ""
        url = urlsplit(address)
        if not address or url.scheme or url.netloc:
            continue
        target = (source.parent / unquote(url.path)).resolve() if url.path else source
        is_page = target.suffix == ".html" and url.fragment
        is_page = is_page and not url.fragment.startswith("lab:")  # settings: test_vae_lab.py
        if not target.is_file() or (is_page and unquote(url.fragment) not in ids(target)):
            broken.append(address)
    assert broken == []


@pytest.mark.parametrize("name", DOCNAMES)
def test_images_have_real_alternative_text(site, name):
    texts = [image.get("alt", "").strip() for image in article(site, name).find_all("img")]
    assert [text for text in texts if len(text) < 10 or IMAGE_SUFFIX.search(text)] == []


@pytest.mark.parametrize("name", DOCNAMES)
def test_no_footnote_is_left_unresolved(site, name):
    texts = article(site, name).find_all(string=lambda text: "[^" in text)
    assert [t for t in texts if not t.find_parent(is_code_or_formula)] == []


def is_code_or_formula(tag) -> bool:
    return tag.name in ("pre", "code") or "math" in tag.get("class", ())


@pytest.mark.parametrize("name", DOCNAMES)
def test_no_role_is_left_in_a_formula(site, name):
    formulas = [formula.get_text() for formula in article(site, name).select(".math")]
    assert [formula for formula in formulas if "`" in formula] == []


@pytest.mark.parametrize("name", DOCNAMES)
def test_formulas_have_all_their_parts(site, name):
    """Firefox says this, too, but also of a formula of which it has parsed only half."""
    parts = article(site, name).select(",".join(PARTS))
    wrong = [p for p in parts if len(p.find_all(True, recursive=False)) != PARTS[p.name]]
    assert list(map(str, wrong)) == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_search_finds_a_page(open_page, scheme):
    page = open_page("search.html?q=posterior", scheme)
    result = page.locator("#search-results li a").first
    result.wait_for()
    page.get_by_text("Search finished").first.wait_for()
    page.wait_for_load_state("networkidle")  # the excerpts under the results are loaded, too
    result.click()
    page.wait_for_url("**/book/*.html*")
    page.wait_for_load_state()
