"""The tests' own wait for a page: without figures nothing is loading, and nothing is ready."""

from pages import views, wait_until_settled

PAGE = "book/12-latent-space"
# The module of each figure takes half a second more than it needs.
LATE = """
const own = URL.createObjectURL;
const pause = "await new Promise((done) => setTimeout(done, 500));";
URL.createObjectURL = (blob) => own(new Blob([pause, blob], { type: blob.type }));
"""


def test_it_lasts_until_late_figures_are_there(browser, site, site_url):
    page = browser.new_page()
    page.add_init_script(LATE)
    page.goto(f"{site_url}{PAGE}.html")
    problems = []
    wait_until_settled(page, views(site, PAGE), problems)
    assert problems == []
    assert page.locator('figure.em2vae[data-state="ready"]').count() == 2
    page.close()
