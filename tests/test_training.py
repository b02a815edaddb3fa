import copy
import math
import subprocess
import sys
from itertools import count, pairwise
from types import SimpleNamespace

import pytest
import torch

from em2vae import VAE, ElboTerms, History, fit, load_digits, training
from em2vae.data import binarize, draw_binary

PIXELS = 8


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_vae(seed=0):
    return VAE(latent_dim=2, hidden_dims=(16,), data_dim=PIXELS, seed=seed)


@pytest.fixture
def x():
    """Ten different binary images."""
    return torch.tensor([[(i >> bit) & 1 for bit in range(PIXELS)] for i in range(10)]).float()


@pytest.fixture
def grey(x):
    return 0.2 + 0.6 * x


def watch(model, monkeypatch):
    """Every batch that reaches the bound, with the terms that came out of it."""
    seen, elbo = [], model.elbo

    def watched(x, **options):
        seen.append((x.clone(), elbo(x, **options)))
        return seen[-1][1]

    monkeypatch.setattr(model, "elbo", watched)
    return seen


def weights(model):
    return torch.cat([weight.detach().ravel() for weight in model.parameters()])


def mean_elbo(model, x):
    with torch.no_grad():
        return model.elbo(x, n_samples=100, generator=seeded(1)).elbo.mean().item()


def test_fit_improves_the_bound(x):
    model = small_vae()
    before = mean_elbo(model, x)
    history = fit(model, x.repeat(50, 1), epochs=40, learning_rate=1e-2)
    after = mean_elbo(model, x)
    # Ten equally frequent images: no model can do better than -log 10 = -2.3 nats.
    assert before < -5.4
    assert -4.5 < after < -math.log(10)
    assert history.elbo[-1] == pytest.approx(after, abs=0.3)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_history_holds_the_mean_of_every_epoch(x, monkeypatch, beta):
    model = small_vae()
    seen = watch(model, monkeypatch)
    history = fit(model, x, epochs=3, batch_size=4, beta=beta)
    for name in ElboTerms._fields:
        values = torch.cat([getattr(terms, name).detach() for _, terms in seen])
        expected = values.reshape(3, len(x)).mean(1).tolist()
        assert getattr(history, name) == pytest.approx(expected, rel=1e-5)
    for elbo, fit_term, kl in zip(history.elbo, history.log_likelihood, history.kl, strict=True):
        assert elbo == pytest.approx(fit_term - beta * kl, rel=1e-5)
    assert len(history.seconds) == 3
    assert min(history.seconds) > 0


def test_the_seconds_are_those_of_each_epoch(x, monkeypatch):
    """By a clock that moves by one whenever it is read."""
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=count().__next__))
    assert fit(small_vae(), x, epochs=3).seconds == [1, 1, 1]


def test_fit_leaves_the_model_in_training_mode(x):
    model = small_vae().eval()
    fit(model, x, epochs=1)
    assert all(module.training for module in model.modules())


def test_the_images_are_checked_once(x, monkeypatch):
    """Not in every mini-batch: that would read all pixels again."""

    calls = []
    monkeypatch.setattr("em2vae.vae.check_data", lambda *args, **options: calls.append(args))
    assert len(fit(small_vae(), x, epochs=2, batch_size=4, binarize="none").elbo) == 2
    assert len(calls) == 1


def test_an_epoch_visits_every_image_once_in_a_new_order(x, monkeypatch):
    model = small_vae()
    seen = watch(model, monkeypatch)
    fit(model, x, epochs=2, batch_size=4, binarize="none")
    assert [len(batch) for batch, _ in seen] == [4, 4, 2] * 2
    epochs = [torch.cat([batch for batch, _ in seen[i : i + 3]]) for i in (0, 3)]
    numbers = [(epoch @ 2.0 ** torch.arange(PIXELS)).tolist() for epoch in epochs]
    assert sorted(numbers[0]) == sorted(numbers[1]) == list(range(10))
    assert numbers[0] != numbers[1]
    assert list(range(10)) not in numbers


def batches_by_epoch(monkeypatch, x, mode):
    """The images of three epochs, each of them one batch."""
    model = small_vae()
    seen = watch(model, monkeypatch)
    fit(model, x, epochs=3, batch_size=len(x), binarize=mode)
    return [batch for batch, _ in seen]


def test_stochastic_binarization_draws_anew_in_every_epoch(monkeypatch):
    x = torch.linspace(0, 1, PIXELS).repeat(4_000, 1)
    epochs = batches_by_epoch(monkeypatch, x, "stochastic")
    assert all(bool(((b == 0) | (b == 1)).all()) for b in epochs)
    assert not torch.equal(epochs[0].sum(0), epochs[1].sum(0))
    error = (x[0] * (1 - x[0]) / len(x)).sqrt()
    for batch in epochs:
        assert ((batch.mean(0) - x[0]).abs() <= 5 * error).all()


def test_fixed_binarization_draws_once(monkeypatch):
    x = torch.linspace(0, 1, PIXELS).repeat(4_000, 1)
    first, *others = batches_by_epoch(monkeypatch, x, "fixed")
    assert bool(((first == 0) | (first == 1)).all())
    error = (x[0] * (1 - x[0]) / len(x)).sqrt()
    assert ((first.mean(0) - x[0]).abs() <= 5 * error).all()

    def sorted_rows(batch):
        return batch[(batch @ 2.0 ** torch.arange(PIXELS)).argsort()]

    for other in others:
        assert not torch.equal(other, first)  # shuffled
        assert torch.equal(sorted_rows(other), sorted_rows(first))


def test_fixed_images_are_the_first_that_the_stream_gives(grey):
    """Order and noise come after them, from draws of their own."""
    model, plain, generator = small_vae(), small_vae(), seeded(2)
    fit(model, grey, epochs=1, batch_size=4, binarize="fixed", seed=2)
    images = draw_binary(grey, generator)
    for rows in torch.randperm(len(grey), generator=generator).split(4):
        plain.elbo(images[rows], generator=generator)
    assert torch.equal(model.training_state.generator.get_state(), generator.get_state())


def test_fit_leaves_the_images_alone(grey):
    before = grey.clone()
    for mode in ("stochastic", "fixed"):
        fit(small_vae(), grey, epochs=1, binarize=mode)
    assert torch.equal(grey, before)


def test_on_epoch_is_called_before_the_first_and_after_each(x):
    model, calls = small_vae(), []
    start = weights(model)
    fit(model, x, epochs=3, on_epoch=lambda done: calls.append((done, weights(model))))
    assert [done for done, _ in calls] == [0, 1, 2, 3]
    assert torch.equal(calls[0][1], start)
    assert torch.equal(calls[-1][1], weights(model))
    steps = [(b - a).abs().max() for (_, a), (_, b) in pairwise(calls)]
    assert min(steps) > 0


def test_the_first_step_of_adam_is_the_learning_rate(x):
    model = small_vae()
    before = weights(model)
    fit(model, x, epochs=1, batch_size=10, learning_rate=3e-3)
    assert (weights(model) - before).abs().max().item() == pytest.approx(3e-3, rel=1e-2)


def test_fit_is_the_plain_loop(grey):
    """Over the ends of epochs and their smaller last mini-batch; Adam's means stay as they are."""
    model, plain = small_vae(), small_vae()
    history = fit(model, grey, epochs=6, batch_size=4, learning_rate=1e-2, seed=2)
    optimizer, generator = torch.optim.Adam(plain.parameters(), 1e-2), seeded(2)
    for epoch in range(6):
        bounds = []
        for rows in torch.randperm(len(grey), generator=generator).split(4):
            terms = plain.elbo(draw_binary(grey[rows], generator), generator=generator)
            optimizer.zero_grad()
            (-terms.elbo.mean()).backward()
            optimizer.step()
            bounds += terms.elbo.tolist()
        assert history.elbo[epoch] == pytest.approx(sum(bounds) / len(grey), rel=1e-4)
    torch.testing.assert_close(weights(model), weights(plain), rtol=1e-4, atol=1e-5)
    ours = model.training_state.moments
    for name, parameter in plain.named_parameters():
        theirs = optimizer.state[parameter]
        torch.testing.assert_close(ours[name]["exp_avg"], theirs["exp_avg"], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(
            ours[name]["exp_avg_sq"], theirs["exp_avg_sq"], rtol=1e-3, atol=1e-6
        )


def test_the_steps_are_those_of_adam_to_the_bit(x):
    """And a weight that has no gradient is left alone."""
    model, plain = small_vae(), small_vae()
    for each in (model, plain):
        each.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
    fit(model, x, epochs=3, batch_size=len(x), learning_rate=1e-2, binarize="none")
    adam = torch.optim.Adam(plain.parameters(), 1e-2, maximize=True, fused=True)
    generator = seeded()
    for _ in range(3):
        rows = torch.randperm(len(x), generator=generator)
        adam.zero_grad()
        plain.elbo(x[rows], generator=generator).elbo.mean().backward()
        adam.step()
    assert torch.equal(weights(model), weights(plain))


def test_a_training_does_without_the_compiler():
    """To import it takes longer than a short training."""
    code = "import sys, torch, em2vae as e; e.fit(e.VAE(2, (4,)), torch.ones(1, 784), 1)"
    code = f"{code}; print('torch._dynamo' in sys.modules)"
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "False\n"


def test_beta_decides_how_much_is_spent_on_the_code(x):
    options = {"epochs": 40, "learning_rate": 1e-2}
    cheap, dear = (fit(small_vae(), x.repeat(20, 1), beta=b, **options).kl[-1] for b in (0.1, 5.0))
    assert cheap > 3
    assert dear < 0.1


def test_a_seed_fixes_order_binarization_and_noise(grey):
    def outcome(seed):
        model = small_vae()
        history = fit(model, grey, epochs=3, batch_size=4, seed=seed)
        return weights(model), history.elbo

    (first, first_elbo), (again, again_elbo), (other, _) = (outcome(seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert first_elbo == again_elbo
    assert not torch.equal(first, other)


# Called again


def same(model, other):
    assert torch.equal(weights(model), weights(other))
    assert torch.equal(model.elbo(OFF).elbo, other.elbo(OFF).elbo)  # the noise as well


OFF = torch.zeros(2, PIXELS)
OPTIONS = {"batch_size": 4, "learning_rate": 1e-2, "seed": 3}


@pytest.mark.parametrize("mode", ["stochastic", "fixed", "none"])
def test_thirty_calls_of_one_epoch_equal_one_call_of_thirty(x, grey, mode):
    images = x if mode == "none" else grey
    one, many = small_vae(), small_vae()
    history = fit(one, images, epochs=30, binarize=mode, **OPTIONS)
    parts = [fit(many, images, epochs=1, binarize=mode, **OPTIONS) for _ in range(30)]
    same(one, many)
    for name in ElboTerms._fields:
        assert [getattr(part, name)[0] for part in parts] == getattr(history, name)


def test_fixed_images_stay_the_same_in_a_later_call(monkeypatch):
    x = torch.linspace(0, 1, PIXELS).repeat(50, 1)
    model = small_vae()
    seen = watch(model, monkeypatch)
    for _ in range(3):
        fit(model, x, epochs=1, batch_size=50, binarize="fixed")
    rows = [sorted(map(tuple, batch.tolist())) for batch, _ in seen]
    assert rows[0] == rows[1] == rows[2]
    orders = [batch.tolist() for batch, _ in seen]
    assert orders[0] != orders[1] != orders[2]


def test_no_seed_continues_and_another_seed_starts_new_streams(grey):
    def trained(*seeds):
        model = small_vae()
        for seed in seeds:
            fit(model, grey, epochs=2, batch_size=4, seed=seed)
        return weights(model)

    assert torch.equal(trained(None, None), trained(0, 0))
    assert torch.equal(trained(3, None), trained(3, 3))
    assert not torch.equal(trained(3, None), trained(3, 0))
    assert not torch.equal(trained(3, None), trained(3, 4))
    assert torch.equal(trained(3, 4, None), trained(3, 4, 4))

    first, again = small_vae(), small_vae()
    orders = []
    for model, seeds in ((first, (5,)), (again, (3, 5))):
        for seed in seeds:
            fit(model, grey, epochs=1, seed=seed)
        orders.append(model.training_state.generator.get_state())
    assert torch.equal(*orders)


def test_another_seed_and_learning_rate_keep_the_moments_of_adam(x):
    """A fresh Adam would step by the learning rate; a warm one, with its gradients gone, less."""
    model = small_vae()
    fit(model, x, epochs=200, batch_size=10, binarize="none", learning_rate=1e-2)
    before = weights(model)
    fit(model, x, epochs=1, batch_size=10, binarize="none", learning_rate=1e-3, seed=1)
    step = (weights(model) - before).abs()
    assert 0 < step.max().item() < 0.9e-3
    assert all(m["step"].item() == 201 for m in model.training_state.moments.values())


def test_a_layer_that_is_replaced_starts_with_moments_of_zero(x):
    model = small_vae()
    fit(model, x, epochs=3, binarize="none")
    model.decoder.head = torch.nn.Linear(16, PIXELS)
    model.encoder.heads = torch.nn.Linear(16, 4)  # of the same sizes: its name is what counts
    model.decoder.body = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh())
    fit(model, x, epochs=1, binarize="none")
    wider = torch.nn.Linear(PIXELS, 24)
    model.encoder.body, model.encoder.heads = torch.nn.Sequential(wider), torch.nn.Linear(24, 4)
    fit(model, x, epochs=1, binarize="none")
    steps = {name: m["step"].item() for name, m in model.training_state.moments.items()}
    assert steps["encoder.body.0.weight"] == 1
    assert steps["decoder.head.bias"] == 5


def test_the_moments_follow_the_model_to_another_dtype(x):
    model = small_vae()
    fit(model, x, epochs=2, binarize="none")
    fit(model.double(), x.double(), epochs=1, binarize="none")
    for moments in model.training_state.moments.values():
        assert moments["exp_avg"].dtype == moments["exp_avg_sq"].dtype == torch.double
        assert moments["step"].item() == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_training_goes_on_on_another_device(grey):
    stays, moves = small_vae(), small_vae()
    for device in ("cpu", "cuda", "cpu"):
        fit(stays, grey, epochs=2, batch_size=4)
        fit(moves, grey, epochs=2, batch_size=4, device=device)
    torch.testing.assert_close(weights(moves), weights(stays), atol=1e-4, rtol=1e-3)


def test_a_copy_trains_on_by_itself(grey):
    model = small_vae()
    fit(model, grey, epochs=2, batch_size=4)
    twin = copy.deepcopy(model)
    for each in (model, twin):
        fit(each, grey, epochs=2, batch_size=4)
    same(model, twin)
    fit(twin, grey, epochs=1)
    assert model.training_state.epochs == 4
    assert twin.training_state.epochs == 5


def test_an_interrupt_returns_the_history_and_training_goes_on(x):
    model, calls = small_vae(), []

    def interrupt(done):
        calls.append(done)
        if done == 3:
            raise KeyboardInterrupt

    history = fit(model, x, epochs=10, binarize="none", on_epoch=interrupt)
    assert calls == [0, 1, 2, 3]
    assert [len(values) for values in vars(history).values()] == [3] * 4
    other = small_vae()
    fit(other, x, epochs=3, binarize="none")
    for each in (model, other):
        fit(each, x, epochs=2, binarize="none")
    same(model, other)


def test_an_interrupt_within_an_epoch_loses_that_epoch_alone(x, monkeypatch):
    model = small_vae()
    elbo, left = model.elbo, [7]  # three mini-batches an epoch

    def interrupted(*args, **options):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return elbo(*args, **options)

    monkeypatch.setattr(model, "elbo", interrupted)
    history = fit(model, x, epochs=10, batch_size=4, binarize="none")
    assert [len(values) for values in vars(history).values()] == [2] * 4
    assert len(fit(model, x, epochs=2, batch_size=4, binarize="none").elbo) == 2
    assert model.training_state.epochs == 4


def test_an_interrupt_before_the_first_epoch_gives_an_empty_history(x):
    def interrupt(done):
        raise KeyboardInterrupt

    assert vars(fit(small_vae(), x, on_epoch=interrupt)) == vars(History())


def test_on_epoch_counts_the_epochs_of_all_calls(x):
    model, calls = small_vae(), []
    for epochs in (2, 1, 3):
        fit(model, x, epochs=epochs, on_epoch=calls.append)
    assert calls == list(range(7))


# Models that are not a VAE


class Coin(torch.nn.Module):
    """p(x | label) with one logit a pixel and label; x need not be binary, nor float."""

    def __init__(self):
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(2, PIXELS))

    def elbo(self, x, labels, generator=None):
        log_likelihood = torch.distributions.Bernoulli(logits=self.logits[labels]).log_prob(
            x.float()
        )
        log_likelihood = log_likelihood.sum(-1)  # over pixels
        return ElboTerms(log_likelihood, log_likelihood, torch.zeros_like(log_likelihood))


@pytest.mark.parametrize("batch_size", [4, 10])
def test_fit_trains_what_has_an_elbo_and_labels_travel_beside_x(x, batch_size):
    labels = (x.sum(-1) > 1).long()
    model, again = Coin(), Coin()
    options = {"batch_size": batch_size, "learning_rate": 0.05, "binarize": "none"}
    fit(model, x.long(), epochs=400, labels=labels, **options)
    for label in (0, 1):
        means = x[labels == label].mean(0)
        assert torch.allclose(model.logits[label].sigmoid(), means, atol=0.08)
    for epochs in (100, 300):
        fit(again, x.long(), epochs=epochs, labels=labels, **options)
    assert torch.equal(again.logits, model.logits)


def test_what_fit_cannot_train_is_refused(x, grey):
    with pytest.raises(TypeError, match=r"model must have a method elbo\(x, ...\), and Linear"):
        fit(torch.nn.Linear(2, 2), x)
    with pytest.raises(TypeError, match="unexpected keyword argument 'beta'"):
        fit(Coin(), x, beta=2.0, binarize="none", labels=torch.zeros(10).long())
    for bad in (torch.zeros(9).long(), torch.zeros(11).long(), [0] * 10):
        with pytest.raises(ValueError, match="labels must be a tensor of 10, one for each image"):
            fit(Coin(), x, labels=bad)
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        fit(Coin(), 2 * x, labels=torch.zeros(10).long())
    with pytest.raises(ValueError, match="at least one example"):
        fit(Coin(), x[:0], binarize="none")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_device_may_be_a_name_or_a_device(x, device):
    model = small_vae()
    fit(model, x, epochs=1, device=device)
    assert {weight.device.type for weight in model.parameters()} == {"cpu"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here")
def test_training_on_a_gpu_follows_the_cpu(grey):
    models = {device: small_vae() for device in ("cpu", "cuda")}
    curves = [fit(m, grey, epochs=5, batch_size=4, device=d).elbo for d, m in models.items()]
    assert curves[0] == pytest.approx(curves[1], abs=1e-3)
    assert {weight.device.type for weight in models["cuda"].parameters()} == {"cuda"}


def test_an_unknown_device_is_refused(x):
    with pytest.raises(RuntimeError, match="nowhere"):
        fit(small_vae(), x, epochs=1, device="nowhere")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"epochs": 1.5}, r"epochs must be a whole number of at least 1, got 1\.5"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"batch_size": -128}, "batch_size must be a whole number of at least 1, got -128"),
        ({"learning_rate": 0.0}, r"learning_rate must be positive and finite, got 0\.0"),
        ({"learning_rate": -1e-3}, r"learning_rate must be positive and finite, got -0\.001"),
        ({"learning_rate": math.nan}, "learning_rate must be positive and finite, got nan"),
        ({"learning_rate": math.inf}, "learning_rate must be positive and finite, got inf"),
        ({"seed": 1.5}, r"seed must be a whole number of 64 bits or None, got 1\.5"),
        ({"seed": "0"}, "seed must be a whole number of 64 bits or None, got '0'"),
        ({"seed": True}, "seed must be a whole number of 64 bits or None, got True"),
        ({"seed": 2**63}, f"seed must be a whole number of 64 bits or None, got {2**63}"),
        ({"free_bits": -1.0}, r"free_bits must be a finite number of at least 0, got -1\.0"),
        ({"beta": -1.0}, r"beta must be a finite number of at least 0, got -1\.0"),
        ({"beta": math.nan}, "beta must be a finite number of at least 0, got nan"),
        ({"binarize": "threshold"}, "binarize must be 'stochastic', 'fixed' or 'none'"),
        ({"binarize": None}, "binarize must be 'stochastic', 'fixed' or 'none', got None"),
    ],
)
def test_bad_options_are_refused_before_anything_changes(x, options, message):
    model, calls = small_vae(), []
    before = weights(model)
    with pytest.raises(ValueError, match=message):
        fit(model, x, on_epoch=calls.append, **options)
    assert calls == []
    assert torch.equal(weights(model), before)


def test_grey_values_need_binarization(grey):
    calls = []
    with pytest.raises(ValueError, match=r"x must be binary.*fit\(\.\.\., binarize='stochastic'\)"):
        fit(small_vae(), grey, epochs=1, binarize="none", on_epoch=calls.append)
    assert calls == []  # refused at once, not in the first batch


def test_a_bound_that_is_not_finite_stops_the_training(x):
    model = small_vae()
    with torch.no_grad():
        model.encoder.heads.bias.fill_(1e30)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(FloatingPointError, match=r"the bound became (-inf|nan).*than 0\.005"):
        fit(model, x, epochs=2, learning_rate=5e-3)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("value", [-math.inf, math.inf, math.nan])
def test_every_kind_of_bound_that_is_no_number_is_named(x, monkeypatch, value):
    model, elbo = small_vae(), VAE.elbo

    def spoilt(x, **options):
        terms = elbo(model, x, **options)
        return terms._replace(elbo=terms.elbo + value)

    monkeypatch.setattr(model, "elbo", spoilt)
    with pytest.raises(FloatingPointError, match=f"the bound became {value}: try a smaller"):
        fit(model, x, epochs=1)


def test_quality_of_a_small_budget():
    """Five epochs on the bundled digits: a silent loss of nats fails here."""
    model = VAE(latent_dim=20, hidden_dims=(400,), seed=0)
    fit(model, load_digits("train")[0], epochs=5, batch_size=128, learning_rate=1e-3, seed=0)
    x = binarize(load_digits("test")[0])
    with torch.no_grad():
        terms = model.elbo(x, n_samples=10, generator=seeded())
    # Other seeds gave -162.6 and -160.0; a drift beyond that is no rounding.
    assert terms.elbo.mean().item() == pytest.approx(-160.9, abs=2.0)
    assert terms.kl.mean().item() == pytest.approx(14.1, abs=1.0)


def test_adam_keeps_no_denormal_numbers(monkeypatch):
    """One image in 1,500 shows ink in the first pixel: its weights' running means die away."""
    made = []

    class Adam(training._Adam):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(training, "_Adam", Adam)
    x = torch.zeros(1_500, PIXELS)
    x[0, 0] = x[1::2, 1] = 1.0
    model = small_vae()
    fit(model, x, epochs=1, batch_size=1, binarize="none")
    running = made[0].state[model.encoder.body[0].weight]["exp_avg"].abs()
    assert running[:, 0].max() == 0
    assert running[:, 1].max() > 1e-6


def test_only_running_means_that_move_no_weight_are_dropped():
    means = torch.tensor([1e-15, -1e-15, 1e-17, -1e-17, 1e-40])
    state = {"exp_avg": means.clone(), "exp_avg_sq": means.abs()}
    training._drop_denormals(SimpleNamespace(state={"weight": state}))
    assert torch.equal(state["exp_avg"], torch.cat([means[:2], torch.zeros(3)]))
    assert torch.equal(state["exp_avg_sq"], means.abs())
