"""The built site in a real browser with the network cut.

Fixtures for the tests of this folder:

- `site`: the folder of the built site, a Path; it is built first if it is missing or out of date.
- `open_page(name, scheme="http", dark=False, width=1280, formulas=False)`: opens a page in a fresh
  context, which prefers reduced motion, waits until its figures have started and, if asked for,
  its formulas are set (which takes most of a page's time), and returns Playwright's Page. `name`
  is a docname such as "book/12-latent-space", or "search.html?q=bound"; `scheme` is "http" (a
  server on the loopback address) or "file" (a copy of the folder elsewhere). A page that writes a
  warning or an error to the console, throws, misses a file or asks another host for one fails the
  test at its end.
- `site_url`, `file_url`: the two addresses that the pages are served from, ending in "/".

`PAGES` (from pages.py) lists the docnames of the book and "search".
"""

import functools
import shutil
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from chromium import find_browser
from filelock import FileLock
from pages import HTML, ROOT, build, out_of_date
from playwright.sync_api import Error, sync_playwright

# No name but the loopback address resolves.
NETWORK_CUT = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
SETTLED = """() => {
    const views = document.querySelector('script[type="application/vnd.jupyter.widget-view+json"]');
    const loading = document.querySelector('figure.em2vae[data-state="loading"]');
    return !views && !loading;
}"""


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
    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Handler, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="session")
def file_url(site, tmp_path_factory):
    copy = tmp_path_factory.mktemp("usb") / "a stick"
    shutil.copytree(site, copy)
    return f"{copy.as_uri()}/"


# A module's own browser: an open one holds an event loop, which the kernels of nbval also want.
@pytest.fixture(scope="module")
def browser(one_at_a_time):
    with sync_playwright() as playwright:
        with one_at_a_time:
            path = find_browser(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(
            executable_path=path,
            args=["--disable-gpu", "--disable-background-networking", NETWORK_CUT],
        )
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, request):
    contexts, problems = [], []

    def open_page(name, scheme="http", dark=False, width=1280, formulas=False):
        base = request.getfixturevalue({"http": "site_url", "file": "file_url"}[scheme])
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            offline=scheme == "file",
        )
        context.set_default_timeout(10_000)
        contexts.append(context)
        if not formulas:
            context.route("**/tex-chtml.js", lambda route: route.fulfill(body=""))
        page = context.new_page()
        watch(page, base, problems)
        page.goto(base + (name if ".html" in name else f"{name}.html"))
        wait_until_settled(page, problems)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not problems, "\n".join(problems)


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


def wait_until_settled(page, problems: list[str]) -> None:
    """Wait for the figures' first paint and for MathJax."""
    try:
        page.wait_for_function(SETTLED)
    except Error:
        problems.append(f"{page.url}: a figure is still loading after 10 s")
    page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
