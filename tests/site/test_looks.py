"""Every built page in light, in dark and on a small phone: clean, accessible, nothing cut off,
and printed from the dark on white."""

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
# Text that is less than 4.5 times as dark as white paper, which gets no backgrounds.
PALE = """() => {
    const linear = (v) => v <= 10 ? v / 3295 : ((v / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const pale = new Set();
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const { data, parentElement } = texts.currentNode;
        if (!data.trim() || !parentElement.checkVisibility({ visibilityProperty: true })) continue;
        const { color } = getComputedStyle(parentElement);
        const ratio = 1.05 / (luminance(color.match(/[0-9.]+/g).map(Number)) + 0.05);
        if (ratio < 4.5) pale.add(`${color}: ${data.trim().slice(0, 40)}`);
    }
    return [...pale];
}"""
THEME = "document.documentElement.dataset.theme"


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_clean_accessible_and_no_wider_than_the_screen(open_page, name, look):
    width = 360 if look == "phone" else 1280
    page = open_page(name, dark=look == "dark", width=width)
    assert faults(page) + page.evaluate(OVERFLOWING) == []
    if look == "dark":
        assert page.locator('html[data-theme="dark"]').count() == 1
    # Axe would fetch the style sheets a second time, which browsers refuse over file://.
    options = {"resultTypes": ["violations"], "preload": False, **RULES[look]}
    found = Axe().run(page, options=options)
    assert not found.violations_count, found.generate_report()
    if look == "dark":
        page.emulate_media(media="print")
        page.wait_for_function(f"{THEME} === 'light'")
        assert page.evaluate(PALE) == []
        page.emulate_media(media="screen")
        page.wait_for_function(f"{THEME} === 'dark'")
