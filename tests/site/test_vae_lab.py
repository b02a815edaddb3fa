"""The lab: its arithmetic against PyTorch, its training, controls, address and files."""

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import traitlets
import wasmtime
from torch import nn
from torch.distributions import Normal, kl_divergence
from widgets import IMPORT, encoded, render, words_of

from em2vae import VAE, fit, load_digits
from em2vae.interactive.figure import ACTIVATIONS, HERE, linear_layers
from em2vae.interactive.vae_lab import BUGS, DEFAULTS, VaeLab, check_settings, load

PAGE = "book/lab"
TEXTS = {
    name: (HERE / f"{name}.js").read_text("utf-8")
    for name in ("shared", "vae_lab_math", "vae_lab_worker")
}
WASM = (HERE / "vae_lab.wasm").read_bytes()
KINDS = {name: kind for kind, name in ACTIVATIONS.items()}
BATCH, STEPS = 12, 10
FLOATS = """(base64, Kind) =>
    new Kind(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer)"""
# Weights, terms and gradient of a few steps; the gradient and the weights in PyTorch's order.
RUN = f"""async ([text, wasm, kind, settings, shape, weights, batches]) => {{
    const lab = await ({IMPORT})(text);
    const floats = {FLOATS};
    const Kind = kind === "float64" ? Float64Array : Float32Array;
    const kernel = kind === "wasm"
        ? await lab.wasmKernel(Uint8Array.from(atob(wasm), (c) => c.charCodeAt(0)))
        : lab.plainKernel(Kind);
    const model = lab.createModel(kernel, shape);
    lab.setWeights(model, floats(weights, Float64Array));
    const seen = [];
    for (const [x, eps] of batches) {{
        const terms = lab.bound(model, floats(x, Kind), floats(eps, Kind), settings);
        const judged = lab.bound(model, floats(x, Kind), floats(eps, Kind), settings, false);
        lab.bound(model, floats(x, Kind), floats(eps, Kind), settings);
        const theta = model.theta.slice();
        model.theta.set(model.grad);
        const gradient = [...lab.getWeights(model)];
        model.theta.set(theta);
        lab.takeStep(model, settings);
        seen.push({{ elbo: terms.elbo, judged: judged.elbo, gradient }});
    }}
    return JSON.stringify({{ seen, weights: [...lab.getWeights(model)] }});
}}"""
# What differs from a small default: each option of each setting that the arithmetic reads.
CHANGES = {
    "two units less": {"hidden": 16},
    "three layers": {"layers": 3},
    "one layer": {"layers": 1},
    "one dimension": {"latent": 1},
    "nine dimensions": {"latent": 9},
    "tanh": {"activation": "tanh"},
    "SiLU": {"activation": "silu"},
    "grey pixels": {"likelihood": "grey"},
    "normal": {"likelihood": "normal"},
    "narrow normal": {"likelihood": "normal", "sigma": 0.1},
    "learned variance": {"likelihood": "learned"},
    "learned variance, importance-weighted": {
        "likelihood": "learned",
        "objective": "iwae",
        "draws": 2,
    },
    "five draws": {"draws": 5},
    "importance-weighted": {"objective": "iwae", "draws": 5},
    "autoencoder": {"objective": "autoencoder"},
    "beta": {"beta": 4},
    "free bits": {"freeBits": 0.5},
    "SGD": {"optimizer": "sgd", "learningRate": 1e-4},
    "learning rate": {"learningRate": 0.01},
    **{
        f"bug {bug}": {"bug": bug}
        | ({"objective": "iwae", "draws": 5} if bug == "upside-down" else {})
        for bug in BUGS[1:]
        if bug not in ("step", "sigmoid")  # one belongs to the loop, one needs extreme logits
    },
}
SMALL = DEFAULTS | {"latent": 3, "hidden": 24, "learningRate": 0.001}


def reference(vae, log_variance, x, eps, settings) -> torch.Tensor:
    """The mean objective (no optimizer) in PyTorch, bugs as chapter 15 has them."""
    bug, objective = settings["bug"], settings["objective"]
    mu, log_var = vae.encoder.heads(vae.encoder.body(x)).chunk(2, -1)
    log_var = log_var.relu() if bug == "relu" else log_var
    std = log_var.exp() if bug == "variance" else (0.5 * log_var).exp()
    z = mu + (0 if objective == "autoencoder" else 1) * std * eps  # (S, B, K)
    logits = vae.decoder.head(vae.decoder.body(z))
    image = x[:, None] if bug == "broadcast" else x
    logits = logits[:, None] if bug == "broadcast" else logits
    if settings["likelihood"] in ("normal", "learned"):
        fixed = torch.tensor(settings["sigma"], dtype=x.dtype)
        sigma = (0.5 * log_variance).exp() if settings["likelihood"] == "learned" else fixed
        terms = Normal(logits.sigmoid(), sigma).log_prob(image)
    elif bug == "sigmoid":
        terms = -F.binary_cross_entropy(logits.sigmoid(), image.expand_as(logits), reduction="none")
    elif bug == "tanh":
        p = logits.tanh().clamp(1e-7, 1 - 1e-7)
        terms = image * p.log() + (1 - image) * (1 - p).log()
    else:
        terms = image * logits - F.softplus(logits)
    log_likelihood = terms.mean(-1) if bug == "pixels" else terms.sum(-1)  # over pixels
    if objective == "autoencoder":
        return log_likelihood.mean()
    if objective == "iwae":
        prior = Normal(0.0, 1.0).log_prob(z).sum(-1)
        log_w = log_likelihood + prior - Normal(mu, std).log_prob(z).sum(-1)  # (S, B)
        if bug == "upside-down":
            return -(((-log_w).softmax(0)) * -log_w).sum(0).mean()
        return (log_w.logsumexp(0) - np.log(len(log_w))).mean()
    kl = kl_divergence(Normal(mu, (0.5 * log_var).exp()), Normal(0.0, 1.0)).mean(0)  # (K,)
    price = kl.clamp(min=settings["freeBits"])
    return log_likelihood.mean() - settings["beta"] * (
        price.mean() if bug == "kl-mean" else price.sum()
    )


@pytest.fixture(scope="module")
def blank(browser, site_url):
    """A page with nothing on it, of the site's own origin."""
    page = browser.new_page()
    page.route(
        "**/blank",
        lambda route: route.fulfill(
            body="<!doctype html><title>Blank</title>", content_type="text/html"
        ),
    )
    page.goto(f"{site_url}blank")
    yield page
    page.close()


def start(settings, dtype):
    """A VAE, log sigma^2, its parameters in order, and batches of images and noise."""
    generator = torch.Generator().manual_seed(7)
    vae = VAE(
        settings["latent"],
        (settings["hidden"],) * settings["layers"],
        activation=KINDS[settings["activation"]],
    ).to(dtype)
    log_variance = nn.Parameter(torch.tensor([-0.5], dtype=dtype))
    layers = [layer for part in (vae.encoder, vae.decoder) for layer in linear_layers(part)[1]]
    parameters = [value for layer in layers for value in (layer.weight, layer.bias)] + [
        log_variance
    ]
    x = load_digits("train")[0][: BATCH * STEPS].to(dtype)
    if settings["likelihood"] == "bernoulli":
        x = torch.bernoulli(x, generator=generator)
    shape = (settings["draws"], BATCH, settings["latent"])
    batches = [
        (batch, torch.randn(shape, generator=generator, dtype=dtype)) for batch in x.split(BATCH)
    ]
    return vae, log_variance, parameters, batches


def flat(parameters) -> np.ndarray:
    return nn.utils.parameters_to_vector(parameters).detach().double().numpy()


def in_browser(page, settings, kind, parameters, batches):
    shape = {
        "latent": settings["latent"], "hidden": [settings["hidden"]] * settings["layers"],
        "activation": settings["activation"], "rows": BATCH, "draws": settings["draws"],
    }  # fmt: skip
    packed = [[encoded(x.numpy().tobytes()), encoded(eps.numpy().tobytes())] for x, eps in batches]
    given = [
        TEXTS["vae_lab_math"],
        encoded(WASM),
        kind,
        settings,
        shape,
        encoded(flat(parameters).tobytes()),
        packed,
    ]
    return json.loads(page.evaluate(RUN, given))


# The arithmetic -----------------------------------------------------------------------------------


def test_the_kernel_is_what_its_source_says():
    assert bytes(wasmtime.wat2wasm((HERE / "vae_lab.wat").read_text("utf-8"))) == WASM


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_bound_and_gradient_are_those_of_autograd(blank, change):
    settings = SMALL | change
    vae, log_variance, parameters, batches = start(settings, torch.double)
    found = in_browser(blank, settings, "float64", parameters, batches[:1])["seen"][0]
    value = reference(vae, log_variance, *batches[0], settings)
    value.backward()
    gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    assert found["elbo"] == pytest.approx(value.item(), abs=1e-8)
    np.testing.assert_allclose(found["gradient"], flat(gradient), atol=1e-5)


def ten_steps(settings, dtype) -> np.ndarray:
    """PyTorch's weights after them."""
    vae, log_variance, parameters, batches = start(settings, dtype)
    kind = torch.optim.SGD if settings["optimizer"] == "sgd" else torch.optim.Adam
    learned = parameters if settings["likelihood"] == "learned" else parameters[:-1]
    optimizer = kind(learned, settings["learningRate"], maximize=True)
    for x, eps in batches:
        optimizer.zero_grad()
        reference(vae, log_variance, x, eps, settings).backward()
        optimizer.step()
    return flat(parameters)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_ten_steps_end_where_pytorch_ends(blank, change):
    settings = SMALL | change
    found = in_browser(blank, settings, "float64", *start(settings, torch.double)[2:])
    np.testing.assert_allclose(found["weights"], ten_steps(settings, torch.double), atol=1e-6)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_ten_steps_in_32_bits_are_those_of_pytorch_up_to_rounding(blank, change):
    settings = SMALL | change
    given = start(settings, torch.float32)[2:]
    fast, slow = (in_browser(blank, settings, kind, *given) for kind in ("wasm", "float32"))
    assert fast == slow  # without WebAssembly, the same to the bit
    if settings["bug"] == "tanh":
        return  # behind its clamp gradients reach 1e7, and rounding decides
    apart = np.abs(fast["weights"] - ten_steps(settings, torch.float32))
    # Adam divides a gradient by its own size, and that of a few weights is rounding alone.
    assert np.quantile(apart, 0.999) < 1e-4 and apart.max() < 1e-3


SHAPES = ("hidden", "layers", "latent", "draws")


@pytest.mark.parametrize(
    "change, name",
    [
        (change, name)
        for change in CHANGES.values()
        for name in change
        if name not in SHAPES and change != {"likelihood": "grey"}  # in training alone, see below
    ],
    ids=str,
)
def test_every_switch_changes_the_weights(blank, change, name):
    settings = SMALL | change
    _, _, parameters, batches = start(settings, torch.float32)
    ends = [
        in_browser(blank, chosen, "wasm", parameters, batches)["weights"]
        for chosen in (settings, settings | {name: SMALL[name]})
    ]
    assert not np.allclose(*ends, atol=1e-4)


def test_a_sigmoid_before_the_logarithm_loses_extreme_pixels(blank):
    """Exhibit 8 in single precision, against PyTorch's own function."""
    settings = SMALL | {"bug": "sigmoid"}
    vae, log_variance, parameters, batches = start(settings, torch.float32)
    with torch.no_grad():
        for start_at, logit in enumerate([20.0, -20.0, -120.0]):
            vae.decoder.head.bias[start_at:784:3] = logit
    found = in_browser(blank, settings, "wasm", parameters, batches[:1])["seen"][0]
    value = reference(vae, log_variance, *batches[0], settings)
    value.backward()
    assert found["elbo"] == pytest.approx(value.item(), rel=1e-4)
    bias = np.array(found["gradient"][-785:-1])
    np.testing.assert_allclose(bias, vae.decoder.head.bias.grad.numpy(), atol=1e-4)
    assert (bias[::3] == 0).all() and (bias[2::3] == 0).all()  # no way back for them
    assert bias[1::3].any()


@pytest.mark.parametrize("bug", ["none", "variance", "relu", "kl-mean", "broadcast", "pixels"])
def test_a_model_is_judged_by_the_right_bound(blank, bug):
    settings = SMALL | {"bug": bug, "beta": 4, "freeBits": 0.5}
    vae, log_variance, parameters, batches = start(settings, torch.double)
    found = in_browser(blank, settings, "float64", parameters, batches[:1])["seen"][0]
    (x, eps), right = batches[0], settings | {"bug": "none", "beta": 1, "freeBits": 0}
    if bug == "relu":  # part of the model
        right["bug"] = bug
    if bug == "variance":  # what it draws is a q with twice the log-variance
        with torch.no_grad():
            heads = vae.encoder.heads
            heads.weight[settings["latent"] :] *= 2
            heads.bias[settings["latent"] :] *= 2
    assert found["judged"] == pytest.approx(
        reference(vae, log_variance, x, eps, right).item(), abs=1e-8
    )


# Training -----------------------------------------------------------------------------------------

MODULE = "\n".join(TEXTS.values())
# What happens to a training by the calls that stand in `plan`: settings, or a number of steps.
TRAIN = f"""async ([text, wasm, data, settings, plan]) => {{
    const lab = await ({IMPORT})(text);
    const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
    const set = ([pixels, labels]) => ({{ pixels: bytes(pixels), labels: bytes(labels) }});
    const kernel = wasm ? await lab.wasmKernel(bytes(wasm)) : lab.plainKernel();
    const digits = {{ train: set(data[0]), test: set(data[1]) }};
    const training = lab.createTraining(kernel, digits, settings);
    const seen = [];
    for (const act of plan) {{
        if (typeof act === "object") {{
            seen.push(training.change(act));
            continue;
        }}
        try {{
            for (let n = 0; n < act; n++) {{
                const {{ elbo, epoch }} = training.advance();
                seen.push(epoch ? [elbo, epoch.elbo] : [elbo]);
            }}
        }} catch (error) {{
            seen.push(error.message);
        }}
    }}
    const {{ elbo, logLikelihood, kl }} = training.judge();
    const {{ steps, epochs }} = training;
    const judged = [elbo, logLikelihood, kl];
    return JSON.stringify({{ seen, steps, epochs, judged, weights: [...training.weights()] }});
}}"""


def pack(x, labels):
    return [
        encoded((255 * x).round().byte().numpy().tobytes()),
        encoded(labels.byte().numpy().tobytes()),
    ]


@pytest.fixture(scope="module")
def digits():
    return [pack(*load_digits(split)) for split in ("train", "test")]


def train(page, data, plan, fast=True, **settings):
    given = [MODULE, encoded(WASM) if fast else None, data, DEFAULTS | settings, plan]
    return json.loads(page.evaluate(TRAIN, given))


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(blank, digits):
    few = {"images": 100, "batch": 20}
    first, again = (train(blank, digits, [12], **few) for _ in range(2))
    assert first == again == train(blank, digits, [12], fast=False, **few)
    assert first["weights"] != train(blank, digits, [12], seed=1, **few)["weights"]
    assert (first["steps"], first["epochs"]) == (12, 2)


def test_the_mean_over_an_epoch_is_that_of_its_images(blank, digits):
    seen = train(blank, digits, [5], images=100, batch=20)["seen"]
    assert seen[-1][1] == pytest.approx(np.mean([values[0] for values in seen]))


def test_a_step_outside_the_loop_is_one_step_an_epoch(blank, digits):
    found = train(blank, digits, [10], images=100, batch=20, bug="step")
    assert (found["steps"], found["epochs"]) == (2, 2)


def test_settings_change_while_it_trains(blank, digits):
    base = {"images": 100, "batch": 20}
    all_at_once = train(blank, digits, [10], **base, beta=4)
    changed = train(blank, digits, [5, DEFAULTS | base | {"beta": 4}, 5], **base)
    assert changed["seen"][5] is True and changed["epochs"] == 2  # it goes on
    assert changed["weights"] != all_at_once["weights"]
    # More room is another model with the same weights and moments: draws that are never used.
    roomy = train(blank, digits, [5, DEFAULTS | base | {"draws": 5}, DEFAULTS | base, 5], **base)
    assert roomy["weights"] == train(blank, digits, [10], **base)["weights"]
    anew = train(blank, digits, [5, DEFAULTS | base | {"latent": 3}], **base)
    assert anew["seen"][5] is False and anew["steps"] == 0


def test_grey_pixels_are_not_drawn_binary(blank, digits):
    few = {"images": 50, "batch": 50}
    grey, binary = (
        train(blank, digits, [3], **few, likelihood=kind) for kind in ("grey", "bernoulli")
    )
    assert grey["weights"] != binary["weights"] and grey["judged"] != binary["judged"]


def test_a_grey_value_is_the_probability_of_a_binary_pixel(blank):
    data = [pack(torch.full((50, 784), 0.25), torch.arange(50) % 10)] * 2
    found = train(blank, data, [100], images=50, batch=50, learningRate=0.01)
    entropy = -784 * (0.25 * np.log(0.25) + 0.75 * np.log(0.75))  # 441 nats
    assert found["judged"][1] == pytest.approx(-entropy, abs=10)


def test_annealing_begins_without_a_divergence(blank, digits):
    base = {"images": 100, "batch": 20, "beta": 4}
    first = train(blank, digits, [1], **base, warmup=10)["seen"]
    assert first == train(blank, digits, [1], **base | {"beta": 0})["seen"]
    late = train(blank, digits, [20], **base, warmup=2)["weights"]
    assert late != train(blank, digits, [20], **base)["weights"]


def test_only_the_chosen_digits_are_seen(blank, digits):
    count = (load_digits("train")[1] < 2).sum().item()
    steps = -(-count // 200)  # of an epoch; all digits would need 20
    some = train(blank, digits, [steps], digits="01", images=4000, batch=200)
    assert steps < 20 and some["epochs"] == 1


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"optimizer": "sgd", "learningRate": 0.1}, "SGD"),
        ({"likelihood": "learned", "learningRate": 0.1, "optimizer": "sgd"}, "SGD"),
    ],
)
def test_a_lost_bound_names_its_cause_and_leaves_weights_that_work(blank, digits, settings, words):
    found = train(blank, digits, [300], images=100, batch=20, **settings)
    assert words in found["seen"][-1]
    assert np.isfinite(found["weights"]).all() and np.isfinite(found["judged"]).all()


def test_it_learns_what_fit_learns(blank, digits):
    """Five epochs on 1,000 images, each with its own noise: held-out bounds within 3 nats."""
    found = train(blank, digits, [50], images=1000)
    vae = VAE(2, (64, 64))
    fit(vae, load_digits("train")[0][:1000], epochs=5, batch_size=100, learning_rate=0.003)
    x = torch.bernoulli(load_digits("test")[0], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = vae.elbo(x).elbo.mean().item()
    assert found["judged"][0] == pytest.approx(expected, abs=3)


# The figure ---------------------------------------------------------------------------------------


def small_lab(**settings) -> VaeLab:
    x, labels = load_digits("train")
    x_test, labels_test = load_digits("test")
    return VaeLab(
        x[:200],
        labels[:200],
        x_test[:100],
        labels_test[:100],
        **{"images": 50, "batch": 10, "hidden": 16} | settings,
    )


@pytest.fixture
def lab(open_page):
    page = render(open_page("book/glossary", figures_only=True), small_lab())
    wait_for_words(page, "after 0 epochs")
    return page


def wait_for_words(page, *words: str) -> None:
    page.wait_for_function(
        """(words) => {
            const said = document.querySelector(".em2vae-said").textContent;
            return words.every((word) => said.includes(word));
        }""",
        arg=list(words),
        timeout=20_000,
    )


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def position(page, run: int = 0) -> list[int]:
    """Epoch and step of a run, as its title says them."""
    text = page.locator(".em2vae-title").nth(run).inner_text().split("images")[0]
    return [int(n.replace(",", "")) for n in re.findall(r"(?:epoch|step) ([\d,]+)", text)]


def wait_for_position(page, kind: int, least: int, run: int = 0) -> None:
    page.wait_for_function(
        """([run, kind, least]) => {
            const title = document.querySelectorAll(".em2vae-title")[run];
            const text = title.textContent.replaceAll(",", "");
            return Number(text.match(/(?:epoch|step) (\\d+)/g)[kind].split(" ")[1]) >= least;
        }""",
        arg=[run, kind, least],
        timeout=20_000,
    )


def choose(page, label: str, value: str) -> None:
    page.get_by_label(label, exact=True).select_option(value)


def test_train_pause_step_and_start_anew(lab):
    first = words_of(lab.locator("figure"))
    press(lab, "Train")
    wait_for_position(lab, 0, 2)
    press(lab, "Pause")
    lab.wait_for_function(
        "() => !/second/.test(document.querySelector('.em2vae-title').textContent)"
    )
    paused = position(lab)
    press(lab, "One step")
    wait_for_position(lab, 1, paused[1] + 1)
    assert position(lab)[1] == paused[1] + 1
    press(lab, "Start anew")
    lab.get_by_text("A: epoch 0, step 0", exact=True).wait_for()
    wait_for_words(lab, "after 0 epochs")
    assert words_of(lab.locator("figure")) == first


def test_two_runs_do_not_disturb_each_other(lab):
    assert lab.locator(".em2vae-run").count() == 1
    press(lab, "Compare with a run B")
    choose(lab, "Settings of run", "1")
    choose(lab, "β", "8")
    wait_for_words(lab, "Run B (units in each: 16; β: 8")
    press(lab, "Start anew")
    for n in range(5):
        press(lab, "One step")
        wait_for_position(lab, 1, n + 1), wait_for_position(lab, 1, n + 1, run=1)
    numbers = re.findall(r"mini-batch: (−[\d.]+)", words_of(lab.locator("figure")))
    press(lab, "Without run B")
    press(lab, "Start anew")
    wait_for_words(lab, "after 0 epochs")
    for n in range(5):
        press(lab, "One step")
        wait_for_position(lab, 1, n + 1)
    alone = re.findall(r"mini-batch: (−[\d.]+)", words_of(lab.locator("figure")))
    assert numbers[0] == alone[0] and numbers[0] != numbers[1]


def test_ten_epochs_end_by_themselves_for_both_runs(lab):
    press(lab, "Compare with a run B")
    for end in (10, 20):
        press(lab, "Ten epochs")
        wait_for_words(lab, f"after {end} epochs")
        lab.get_by_role("button", name="Train", exact=True).wait_for()
        lab.get_by_text("paused").nth(1).wait_for()
        assert position(lab) == position(lab, 1) == [end, 5 * end]
    press(lab, "Train")
    wait_for_position(lab, 0, 21)


def test_ten_epochs_end_also_after_a_bound_was_lost(lab):
    choose(lab, "Optimizer", "sgd")
    choose(lab, "Learning rate", "1")
    press(lab, "Train")
    wait_for_words(lab, "It stopped")
    lost = position(lab)[0]
    choose(lab, "Learning rate", "0.0001")
    press(lab, "Ten epochs")
    wait_for_words(lab, f"after {lost + 10} epochs")
    lab.get_by_role("button", name="Train", exact=True).wait_for()
    wait_for_position(lab, 0, lost + 10)  # the picture comes after the words
    assert position(lab)[0] == lost + 10


def test_settings_change_while_the_page_trains(lab):
    press(lab, "Train")
    wait_for_position(lab, 0, 1)
    choose(lab, "β", "8")
    choose(lab, "Mini-batch", "50")
    wait_for_position(lab, 0, position(lab)[0] + 2)
    choose(lab, "Hidden layers", "1")  # another model
    wait_for_words(lab, "hidden layers: 1")
    wait_for_position(lab, 0, 1)
    assert lab.evaluate("model.get('settings').layers") == 1


def test_a_hidden_tab_pauses(lab):
    show = """(hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
    }"""
    press(lab, "Train")
    wait_for_position(lab, 0, 1)
    lab.evaluate(show, True)
    lab.wait_for_timeout(500)
    there = position(lab)
    lab.wait_for_timeout(500)
    assert position(lab) == there
    lab.evaluate(show, False)
    wait_for_position(lab, 0, there[0] + 1)


def test_a_lost_bound_is_explained_and_stops_the_training(lab):
    choose(lab, "Optimizer", "sgd")
    choose(lab, "Learning rate", "1")
    press(lab, "Train")
    wait_for_words(lab, "its bound was lost", "plain SGD")
    lab.get_by_role("button", name="Train", exact=True).wait_for()
    assert "NaN" not in words_of(lab.locator("figure"))


def test_bugs_bring_what_they_need_and_leave_with_it(lab):
    choose(lab, "Break it", "upside-down")
    settings = lab.evaluate("model.get('settings')")
    assert (settings["objective"], settings["draws"]) == ("iwae", 5)
    choose(lab, "Objective", "elbo")
    assert lab.evaluate("model.get('settings').bug") == "none"
    choose(lab, "Break it", "riddle-3")
    settings = lab.evaluate("model.get('settings')")
    assert (settings["bug"], settings["latent"]) == ("riddle-3", 8)  # no name is given away


def test_a_digit_travels_along(lab):
    assert lab.get_by_text("Your digit").is_hidden()
    choose(lab, "On the pad", "3")
    lab.get_by_text("Your digit").wait_for()
    press(lab, "Clear the pad")
    lab.get_by_text("Your digit").wait_for(state="hidden")
    pad = lab.locator(".em2vae-pad")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    lab.mouse.move(box["x"] + 30, box["y"] + 20)
    lab.mouse.down()
    lab.mouse.move(box["x"] + 30, box["y"] + box["height"] - 20, steps=5)
    lab.mouse.up()
    lab.get_by_text("Your digit").wait_for()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_pad_stays_in_place_while_its_digit_is_shown(lab, width):
    lab.set_viewport_size({"width": width, "height": 900})
    press(lab, "Compare with a run B")
    lab.get_by_text("B: epoch 0").wait_for()  # its pictures are drawn with it
    height = """() => document.querySelector(".em2vae-pad").getBoundingClientRect().top
        - document.querySelector("figure").getBoundingClientRect().top"""
    before = lab.evaluate(height)
    choose(lab, "On the pad", "3")
    lab.get_by_text("Your digit").nth(1).wait_for()
    assert lab.evaluate(height) == before


def test_a_long_training_is_drawn_with_as_few_points_as_it_has_pixels(open_page):
    page = open_page("book/glossary", figures_only=True)
    page.evaluate(
        """() => {
            globalThis.workers = [];
            const Real = Worker;
            globalThis.Worker = class extends Real {
                constructor(...values) { super(...values); workers.push(this); }
            };
        }"""
    )
    render(page, small_lab())
    wait_for_words(page, "after 0 epochs")
    points = page.evaluate(
        """async () => {
            const terms = { elbo: -150, logLikelihood: -140, kl: 10, klPerDim: [6, 4] };
            let count = 0;
            const { lineTo } = CanvasRenderingContext2D.prototype;
            for (let epochs = 1; epochs <= 10_000; epochs++) {
                const data = { type: "record", epochs, train: terms, test: terms };
                workers[0].onmessage({ data });
            }
            CanvasRenderingContext2D.prototype.lineTo = function (...at) {
                count++;
                return lineTo.apply(this, at);
            };
            await new Promise(requestAnimationFrame); // it draws in one asked for before
            CanvasRenderingContext2D.prototype.lineTo = lineTo;
            return count;
        }"""
    )
    wait_for_words(page, "after 10,000 epochs")
    assert page.get_by_label("Curve over 10000 epochs").count() == 3
    assert 1000 < points < 10_000  # six curves


def test_without_webassembly_it_is_slower_and_says_so(open_page):
    page = open_page("book/glossary", figures_only=True)
    page.evaluate("delete globalThis.WebAssembly")
    render(page, small_lab())
    wait_for_words(page, "after 0 epochs", "no WebAssembly")
    press(page, "Train")
    wait_for_position(page, 0, 1)


def test_a_kernel_sets_and_reads_the_settings(lab):
    settings = DEFAULTS | {"images": 50, "batch": 10, "hidden": 16, "beta": 4}
    lab.evaluate("(settings) => model.set('settings', settings)", settings)
    wait_for_words(lab, "β: 4")
    assert lab.get_by_label("β", exact=True).input_value() == "4"


# The address --------------------------------------------------------------------------------------


@pytest.fixture
def visit(open_page):
    def visit(address):
        page = open_page(f"{PAGE}.html#lab:{address}")
        wait_for_words(page, "after 0 epochs")
        return page

    return visit


def test_an_address_opens_both_runs_and_follows_the_settings(visit):
    page = visit("latent=8,beta=4;digits=01")
    wait_for_words(page, "Run A (latent dimensions: 8; β: 4)", "Run B (digits: 01)")
    choose(page, "β", "16")
    assert page.evaluate("location.hash") == "#lab:latent=8,beta=16;digits=01"
    page.evaluate("location.hash = '#lab:seed=3'")
    wait_for_words(page, "Run A (seed: 3)")
    assert page.locator(".em2vae-run").count() == 1


@pytest.mark.parametrize(
    "address, words",
    [
        ("beta=3", "beta is 3"),
        ("gamma=1", "a setting gamma"),
        ("latent=2.5", "latent is 2.5"),
        ("digits=x", "digits is x"),
        ("seed=1;seed=2;seed=3", "more than two runs"),
    ],
)
def test_a_damaged_address_says_so_and_gives_the_defaults(visit, address, words):
    page = visit(address)
    wait_for_words(page, "The address is damaged", words, "Run A after 0 epochs")


def test_links_of_the_book_open_the_lab_with_settings_that_it_knows(site):
    pages = [page.read_text("utf-8") for page in site.glob("book/*.html")]
    links = {link for page in pages for link in re.findall(r'href="lab.html#lab:([^"]*)"', page)}
    assert len(links) >= 5
    for part in [part for link in links for part in link.split(";")]:
        pairs = dict(pair.split("=") for pair in part.split(",") if pair)
        kinds = {name: type(DEFAULTS[name]) for name in pairs}
        check_settings(
            {
                name: kinds[name](float(v)) if kinds[name] is not str else v
                for name, v in pairs.items()
            }
        )


def test_each_preset_opens(visit):
    page = visit("")
    picker = page.get_by_label("Try", exact=True)
    for value in picker.locator("option").evaluate_all("(all) => all.map((e) => e.value)"):
        picker.select_option(value)
        wait_for_words(page, "after 0 epochs")
        assert page.evaluate("location.hash").startswith("#lab:")
    assert page.locator(".em2vae-run").count() == 2


# Files and Python ---------------------------------------------------------------------------------


def test_saved_weights_are_a_vae_in_python(lab, tmp_path):
    press(lab, "One step")
    wait_for_position(lab, 1, 1)
    with lab.expect_download() as download:
        press(lab, "Save the weights")
    path = tmp_path / "vae.lab"
    download.value.save_as(path)
    vae = load(path)
    assert (vae.latent_dim, vae.encoder.body[0].out_features) == (2, 16)
    own = VAE(2, (16, 16))
    assert not torch.equal(vae.encoder.heads.weight, own.encoder.heads.weight)
    _, _, data = path.read_bytes().partition(b"\n")
    assert np.frombuffer(data, "<f4")[0] == vae.encoder.body[0].weight[0, 0].item()
    assert np.frombuffer(data, "<f4")[-2] == vae.decoder.head.bias[-1].item()


def saved(path: Path, data: bytes, **header) -> Path:
    line = json.dumps(
        {"format": "em2vae lab 1", "settings": {"hidden": 16}, "crc32": zlib.crc32(data)} | header
    )
    path.write_bytes(line.encode() + b"\n" + data)
    return path


COUNT = sum(p.numel() for p in VAE(2, (16, 16)).parameters()) + 1


@pytest.mark.parametrize(
    "data, header, words",
    [
        (bytes(4 * COUNT), {"format": "else"}, "not written by the lab"),
        (bytes(4 * COUNT), {"crc32": 1}, "damaged"),
        (bytes(4 * COUNT + 1), {}, "damaged"),
        (bytes(4 * COUNT - 4), {}, f"weights must be {COUNT} for these settings, got {COUNT - 1}"),
        (bytes(4 * COUNT), {"settings": {"hidden": 17}}, "hidden must be one of"),
        (bytes(4 * COUNT), {"settings": {"width": 16}}, "settings must be among"),
        (bytes(4 * COUNT), {"settings": {"hidden": 16, "bug": "tanh"}}, "no VAE computes"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_by_name(tmp_path, data, header, words):
    with pytest.raises(ValueError, match=words):
        load(saved(tmp_path / "vae.lab", data, **header))


def test_no_file_and_no_training_are_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.lab")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ValueError, match="not written by the lab"):
        load(tmp_path / "text")
    with pytest.raises(ValueError, match="press Train"):
        small_lab().vae  # noqa: B018


def test_settings_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="beta must be one of"):
        small_lab(beta=3)
    with pytest.raises(ValueError, match="latent must be from 1 to 20"):
        check_settings({"latent": 21})
    with pytest.raises(ValueError, match="digits must be a text of digits"):
        check_settings({"digits": ""})
    lab = small_lab()
    with pytest.raises(traitlets.TraitError, match="settings must be among"):
        lab.settings = {"gamma": 1}
    lab.settings = {"beta": 4}
    assert lab.settings == DEFAULTS | {"beta": 4}


def test_the_model_of_a_notebook_has_the_weights_of_its_page():
    lab = small_lab()
    values = np.arange(COUNT, dtype="<f4")
    lab._weights = values.tobytes()
    parameters = nn.utils.parameters_to_vector(lab.vae.parameters()).detach().numpy()
    assert parameters.tolist() == values[:-1].tolist()
    assert lab.vae.encoder.body[0].bias[0].item() == 16 * 784
