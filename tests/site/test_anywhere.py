"""The pages wherever a reader opens them: stored settings, refused storage, a frame without an
origin, a link to a place, paper, forced colours, and a search in the reader's own spelling."""

import re
from urllib.parse import quote

import pytest
from pages import faults

FONTS_READY = "document.fonts.ready.then(() => null)"
# What formula changes its size after the frame in which it first shows.
NOTE_SIZES = """
    const first = new Map();
    window.changed = [];
    requestAnimationFrame(function look() {
        const all = [...document.querySelectorAll("article math")];
        if (document.readyState === "loading") all.pop(); // perhaps not all of it is there
        for (const formula of all) {
            const { width, height } = formula.getBoundingClientRect();
            const size = `${width} ${height}`;
            if (height && !first.has(formula)) first.set(formula, size);
            else if (height && first.get(formula) !== size) changed.push(formula.textContent);
        }
        window.formulas = first.size;
        requestAnimationFrame(look);
    });
"""
REFUSE_STORAGE = """
    for (const name of ["localStorage", "sessionStorage"])
        Object.defineProperty(window, name, {
            configurable: true,
            get() { throw new DOMException("refused", "SecurityError"); },
        });
"""
# As Firefox does: what grows above a place moves it.
NO_ANCHORING = """
    const anchoring = document.createElement("style");
    anchoring.textContent = "* { overflow-anchor: none !important }";
    new MutationObserver((_, observer) => {
        if (!document.head) return;
        document.head.append(anchoring);
        observer.disconnect();
    }).observe(document, { childList: true, subtree: true });
"""
# As a figure does that comes late.
GROW_LATE = """
    addEventListener("load", async () => {
        await new Promise((done) => setTimeout(done, 100));
        document.querySelector("article").prepend("longer ".repeat(999));
        window.grown = true;
    });
"""
FORMULA_STOPS = """() => [...document.querySelectorAll(".math, .math *:not(.headerlink)")]
    .filter((e) => e.tabIndex >= 0).length"""
WIDE_FORMULAS = """() => [...document.querySelectorAll("div.formula, span.math")]
    .filter((e) => e.scrollWidth > e.clientWidth).length"""
# What the clipboard gets of the paragraph that starts so.
COPY = """(start) => {
    const paragraphs = [...document.querySelectorAll("article p")];
    const paragraph = paragraphs.find((e) => e.textContent.startsWith(start));
    getSelection().selectAllChildren(paragraph);
    const clipboardData = new DataTransfer();
    const event = new ClipboardEvent("copy", { clipboardData, bubbles: true, cancelable: true });
    paragraph.dispatchEvent(event);
    return ["text/plain", "text/html"].map((kind) => clipboardData.getData(kind));
}"""
# What a reader types, and the first of the results.
SEARCHES = {
    "logvar": "11. The variational autoencoder",
    "log-variance": "11. The variational autoencoder",
    "log σ²": "15. Bug museum",
    "σ": "Notation",
    "β": "Notation",
    "reparameterisation": "Glossary > reparameterization trick",
    "reparametrization": "Glossary > reparameterization trick",
    "Evidence lower bound": "Glossary > ELBO",
    "ELBO": "Glossary > ELBO",
    "variational auto-encoders": "Glossary > VAE",
    "Kullback–Leibler": "Glossary > KL",
    "maximisation": "Glossary > expectation maximization",
    "posterior": "Glossary > posterior",
}
SHOWN = {  # where the pages have another word
    "logvar": ["log_var"],
    "log-variance": ["log_var", "log-variance"],
    "log σ²": ["sigma", "σ"],
    "σ": ["σ", "sigma"],
    "reparameterisation": ["reparameteriz"],
    "reparametrization": ["reparameteriz"],
    "variational auto-encoders": ["vae"],
    "Kullback–Leibler": ["kl"],
    "maximisation": ["maximiz"],
}
# TeX and the page's own machinery; a path of Windows is text.
NO_TEXT = r"\\(?!Scripts|activate)|\bimport\b|Contents|Click to show|code cell"
TWO_FRAMES = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TOP = """() => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    return place.checkVisibility({ visibilityProperty: true }) && place.getBoundingClientRect().top;
}"""


@pytest.fixture
def visit(browser, request):
    """Opens a page with its fonts in a fresh context, after a script of the test's own."""
    contexts, thrown = [], []

    def visit(name, scheme="http", first="", **options):
        base = request.getfixturevalue({"http": "site_url", "file": "file_url"}[scheme])
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: thrown.append(f"{page.url}: throws {error}"))
        page.add_init_script(f"(() => {{{first}}})();")
        path, _, place = name.partition("#")
        page.goto(base + (path if ".html" in path else f"{path}.html") + (place and f"#{place}"))
        page.evaluate(FONTS_READY)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert not thrown, "\n".join(thrown)


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_formulas_need_no_script(visit, scheme):
    page = visit("book/08-reparameterization", scheme, java_script_enabled=False)
    assert page.locator(".math").count() > 300
    assert faults(page) == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_formulas_stand_from_the_start(visit, scheme):
    """Their font is there before they are: none of them moves what follows."""
    page = visit("book/06-elbo", scheme, NOTE_SIZES)
    page.wait_for_load_state()
    page.evaluate(TWO_FRAMES)
    assert page.evaluate("formulas") > 200
    assert page.evaluate("changed") == []


def test_a_screen_reader_finds_formulas(visit):
    """As such, by their characters, and without what only the eye needs."""
    page = visit("book/glossary")
    formulas = page.get_by_role("math")
    assert formulas.count() == page.locator(".math").count() > 9
    assert page.locator("math [aria-hidden], math[aria-label]").count() == 0


def test_a_copied_formula_is_a_line_of_text(visit):
    page = visit("book/11-vae")
    text, html = page.evaluate(COPY, "Take the expectation under")
    assert "By definition 𝔼_q[(z−μ)^2]=σ^2, so the middle term becomes −1/2. The mean" in text
    assert "<math" in html


def test_formulas_are_no_tab_stops(visit):
    page = visit("book/04-kl-and-variations")
    assert page.locator("math").count() > 300
    assert page.evaluate(FORMULA_STOPS) == page.evaluate(WIDE_FORMULAS)
    assert (
        page.evaluate("""() => [...document.querySelectorAll("article *")]
        .filter((e) => e.tabIndex >= 0 && e.checkVisibility()).length""")
        < 250
    )
    # One that is wider than its column can be scrolled from the keyboard.
    page.set_viewport_size({"width": 280, "height": 800})
    page.wait_for_function(f"({FORMULA_STOPS})() > 0")
    assert page.evaluate(FORMULA_STOPS) == page.evaluate(WIDE_FORMULAS)
    page.locator("div.formula[tabindex='0']:visible").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.activeElement.scrollLeft > 0")


def test_a_page_works_where_storage_is_refused(visit):
    page = visit("book/notation", first=REFUSE_STORAGE)
    assert faults(page) == []
    before = page.locator("html").get_attribute("data-theme")
    page.locator(".theme-switch-button:visible").first.click()
    assert page.locator("html").get_attribute("data-theme") != before
    page.locator(".search-button-field:visible").first.click()
    page.locator("#pst-search-dialog input").fill("posterior")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html*")
    page.get_by_text("Search finished").first.wait_for()


def test_a_page_works_in_a_sandboxed_frame(browser, site_url):
    """It has no origin, so that its store and its files of fonts are refused."""
    page = browser.new_page(viewport={"width": 1300, "height": 900})
    thrown = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    page.set_content(f"""<iframe sandbox="allow-scripts" width="1280" height="800"
        src="{site_url}book/02-jensen.html"></iframe>""")
    frame = page.locator("iframe").element_handle().content_frame()
    frame.wait_for_selector('figure.em2vae[data-state="ready"]')
    frame.evaluate(FONTS_READY)
    assert frame.evaluate("self.origin") == "null"
    assert faults(frame) == []
    before = frame.locator("html").get_attribute("data-theme")
    frame.locator(".theme-switch-button:visible").first.click()
    assert frame.locator("html").get_attribute("data-theme") != before
    frame.goto(f"{site_url}search.html?q=posterior")
    frame.get_by_text("Search finished").first.wait_for()
    page.close()
    assert thrown == []


@pytest.mark.parametrize(
    "link",
    ["10-autoencoders#ex-ae-affine", "11-vae#ex-vae-detach", "15-bug-museum#ex-bug-noise"],
)
def test_a_link_to_a_place_ends_there(visit, link):
    page = visit(f"book/{link}", first=NO_ANCHORING)
    page.wait_for_load_state()
    page.evaluate(TWO_FRAMES)  # the place follows a change of size within a frame
    assert -1 < page.evaluate(TOP) < 300
    # Also from within the page into a solution, which is folded.
    page.evaluate("document.querySelector('.toggle-hidden p:last-child').id = 'inside'")
    page.evaluate("location.hash = 'inside'")
    page.wait_for_function(f"({TOP})() !== false")
    page.evaluate(TWO_FRAMES)
    assert -1 < page.evaluate(TOP) < 300


def test_a_place_follows_what_grows_after_loading(visit):
    page = visit("book/08-reparameterization#ex-gumbel-best", first=NO_ANCHORING + GROW_LATE)
    page.wait_for_function("window.grown")
    page.evaluate(TWO_FRAMES)
    assert -1 < page.evaluate(TOP) < 300


def test_who_scrolls_meanwhile_stays(visit):
    """The page does not pull a reader back who has moved on."""
    page = visit("book/glossary")
    page.evaluate("location.hash = document.querySelector('dt[id]').id")
    page.mouse.move(600, 500)
    page.mouse.wheel(0, 1500)
    page.wait_for_function("scrollY > 1000")
    page.evaluate("document.querySelector('article').append('longer'.repeat(9999))")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate("scrollY") > 1000


@pytest.mark.parametrize("name", ["book/06-elbo", "book/12-latent-space"])
def test_pictures_keep_their_paper_where_colours_are_forced(visit, name):
    """Black ink is unreadable on the black that such a browser puts behind it."""
    light = "localStorage.mode = localStorage.theme = 'light'"
    page = visit(name, first=light, color_scheme="dark", forced_colors="active")
    styles = page.evaluate("""() => [...document.querySelectorAll("article img")].map((e) => {
        const { backgroundColor, filter } = getComputedStyle(e);
        return `${backgroundColor} ${filter}`;
    })""")
    assert styles and set(styles) == {"rgb(255, 255, 255) none"}


@pytest.fixture(scope="module")
def search(browser, site_url):
    """Shows the results for a query, all in one tab, which keeps what excerpts are taken from."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(20_000)
    page, thrown = context.new_page(), []
    page.on("pageerror", lambda error: thrown.append(f"{page.url}: throws {error}"))

    def search(query):
        page.goto(f"{site_url}search.html?q={quote(query)}")
        page.get_by_text("Search finished").first.wait_for()
        page.wait_for_load_state("networkidle")  # the excerpts are there
        return page.locator("#search-results li")

    yield search
    context.close()
    assert not thrown, "\n".join(thrown)


@pytest.mark.parametrize("query", SEARCHES)
def test_a_search_knows_other_spellings_and_shows_text(search, query):
    results = search(query)
    links = results.locator("a").all_inner_texts()
    assert links[0] == SEARCHES[query]
    assert len(links) == len(set(links))
    excerpts = results.locator(".context").all_inner_texts()
    assert len(excerpts) == len(links)
    for excerpt in excerpts:
        assert 10 < len(excerpt) < 400
        assert not re.search(NO_TEXT, excerpt), excerpt
    shown = " ".join(excerpts[:3]).lower()
    assert any(word in shown for word in SHOWN.get(query, [query[:9].lower()])), excerpts[:3]


def test_a_search_in_a_folder_names_the_terms_that_it_finds(visit):
    page = visit("search.html?q=posterior", "file")
    page.get_by_text("Search finished").first.wait_for()
    links = page.locator("#search-results a").all_inner_texts()
    assert links[:2] == ["Glossary > posterior", "Glossary > posterior collapse"]
    assert len(links) == len(set(links))
