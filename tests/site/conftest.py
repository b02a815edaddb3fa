"""The built site in a real browser with the network cut.

Fixtures for the tests of this folder:

- `site`: the folder of the built site, a Path; it is built first if it is missing or out of date.
- `open_page(name, scheme="http", dark=False, width=1280, figures_only=False)`: opens a page in a
  fresh context, which prefers reduced motion, waits until its figures have started, and returns
  Playwright's Page. With `figures_only` the page is cut down to its figures and its style, for
  tests of what these compute; test_interactive.py tests them on the whole page. `name` is a docname
  such as "book/12-latent-space", or "search.html?q=bound"; `scheme` is "http" (a server on the
  loopback address) or "file" (a copy of the folder elsewhere). A page that writes a warning or an
  error to the console, throws, misses a file or asks another host for one fails the test at its
  end.
- `opening(browser)`: a context manager that yields such an `open_page`, for a page that several
  tests share.
- `site_url`, `file_url`: the two addresses that the pages are served from, ending in "/".
- `browser`: Playwright's Chromium behind `open_page`. Firefox and WebKit: test_engines.py.

`PAGES` (from pages.py) lists the docnames of the book and "search".
"""

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from browsers import find_browser, wanted
from filelock import FileLock
from pages import (
    HTML,
    HTML_TYPE,
    ROOT,
    build,
    figures_alone,
    out_of_date,
    views,
    wait_until_settled,
)
from playwright.sync_api import sync_playwright
from server import serve

# No name but the loopback address resolves.
NETWORK_CUT = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"

# Debian's Chromium without windows around its pages, which take half of the time of opening one.
LIGHT = "chromium-headless-shell"


@pytest.fixture(scope="session")
def one_at_a_time(tmp_path_factory) -> FileLock:
    """Held while building or installing, so that a parallel run does it once."""
    return FileLock(tmp_path_factory.getbasetemp().parent / "em2vae.lock")


@pytest.fixture(scope="session")
def site(one_at_a_time) -> Path:
    with one_at_a_time:
        if out_of_date(HTML / "index.html"):
            build(ROOT)
    return HTML


@pytest.fixture(scope="session")
def site_url(site):
    with serve(site) as server:
        yield server.url


@pytest.fixture(scope="session")
def file_url(site, tmp_path_factory):
    copy = tmp_path_factory.mktemp("usb") / "a stick"
    shutil.copytree(site, copy)
    return f"{copy.as_uri()}/"


# A module's own browser: an open one holds an event loop, which the kernels of nbval also want.
@pytest.fixture(scope="module")
def browser(one_at_a_time):
    if "chromium" not in wanted():
        pytest.skip("EM2VAE_ENGINES leaves Chromium out")
    with sync_playwright() as playwright:
        with one_at_a_time:
            own = playwright.chromium.executable_path
            path = shutil.which(LIGHT) or find_browser("chromium", own)
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--disable-gpu", "--disable-background-networking", NETWORK_CUT],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def opening(request, site):
    @contextmanager
    def opening(browser):
        contexts, problems = [], []

        def open_page(name, scheme="http", dark=False, width=1280, figures_only=False):
            base = request.getfixturevalue({"http": "site_url", "file": "file_url"}[scheme])
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme="dark" if dark else "light",
                reduced_motion="reduce",
                offline=scheme == "file",
            )
            context.set_default_timeout(10_000)
            contexts.append(context)
            url = base + (name if ".html" in name else f"{name}.html")
            if figures_only:
                html = figures_alone((site / f"{name}.html").read_text(encoding="utf-8"))
                context.route(url, lambda route: route.fulfill(body=html, content_type=HTML_TYPE))
            page = context.new_page()
            watch(page, base, problems)
            page.goto(url)
            wait_until_settled(page, views(site, name), problems)
            return page

        yield open_page
        for context in contexts:
            context.close()
        assert not problems, "\n".join(problems)

    return opening


@pytest.fixture
def open_page(browser, opening):
    with opening(browser) as open_page:
        yield open_page


def watch(page, base: str, problems: list[str]) -> None:
    """Note what a clean page does not do."""

    def on_console(message):
        if message.type in ("warning", "error"):
            problems.append(f"{page.url}: console {message.type}: {message.text}")

    def on_request(request):
        if not request.url.startswith(("data:", "blob:", base)):
            problems.append(f"{page.url}: asks for {request.url}")

    def on_response(response):
        if response.status >= 400:
            problems.append(f"{page.url}: {response.status} for {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"{page.url}: throws {error}"))
    page.on("request", on_request)
    page.on("requestfailed", lambda r: problems.append(f"{page.url}: {r.url}: {r.failure}"))
    page.on("response", on_response)
