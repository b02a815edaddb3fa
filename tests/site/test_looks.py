"""Every built page in light, in dark and on a small phone: clean, accessible, nothing cut off."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from pages import PAGES, faults

# The dark page is the light one in other colours, the phone's is the light one in another shape.
RULES = {
    "light": {},
    "dark": {"runOnly": ["color-contrast", "link-in-text-block"]},
    "phone": {"rules": {"color-contrast": {"enabled": False}}},
}
OVERFLOWING = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    return [...document.querySelectorAll("body *")]
        .filter((e) => e.getBoundingClientRect().right > width + 1)
        .map((e) => `${e.tagName.toLowerCase()}.${e.className}`);
}"""


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_clean_accessible_and_no_wider_than_the_screen(open_page, name, look):
    width = 360 if look == "phone" else 1280
    page = open_page(name, dark=look == "dark", width=width, formulas=True)
    assert faults(page) + page.evaluate(OVERFLOWING) == []
    if look == "dark":
        assert page.locator('html[data-theme="dark"]').count() == 1
    # Axe would fetch the style sheets a second time, which browsers refuse over file://.
    options = {"resultTypes": ["violations"], "preload": False, **RULES[look]}
    found = Axe().run(page, options=options)
    assert not found.violations_count, found.generate_report()
