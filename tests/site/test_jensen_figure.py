"""The Jensen figure: the heights that the browser shows, against NumPy's."""

import re

import numpy as np
import pytest
from widgets import wait_until_drawn, words_of

PAGE = "book/02-jensen"
CURVES = {"log": np.log, "sqrt": np.sqrt, "line": lambda x: x / 2}
NAMES = ("A", "B", "C")


@pytest.fixture
def figure(open_page):
    return open_page(PAGE, figures_only=True).locator("figure[data-interactive='jensen']")


def said(figure):
    return words_of(figure)


def signed_numbers(text):
    return [float(n) for n in re.findall(r"-?\d+\.\d+", text.replace("−", "-"))]


def state(figure):
    """Points and weights from the sliders."""
    wait_until_drawn(figure.page)
    places = [float(figure.get_by_label(f"Point {name}").input_value()) for name in NAMES]
    weights = [float(figure.get_by_label(f"Weight {name}").input_value()) for name in NAMES]
    return np.array(places), np.array(weights)


def set_all(figure, places, weights):
    for name, place, weight in zip(NAMES, places, weights, strict=True):
        figure.get_by_label(f"Point {name}").fill(str(place))
        figure.get_by_label(f"Weight {name}").fill(str(weight))
    wait_until_drawn(figure.page)  # the mean's limits follow the points


def assert_says_what_numpy_says(figure, curve):
    places, weights = state(figure)
    f, mean = CURVES[curve], np.average(places, weights=weights)
    of_mean, mean_of = f(mean), np.average(f(places), weights=weights)
    numbers = signed_numbers(said(figure))
    np.testing.assert_allclose(numbers[:3], [mean, of_mean, mean_of], atol=0.0051)
    assert numbers[3] == pytest.approx(of_mean - mean_of, abs=0.00051)


@pytest.mark.parametrize("curve", CURVES)
@pytest.mark.parametrize(
    ("places", "weights"),
    [
        ((0.3, 3.6, 5.5), (0.4, 0.3, 0.3)),
        ((0.2, 6.0, 0.2), (0.05, 1.0, 0.65)),
        ((3.31, 0.57, 0.44), (1.0, 0.1, 0.9)),
        ((0.25, 0.25, 0.25), (0.2, 0.5, 1.0)),
    ],
)
def test_heights_and_gap_agree_with_numpy(figure, curve, places, weights):
    figure.get_by_label("Curve f").select_option(curve)
    set_all(figure, places, weights)
    assert_says_what_numpy_says(figure, curve)


def test_it_opens_with_a_gap_and_says_so_in_words(figure):
    label = figure.locator("canvas").get_attribute("aria-label")
    assert "0.30 (40 %), 3.60 (30 %), 5.50 (30 %)" in label
    assert signed_numbers(said(figure))[3] > 0.5


def test_a_straight_line_and_a_single_place_lose_nothing(figure):
    figure.get_by_label("Curve f").select_option("line")
    wait_until_drawn(figure.page)
    assert said(figure).endswith("Gap: 0.000.")
    figure.get_by_label("Curve f").select_option("log")
    set_all(figure, (1.7, 1.7, 1.7), (0.4, 0.3, 0.3))
    assert said(figure).endswith("Gap: 0.000.")


def test_halving_keeps_the_mean_and_quarters_a_small_gap(figure):
    set_all(figure, (2.5, 3.0, 3.5), (0.5, 0.5, 0.5))
    before = signed_numbers(said(figure))
    places, _ = state(figure)
    figure.get_by_role("button", name="Halve the distances").click()
    after_places, _ = state(figure)
    after = signed_numbers(said(figure))
    assert after[0] == before[0]
    np.testing.assert_allclose(after_places, 3 + (places - 3) / 2, atol=0.0051)
    assert after[3] == pytest.approx(before[3] / 4, abs=0.001)
    assert before[3] > 0.008


def test_start_again_undoes_everything(figure):
    first = state(figure), said(figure)
    figure.get_by_label("Curve f").select_option("sqrt")
    set_all(figure, (1, 2, 3), (1, 1, 0.05))
    assert said(figure) != first[1]
    figure.get_by_role("button", name="Start again").click()
    np.testing.assert_array_equal(state(figure), first[0])
    assert said(figure) == first[1]


def test_the_mean_moves_all_points_and_stops_at_the_edge(figure):
    set_all(figure, (1.0, 2.0, 3.0), (0.5, 0.5, 0.5))
    slider = figure.get_by_label("Mean moves all three")
    slider.fill("4.5")
    np.testing.assert_allclose(state(figure)[0], [3.5, 4.5, 5.5])
    slider.press("End")
    np.testing.assert_allclose(state(figure)[0], [4, 5, 6])
    assert float(slider.input_value()) == 5  # the thumb stays at the end of its track
    slider.press("Home")
    np.testing.assert_allclose(state(figure)[0], [0.2, 1.2, 2.2])
    assert float(slider.input_value()) == 1.2
    assert [slider.get_attribute(name) for name in ("min", "max")] == ["1.20", "5.00"]


def drag(figure, target, by):
    """Drag from a point in data coordinates, `by` units of x to the right."""
    box = figure.locator("canvas").bounding_box()
    em = figure.locator("canvas").evaluate("c => parseFloat(getComputedStyle(c).fontSize)")
    # plot() leaves room for the numbers and the labels; a pick within half a unit is enough here
    inner = {
        "left": 2.2 * em,
        "right": box["width"] - 0.8 * em,
        "top": 1.7 * em,
        "bottom": box["height"] - 2.7 * em,
    }
    x = inner["left"] + target[0] / 6.2 * (inner["right"] - inner["left"])
    y = inner["bottom"] - (target[1] + 2.2) / 4.6 * (inner["bottom"] - inner["top"])
    width = (inner["right"] - inner["left"]) / 6.2
    mouse = figure.page.mouse
    figure.locator("canvas").scroll_into_view_if_needed()
    box = figure.locator("canvas").bounding_box()
    mouse.move(box["x"] + x, box["y"] + y)
    mouse.down()
    mouse.move(box["x"] + x + by * width, box["y"] + y, steps=4)
    mouse.up()


def test_a_point_can_be_dragged_and_the_others_stay(figure):
    drag(figure, (5.5, np.log(5.5)), by=-2)
    places, _ = state(figure)
    np.testing.assert_allclose(places[:2], [0.3, 3.6])
    assert places[2] == pytest.approx(3.5, abs=0.3)
    assert_says_what_numpy_says(figure, "log")


def test_the_mean_can_be_dragged_and_the_spread_stays(figure):
    set_all(figure, (1.0, 2.0, 5.0), (0.5, 0.5, 0.5))
    before = state(figure)[0]
    drag(figure, (2.67, 0.85), by=0.8)
    after = state(figure)[0]
    assert after[0] - before[0] == pytest.approx(0.8, abs=0.3)
    np.testing.assert_allclose(np.diff(after), np.diff(before), atol=0.011)


def test_no_point_leaves_the_picture(figure):
    drag(figure, (0.3, np.log(0.3)), by=-3)
    assert state(figure)[0][0] == 0.2
    assert_says_what_numpy_says(figure, "log")  # not the logarithm of zero


@pytest.mark.parametrize("width", [360, 1280])
def test_the_drawing_fits(open_page, width):
    page = open_page(PAGE, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    canvas = page.locator("figure[data-interactive='jensen'] canvas")
    assert canvas.evaluate("c => c.clientWidth") >= 280
