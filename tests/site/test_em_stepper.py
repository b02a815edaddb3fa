"""The EM stepper: its arithmetic against the library, its controls, and its traits."""

import re

import pytest
import torch
import traitlets
from widgets import IMPORT, SENTENCE, render, wait_until_drawn, words_of

from em2vae import GaussianMixture
from em2vae.interactive.em_stepper import EmStepper, starting_point

PAGE = "book/03-em"
# EM by the figure's own functions; every half step is [bound, log-likelihood].
RUN_EM = f"""async ([text, x, theta, floor, steps]) => {{
    const em = await ({IMPORT})(text);
    const history = [];
    let responsibilities;
    for (let t = 0; t < steps; t++) {{
        responsibilities = em.eStep(x, theta);
        history.push([em.bound(x, theta, responsibilities), em.logLikelihood(x, theta)]);
        theta = em.mStep(x, responsibilities, theta, floor);
        history.push([em.bound(x, theta, responsibilities), em.logLikelihood(x, theta)]);
    }}
    return {{ theta, history, responsibilities: responsibilities.map((row) => [...row]) }};
}}"""


def seeded(n, seed=0):
    """Two clouds (n, 2), in random order."""
    g = torch.Generator().manual_seed(seed)
    side = 3.0 * torch.randint(2, (n, 1), generator=g) - 1.5
    return (side + torch.randn(n, 2, generator=g)).double()


def library_em(x, model, steps):
    history = []
    for _ in range(steps):
        q = model.e_step(x)
        history.append([model.elbo(x, q).mean(), model.log_likelihood(x).mean()])
        model.m_step(x, q)
        history.append([model.elbo(x, q).mean(), model.log_likelihood(x).mean()])
    return q, torch.tensor(history, dtype=torch.double)


LINE = torch.linspace(-3, 3, 20).double()[:, None]
PROBLEMS = {
    "two clouds": (seeded(60), 3, 1e-3, 20),
    "one component": (seeded(20), 1, 1e-3, 2),
    "five of five points": (seeded(5), 5, 1e-2, 20),
    "a slanted line": (LINE @ torch.tensor([[1.0, 0.5]]).double(), 2, 0.05, 10),
    "an upright line": (LINE @ torch.tensor([[0.0, 1.0]]).double(), 2, 0.05, 10),
    "one place": (torch.ones(6, 2).double(), 2, 0.1, 3),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_browsers_em_is_the_librarys(name, open_page):
    x, n_components, floor, steps = PROBLEMS[name]
    model = starting_point(x, n_components, 0, floor)
    tensors = {"weights": model.weights, "means": model.means, "covariances": model.covariances}
    theta = {key: value.tolist() for key, value in tensors.items()}
    arguments = [EmStepper._esm, x.tolist(), theta, floor, steps]
    result = open_page("book/glossary", figures_only=True).evaluate(RUN_EM, arguments)
    q, history = library_em(x, model, steps)
    assert (torch.tensor(result["history"], dtype=torch.double) - history).abs().max() < 1e-9
    assert (torch.tensor(result["responsibilities"], dtype=torch.double) - q).abs().max() < 1e-9
    for key in ("weights", "means", "covariances"):
        shown = torch.tensor(result["theta"][key], dtype=torch.double)
        assert (shown - getattr(model, key)).abs().max() < 1e-9, key


def test_an_empty_component_keeps_its_place(open_page):
    theta = {
        "weights": [0.5, 0.5],
        "means": [[0.0, 0.0], [1e9, 0.0]],
        "covariances": [[[1.0, 0.0], [0.0, 1.0]]] * 2,
    }
    arguments = [EmStepper._esm, seeded(20).tolist(), theta, 1e-3, 3]
    result = open_page("book/glossary", figures_only=True).evaluate(RUN_EM, arguments)
    assert result["theta"]["weights"] == [1, 0]
    assert result["theta"]["means"][1] == [1e9, 0.0]
    assert torch.tensor(result["history"], dtype=torch.double).isfinite().all()


# A figure of its own ---------------------------------------------------------------------------


@pytest.fixture
def live(open_page):
    stepper = EmStepper(seeded(40), n_components=2, start=1)
    return stepper, render(open_page("book/glossary", figures_only=True), stepper)


def get(page, *names):
    values = [page.evaluate(f"model.get('{name}')") for name in names]
    return [torch.tensor(value, dtype=torch.double) for value in values]


def shown_model(page):
    return GaussianMixture(*get(page, "weights", "means", "covariances"), min_variance=1e-3)


def click(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    wait_until_drawn(page)


def levels(page):
    """Bound and log-likelihood as the figure says them."""
    said = words_of(page.locator("figure.em2vae")).replace("−", "-")
    numbers = [float(value) for value in re.findall(r"-?\d+\.\d+", said)]
    return (numbers[0], numbers[0]) if "both" in said and "touches" in said else numbers[::-1]


def test_it_opens_after_three_steps_with_a_gap(live):
    stepper, page = live
    _, history = library_em(stepper.x, stepper.model, 3)
    [shown] = get(page, "history")
    assert (shown[1:] - history).abs().max() < 1e-6
    assert shown[0, 0] < shown[0, 1] and shown[-1, 0] < shown[-1, 1]
    assert levels(page) == pytest.approx(history[-1].tolist(), abs=6e-4)


def test_buttons_take_half_steps(live):
    stepper, page = live
    _, history = library_em(stepper.x, stepper.model, 4)
    click(page, "E-step")
    assert levels(page) == pytest.approx(history[-2].tolist(), abs=6e-4)
    click(page, "M-step")
    assert levels(page) == pytest.approx(history[-1].tolist(), abs=6e-4)
    [shown] = get(page, "history")
    assert (shown[1:] - history).abs().max() < 1e-6


def said(page):
    return words_of(page.locator("figure.em2vae"))


def test_the_figure_says_what_an_m_step_did(live):
    _, page = live
    click(page, "E-step")
    click(page, "M-step")
    assert "both are higher, with a gap" in said(page)
    click(page, "M-step")
    assert "nothing left to do" in said(page)
    page.get_by_label("Components", exact=True).select_option("1")
    click(page, "M-step")  # one component owns every point: the bound always touches
    assert "both are higher, without a gap" in said(page)


def test_an_m_step_from_a_stale_e_step_does_not_claim_too_much(live):
    _, page = live
    click(page, "Run")
    click(page, "Reset")
    click(page, "M-step")  # equal shares: all components become the one Gaussian of the data
    [history] = get(page, "history")
    bound, likelihood = history.diff(dim=0)[0].tolist()
    assert bound > 0
    assert ("both are higher" in said(page)) == (likelihood > 0)


COLOURED = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let i = 0; i < data.length; i += 4) {
        const channels = [data[i], data[i + 1], data[i + 2]];
        count += data[i + 3] > 200 && Math.max(...channels) - Math.min(...channels) > 60;
    }
    return count;
}"""


def test_a_new_start_shows_its_two_values_as_dots(live):
    _, page = live
    click(page, "Reset")
    # Two dots of radius 5 have an area of 157 pixels at least; half of each may lie on the edge.
    assert page.locator("figure.em2vae canvas").nth(1).evaluate(COLOURED) > 60


def test_run_comes_to_rest_where_the_library_does(live):
    stepper, page = live
    click(page, "Run")
    model = stepper.model
    end = model.fit(stepper.x, n_steps=2000, tolerance=1e-9)[-1]
    [shown] = get(page, "history")
    assert (shown.diff(dim=0) > -1e-9).all()
    assert shown[-1].tolist() == pytest.approx([end, end], abs=1e-4)


def test_reset_another_start_and_components(live):
    stepper, page = live
    for name, start, n_components in (("Reset", 1, 2), ("Another start", 2, 2)):
        click(page, name)
        model = starting_point(stepper.x, n_components, start, 1e-3)
        assert torch.equal(get(page, "means")[0], model.means)
    page.get_by_label("Components", exact=True).select_option("4")
    wait_until_drawn(page)
    model = starting_point(stepper.x, 4, 2, 1e-3)
    assert (get(page, "covariances")[0] - model.covariances).abs().max() < 1e-12
    [history] = get(page, "history")
    q = torch.full((40, 4), 0.25).double()
    expected = [model.elbo(stepper.x, q).mean(), model.log_likelihood(stepper.x).mean()]
    assert history[0].tolist() == pytest.approx([value.item() for value in expected], abs=1e-6)


def test_sliders_move_a_mean_and_a_point(live):
    stepper, page = live
    page.get_by_label("Move", exact=True).select_option("mean B")
    page.get_by_label("x₁").fill("2.5")
    wait_until_drawn(page)
    assert get(page, "means")[0][1, 0] == 2.5
    page.get_by_label("Move", exact=True).select_option("a point")
    page.get_by_label("Point number").fill("7")
    page.get_by_label("x₂").fill("-1.5")
    wait_until_drawn(page)
    [points, history] = get(page, "points", "history")
    assert points[6, 1] == -1.5
    moved = (points != stepper.x).any(-1).nonzero().flatten()
    assert moved.tolist() == [6]
    assert len(history) == 1  # another hill, another curve
    assert history[0, 1].item() == pytest.approx(
        shown_model(page).log_likelihood(points).mean().item(), abs=1e-6
    )
    assert history[0, 0] < history[0, 1]
    click(page, "E-step")
    [history] = get(page, "history")
    assert history[-1, 0].item() == pytest.approx(history[-1, 1].item(), abs=1e-12)


def test_dragging_moves_what_lies_under_the_pointer(live):
    _, page = live
    before, points = get(page, "means", "points")
    canvas = page.locator("figure.em2vae canvas").first
    canvas.scroll_into_view_if_needed()
    wait_until_drawn(page)  # it takes its size when it is drawn
    box = canvas.bounding_box()
    x_of = page.get_by_label("x₁")
    page.get_by_label("Move", exact=True).select_option("mean A")
    limit = float(x_of.get_attribute("max"))

    def aim(place):
        # The axes leave a margin, so aim by two places whose values the sliders tell.
        return [box["x"] + box["width"] * (0.55 + 0.4 * place[0] / limit),
                box["y"] + box["height"] * (0.46 - 0.41 * place[1] / limit)]  # fmt: skip

    page.mouse.move(*aim(before[0].tolist()))
    page.mouse.down()
    page.mouse.move(*aim([0.0, 0.8 * limit]))
    page.mouse.up()
    wait_until_drawn(page)
    after, same = get(page, "means", "points")
    assert after[0, 1] > 0.6 * limit and after[0, 0].abs() < 0.2 * limit
    assert torch.equal(after[1], before[1]) and torch.equal(same, points)


def test_python_is_heard(live):
    stepper, page = live
    page.evaluate("model.set('means', [[-2, 0], [2, 0]])")
    wait_until_drawn(page)
    [history] = get(page, "history")
    expected = shown_model(page).log_likelihood(stepper.x).mean().item()
    assert history[:, 1].tolist() == pytest.approx([expected], abs=1e-6)
    page.evaluate("model.set('n_components', 3)")
    wait_until_drawn(page)
    assert torch.equal(get(page, "means")[0], starting_point(stepper.x, 3, 1, 1e-3).means)
    assert page.get_by_label("Components", exact=True).input_value() == "3"


# The built page --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_chapters_figure_runs(open_page, scheme):
    figure = open_page(PAGE, scheme).locator("figure[data-interactive='em-stepper']")
    output = figure.locator(SENTENCE)
    assert "After the M-step" in output.inner_text()
    figure.get_by_role("button", name="E-step").click()
    output.filter(has_text="touches").wait_for()
    figure.get_by_role("button", name="Run").click()
    output.filter(has_text="come to rest. Bound and log-likelihood are both −2.973").wait_for()
    assert figure.locator("canvas").first.get_attribute("aria-label").startswith("300 points")


# The traits in Python --------------------------------------------------------------------------


def test_the_model_is_the_starting_point():
    x = seeded(30)
    stepper = EmStepper(x, n_components=2, start=3, min_variance=0.01)
    assert torch.equal(stepper.x, x)
    assert torch.equal(stepper.model.means, x[6:8])
    assert stepper.model.min_variance == 0.01
    variance = x.var(0, correction=0).mean()
    assert torch.allclose(stepper.model.covariances, variance * torch.eye(2).double())
    assert EmStepper(x, n_components=4, start=7).model.means.tolist() == x[[28, 29, 0, 1]].tolist()


def test_wrong_arguments_say_what_was_expected():
    x = seeded(30)
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2\)"):
        EmStepper(x[:, :1])
    with pytest.raises(ValueError, match="x must hold 3 to 500 points, got 2"):
        EmStepper(x[:2])
    with pytest.raises(ValueError, match="x must hold 3 to 500 points, got 501"):
        EmStepper(seeded(501))
    with pytest.raises(ValueError, match="n_components must be a whole number"):
        EmStepper(x, n_components=0)
    with pytest.raises(traitlets.TraitError, match="n_components"):
        EmStepper(x, n_components=6)
