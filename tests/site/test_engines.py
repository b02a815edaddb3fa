"""The built site in Firefox and in WebKit, over http and from a folder.

Each page is loaded once an engine and scheme, at a place that a link leads to; all checks are made
on that load. EM2VAE_ENGINES (browsers.py) says which engines there are.
"""

import collections
import re
import shutil
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from browsers import find_browser, wanted
from engines import RECORDER, Firefox, WebKit, drag, press
from pages import FAULTS, PAGES, STARTED, views
from server import serve
from test_interactive import FIGURES, KINDS, NAME, SNAPSHOT

CLASSES = {"firefox": Firefox, "webkit": WebKit}

# Resolves to whether the condition came true in time; a page can shorten all times.
UNTIL = """const until = async (condition, limit) => {
    const end = performance.now() + limit * (window.patience ?? 1);
    while (!condition()) {
        if (performance.now() > end) return false;
        await new Promise(requestAnimationFrame);
    }
    return true;
};"""
SETTLE = f"""async (figures) => {{
    {UNTIL}
    const started = {STARTED};
    const all = await until(() => started() >= figures, 20000);
    await document.fonts.ready;
    const missing = all ? [] : [`${{started()}} of ${{figures}} figures have started after 20 s`];
    const messages = [...document.querySelectorAll(".em2vae-message")].map((e) => e.innerText);
    return [...missing, ...messages.filter((text) => !text.includes("needs a running kernel"))];
}}"""
COUNT = f"""() => document.querySelectorAll("{FIGURES}").length"""
# The targets that are not on the screen: the first after loading, the others after a jump there.
OFF_SCREEN = f"""async (ids) => {{
    {UNTIL}
    const off = [];
    for (const [i, id] of ids.entries()) {{
        const target = document.getElementById(id);
        const top = () => target.getClientRects()[0]?.top ?? NaN; // none inside a closed solution
        const onScreen = () => top() > -1 && top() < innerHeight;
        if (i) location.hash = id;
        if (!(await until(onScreen, 1000))) off.push(`#${{id}}: ${{top()}} px below the edge`);
    }}
    return off;
}}"""
FIGURE = f"""
    {UNTIL}
    const figure = document.querySelectorAll("{FIGURES}")[index];
    const snapshot = {SNAPSHOT};
    const name = {NAME};
    const isFull = (e) => e.tagName === "BUTTON" && /full screen/i.test(name(e));
    const controls = [...figure.querySelectorAll("input, select, button")];
    const pads = [...figure.querySelectorAll("canvas, svg")]
        .filter((e) => getComputedStyle(e).cursor === "crosshair" && e.checkVisibility());
"""
DESCRIBE = f"""(index) => {{{FIGURE}
    const shown = [...controls.keys()].filter((i) => controls[i].checkVisibility());
    return {{
        name: figure.dataset.interactive,
        state: figure.dataset.state,
        full: shown.filter((i) => isFull(controls[i])),
        controls: shown.filter((i) => !isFull(controls[i])),
        pads: pads.length,
    }};
}}"""
# The kind of the control, which now has the focus, and the key that moves it; none if it is off.
FOCUS = f"""(index, i) => {{{FIGURE}
    const control = controls[i];
    if (control.disabled) return null;
    window.before = snapshot(figure);
    control.focus();
    const there = {{ range: Number(control.value) < Number(control.max),
                    "select-one": control.selectedIndex < control.length - 1 }}[control.type];
    const keys = {{ range: ["ArrowLeft", "ArrowRight"], "select-one": ["ArrowUp", "ArrowDown"] }};
    const other = control.type === "text" ? "x" : "Space";
    return [control.type, keys[control.type]?.[Number(there)] ?? other];
}}"""
CHANGED = f"""(index, limit) => {{{FIGURE}
    return until(() => snapshot(figure) !== window.before, limit);
}}"""
# A way across the middle of a drawing, which is scrolled to the middle of the screen.
WAY = f"""(index, i) => {{{FIGURE}
    pads[i].scrollIntoView({{ block: "center", behavior: "instant" }});
    window.before = snapshot(figure);
    const {{ x, y, width, height }} = pads[i].getBoundingClientRect();
    const low = height * (1 - 0.1 * i); // drawings may share a choice: each drag ends elsewhere
    return [0.35, 0.45, 0.55, 0.65].map((part) => [x + part * width, y + part * low]);
}}"""
FULL = f"""async (index) => {{{FIGURE}
    if (!(await until(() => document.fullscreenElement?.contains(figure), 5000)))
        return ["full screen does not begin"];
    const hidden = () => figure.scrollHeight - figure.clientHeight;
    const fits = await until(() => hidden() <= 25, 2000);
    const found = fits ? [] : [`full screen hides ${{hidden()}} px`];
    await document.exitFullscreen();
    if (!(await until(() => !document.fullscreenElement, 5000)))
        found.push("full screen does not end");
    return found;
}}"""


# A page with all that the tests look for.
BROKEN = f"""<!doctype html>
<meta charset="utf-8">
<link rel="icon" href="data:,">
{RECORDER}
<style>figure:fullscreen {{ overflow: auto }} figure:fullscreen > div {{ height: 5000px }}</style>
<figure class="em2vae" data-interactive="broken" data-state="loading">
<input type="range"> <select><option>a<option>b</select> <button>Press</button>
<button onclick="this.parentNode.requestFullscreen()">Full screen</button>
<canvas style="cursor: crosshair"></canvas>
<div></div>
</figure>
<p class="em2vae-message">This figure could not start.</p>
<p class="math">x</p>
<img src="missing.png"> <img src="http://elsewhere.example/a.png">
<p style="height: 3000px"></p>
<p id="place"></p>
<script>
    window.patience = 0.02;
    console.warn("a warning");
    console.error("an error");
    setTimeout(() => {{ throw new Error("nobody caught") }});
    Promise.reject("nobody caught either");
    addEventListener("scroll", () => scrollTo(0, 0));
</script>
"""
FOUND_BROKEN = (
    "1 of 2 figures have started",
    "This figure could not start.",
    "#place: ",
    "no title",
    "0 headlines",
    "not set: x",
    "broken: is loading",
    "broken: control 0, range, does not answer",
    "broken: control 1, select-one, does not answer",
    "broken: control 2, submit, does not answer",
    "broken: drawing 0 does not answer",
    "broken: full screen hides",
    "misses {}missing.png",
    "console warn: a warning",
    "console error: an error",
    "throws ",
    "rejects: nobody caught either",
    "http://elsewhere.example/a.png",
)


@pytest.fixture(scope="module", params=CLASSES)
def engine(request, one_at_a_time, recorded, tmp_path_factory):
    """One of the two, and `engine.base`, the addresses of the site that it may open."""
    if request.param not in wanted():
        pytest.skip(f"EM2VAE_ENGINES leaves {request.param} out")
    with one_at_a_time:
        path = find_browser(request.param)
    with serve(recorded) as server:
        engine = CLASSES[request.param](path, tmp_path_factory.mktemp("profile"), server)
        engine.base = {"http": server.url, "file": f"{recorded.as_uri()}/"}
        yield engine
        engine.close()


@pytest.fixture(scope="module")
def recorded(site, tmp_path_factory):
    """A copy of the site whose pages write down what goes wrong."""
    copy = tmp_path_factory.mktemp("recorded") / "a stick"
    shutil.copytree(site, copy)
    for page in copy.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("<title>", f"{RECORDER}<title>", 1), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")
def targets(site):
    """Page by page the places that links of the book lead to, from top to bottom."""
    linked = collections.defaultdict(set)
    for name in PAGES:
        text = (site / f"{name}.html").read_text(encoding="utf-8")
        for address in re.findall(r'href="([^"]*#[^"]+)"', text):
            url = urlsplit(urljoin(f"/{name}.html", address))
            linked[url.path.lstrip("/").removesuffix(".html")].add(unquote(url.fragment))
    ids = {name: re.findall(r'\bid="([^"]+)"', (site / f"{name}.html").read_text("utf-8"))
           for name in PAGES}  # fmt: skip
    return {name: [i for i in ids[name] if i in linked[name]] for name in PAGES}


@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("name", PAGES)
def test_page(engine, site, targets, scheme, name):
    places = targets[name]
    # Solutions close above an exercise while the page starts.
    exercises = [place for place in places if place.startswith("ex-")] or places
    first = exercises[-1:] if scheme == "http" else exercises[len(exercises) // 2 :][:1]
    assert problems(engine, scheme, name, views(site, name), first + places) == []


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_each_fault_is_found(engine, recorded, scheme):
    (recorded / "broken.html").write_text(BROKEN)
    found = problems(engine, scheme, "broken", 2, ["place"])
    expected = [text.format(engine.base[scheme]) for text in FOUND_BROKEN]
    assert [text for text in expected if not any(text in line for line in found)] == []


def problems(engine, scheme: str, name: str, figures: int, places: list[str]) -> list[str]:
    """All that is wrong with a page; it is opened at the first of the places."""
    place = f"#{places[0]}" if places else ""
    engine.open(f"{engine.base[scheme]}{name}.html{place}")
    found = engine.run(SETTLE, figures)
    found += engine.run(OFF_SCREEN, places)
    found += engine.run(FAULTS)
    for index in range(engine.run(COUNT)):
        found += figure_problems(engine, index)
    return found + engine.run("() => noted") + engine.problems()


def figure_problems(engine, index: int) -> list[str]:
    figure = engine.run(DESCRIBE, index)
    found = [] if figure["state"] == "ready" else [f"is {figure['state']}"]
    for control in figure["controls"]:
        found += control_problems(engine, index, control)
    for pad in range(figure["pads"]):
        engine.perform(drag(engine.run(WAY, index, pad)))
        if not engine.run(CHANGED, index, 2000):
            found.append(f"drawing {pad} does not answer the pointer")
    for control in figure["full"]:
        engine.run(FOCUS, index, control)
        engine.perform(press("Enter"))
        found += engine.run(FULL, index)
    return [f"{figure['name']}: {problem}" for problem in found]


def control_problems(engine, index: int, control: int) -> list[str]:
    """Whether one of a few presses of the control's key changes what a person perceives."""
    for limit in (500, 500, 2000):  # ms: a first step may be too small to be seen
        focused = engine.run(FOCUS, index, control)
        if focused is None:
            return []
        kind, key = focused
        assert kind in KINDS, f"no native control: {kind}"
        engine.perform(press(key))
        if engine.run(CHANGED, index, limit):
            return []
    return [f"control {control}, {kind}, does not answer the keyboard"]
