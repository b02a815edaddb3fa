"""The VAE of strings of chapter 19: probabilities that sum to one, its bound and the remedies."""

import copy
import itertools
import math

import pytest
import torch
from monte_carlo import Z_MAX, z_score
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import pad

from em2vae import fit, iwae_bound, load, save
from em2vae.bounds import log_weights
from em2vae.names import encode_names
from em2vae.recurrent import before, up_to_end
from em2vae.sequence import SequenceVAE

REACHES = [None, 0, 1, 2]
X = torch.tensor([[1, 2, 2, 0, 0], [2, 0, 0, 0, 0], [0, 0, 0, 0, 0], [2, 1, 1, 2, 0]])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small(latent_dim=2, reach=None, **options):
    """A model of two letters in double precision, far enough from its start that all matters."""
    model = SequenceVAE(latent_dim, 5, 4, n_letters=2, reach=reach, seed=1, **options).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight *= 2
    return model.eval()


def strings(length):
    """All strings of two letters and this length, (2**length, length + 1), with their end."""
    rows = list(itertools.product((1, 2), repeat=length))
    return pad(torch.tensor(rows, dtype=torch.int64).view(len(rows), length), (0, 1))


def points(n, latent_dim=2):
    return torch.randn(n, latent_dim, generator=seeded(3)).double()


# Probabilities


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("latent_dim", [0, 2])
def test_all_strings_up_to_a_length_and_what_goes_on_sum_to_one(latent_dim, reach):
    model, z = small(latent_dim, reach), points(1, latent_dim)
    total = 0.0
    for length in range(5):
        x = strings(length)
        total += model.decode(z.expand(len(x), -1)).log_prob(x).sum(-1).exp().sum()
    x = strings(5)  # those whose first five letters are given, however they go on
    begun = model.decode(z.expand(len(x), -1)).log_prob(x)[:, :5].sum(-1).exp().sum()
    assert 0.001 < begun < 0.99
    assert (total + begun).item() == pytest.approx(1, abs=1e-12)


def test_the_decoder_is_a_gru_written_out():
    model, z = small(), points(1)
    decoder, gru = model.decoder, model.decoder.gru
    hidden, nats = torch.zeros(5).double(), []
    for last, letter in ((0, 1), (1, 2), (2, 2), (2, 0)):  # the string 1 2 2
        a = decoder.embed.weight[last] + decoder.code.weight @ z[0]
        from_input = (gru.weight_ih_l0 @ a + gru.bias_ih_l0).view(3, 5)
        from_state = (gru.weight_hh_l0 @ hidden + gru.bias_hh_l0).view(3, 5)
        reset, keep = (from_input[:2] + from_state[:2]).sigmoid()
        new = (from_input[2] + reset * from_state[2]).tanh()
        hidden = (1 - keep) * new + keep * hidden
        logits = decoder.head.weight @ hidden + decoder.head.bias
        nats.append(logits.log_softmax(-1)[letter])
    torch.testing.assert_close(model.decode(z).log_prob(X[:1])[0, :4], torch.stack(nats))


@pytest.mark.parametrize("reach", REACHES)
def test_what_stands_behind_the_end_changes_nothing(reach):
    model, z = small(reach=reach), points(4)
    longer, other = pad(X, (0, 3)), X.clone()
    other[0, 4], other[1, 2] = 2, 1  # letters behind an end
    for x in (longer, other):
        for name in ("mean", "log_var"):
            torch.testing.assert_close(
                getattr(model.encode(X), name), getattr(model.encode(x), name)
            )
        ours, theirs = (model.decode(z).log_prob(each).sum(-1) for each in (X, x))
        torch.testing.assert_close(ours, theirs)
    assert (model.decode(z).log_prob(X)[1, 2:] == 0).all()


def test_the_places_that_count_are_the_letters_and_one_end():
    assert up_to_end(X).sum(-1).tolist() == [4, 2, 1, 5]
    assert up_to_end(torch.tensor([[1, 0, 2, 0]])).tolist() == [[True, True, False, False]]
    assert before(X)[0].tolist() == [0, 1, 2, 2, 0]


@pytest.mark.parametrize("reach", REACHES)
def test_a_decoder_sees_as_many_letters_back_as_it_may(reach):
    model, z, x = small(reach=reach), points(1), torch.tensor([[1, 2, 1, 2, 1, 0]])
    logits = model.decoder.logits(before(x), z)[0, 4]  # of the fifth letter
    for place in range(4):
        changed = x.clone()
        changed[0, place] = 3 - x[0, place]
        moved = model.decoder.logits(before(changed), z)[0, 4] - logits
        seen = reach is None or place >= 4 - reach
        assert (moved.abs().max().item() > 1e-6) == seen


# The bound


def test_the_terms_of_the_bound_are_what_they_say():
    model = small()
    terms = model.elbo(X, n_samples=3, generator=seeded())
    q_z = model.encode(X)
    z = q_z.mean + q_z.stddev * model.noise(q_z.mean, 3, seeded())
    log_p = torch.stack([model.decode(each).log_prob(X).sum(-1) for each in z])  # (S, B)
    torch.testing.assert_close(terms.log_likelihood, log_p.mean(0))
    torch.testing.assert_close(terms.kl, kl_divergence(q_z, Normal(0.0, 1.0)).sum(-1))
    torch.testing.assert_close(terms.elbo, terms.log_likelihood - terms.kl)
    torch.testing.assert_close(model(X, generator=seeded()),
                               model.elbo(X, generator=seeded()).elbo.mean())  # fmt: skip


def exact(model, x):
    """log p(x) of a model with one latent dimension, by quadrature on [-9, 9]: (B,), in nats."""
    z = torch.linspace(-9, 9, 1001).double()[:, None, None]
    log_p = model.decode(z.expand(-1, len(x), -1)).log_prob(x).sum(-1)  # (G, B)
    log_prior = Normal(0.0, 1.0).log_prob(z[..., 0])
    return (log_p + log_prior).logsumexp(0) + math.log(18 / 1000)


@pytest.mark.parametrize("reach", [None, 1])
def test_importance_weights_average_to_the_exact_probability(reach):
    model = small(1, reach)
    with torch.no_grad():
        log_p = exact(model, X)
        weights = (log_weights(model, X, 4000, seeded()) - log_p).exp()  # mean 1
        elbo = model.elbo(X, 4000, generator=seeded()).elbo
    assert weights.std() > 0.05
    assert z_score(weights, 1.0) < Z_MAX
    assert (elbo < log_p).all()


def test_the_exact_probabilities_of_all_strings_sum_to_one():
    model = small(1)
    with torch.no_grad():
        short = sum(exact(model, strings(length)).exp().sum() for length in range(7))
    assert 0.9 < short < 1


def test_the_importance_weighted_bound_is_made_of_these_weights():
    model = small()
    with torch.no_grad():
        bound = iwae_bound(model, X, 7, seeded())
        weights = log_weights(model, X, 7, seeded())
    torch.testing.assert_close(bound, weights.logsumexp(0) - math.log(7))


def test_without_a_code_one_draw_is_the_exact_probability():
    model = small(0)
    log_p = model.decode(torch.zeros(4, 0).double()).log_prob(X).sum(-1)
    terms = model.elbo(X)
    torch.testing.assert_close(iwae_bound(model, X, 1), log_p)
    torch.testing.assert_close(terms.elbo, log_p)
    assert (terms.kl == 0).all()


# The remedies


def gradients(model, bound):
    model.zero_grad()
    bound.mean().backward()
    return {name: w.grad.clone() for name, w in model.named_parameters() if w.grad is not None}


def test_annealing_weighs_the_kl_and_nothing_else():
    model = small()
    plain, quarter = (model.elbo(X, beta=beta, generator=seeded()) for beta in (1.0, 0.25))
    torch.testing.assert_close(quarter.log_likelihood, plain.log_likelihood)
    torch.testing.assert_close(quarter.kl, plain.kl)
    torch.testing.assert_close(quarter.elbo, plain.log_likelihood - 0.25 * plain.kl)
    free = gradients(model, model.elbo(X, beta=0.0, generator=seeded()).elbo)
    reading = gradients(model, model.elbo(X, generator=seeded()).log_likelihood)
    assert free.keys() == reading.keys()
    for name in free:
        torch.testing.assert_close(free[name], reading[name])


def test_free_bits_take_the_place_of_a_smaller_kl_of_a_dimension():
    model = small()
    plain = model.elbo(X, generator=seeded())
    q_z = model.encode(X)
    per_dim = kl_divergence(q_z, Normal(0.0, 1.0)).mean(0)  # (K,)
    target = per_dim.mean().item()  # between the two
    free = model.elbo(X, generator=seeded(), free_bits=target)
    price = (plain.log_likelihood - free.elbo).mean()
    torch.testing.assert_close(price, per_dim.clamp(min=target).sum())
    torch.testing.assert_close(free.kl, plain.kl)
    torch.testing.assert_close(free.log_likelihood, plain.log_likelihood)


def test_below_the_free_bits_the_kl_has_no_gradient():
    model = small()
    free = gradients(model, model.elbo(X, generator=seeded(), free_bits=50.0).elbo)
    reading = gradients(model, model.elbo(X, generator=seeded()).log_likelihood)
    for name in reading:
        torch.testing.assert_close(free[name], reading[name])


def test_word_dropout_blanks_its_share_of_letters_and_no_start():
    model = small(word_dropout=0.3).train()
    seen = before(torch.randint(1, 3, (2000, 8), generator=seeded()))
    blanked = model._blanked(seen, seeded())
    is_blank = blanked == model.decoder.blank
    assert (blanked == seen)[~is_blank].all()
    assert not is_blank[seen == 0].any()
    assert z_score(is_blank[seen != 0].double(), 0.3) < Z_MAX


def test_word_dropout_is_at_work_in_training_alone():
    model, plain = small(word_dropout=0.5), small()
    for ours, theirs in zip(model.elbo(X, generator=seeded()), plain.elbo(X, generator=seeded()),
                            strict=True):  # fmt: skip
        torch.testing.assert_close(ours, theirs)
    model.train()
    dropped = model.elbo(X, generator=seeded())
    assert (dropped.log_likelihood != plain.elbo(X, generator=seeded()).log_likelihood).any()
    torch.testing.assert_close(dropped.kl, plain.elbo(X).kl)  # the encoder reads every letter
    torch.testing.assert_close(iwae_bound(model, X, 3, seeded()), iwae_bound(plain, X, 3, seeded()))


def test_dropping_every_letter_leaves_blanks_and_the_start():
    model, z = small(word_dropout=1.0).train(), points(4)
    model.rsample = lambda q_z, n_samples, generator: z[None]
    blanks = before(X).where(before(X) == 0, model.decoder.blank)
    expected = model.decoder(z).log_prob(X, blanks).sum(-1)
    torch.testing.assert_close(model.elbo(X).log_likelihood, expected)


# Training, noise, disk


def test_training_raises_the_bound_and_depends_on_the_seed_alone():
    x = encode_names(["ana", "banana", "bana", "nana"] * 20)
    models = [SequenceVAE(2, 8, 4, word_dropout=0.2) for _ in range(2)]
    torch.manual_seed(3)
    state = torch.get_rng_state()
    histories = [
        fit(m, x, epochs=4, batch_size=16, learning_rate=2e-2, binarize="none") for m in models
    ]
    assert torch.equal(torch.get_rng_state(), state)
    assert histories[0].elbo == histories[1].elbo
    assert histories[0].elbo[-1] > histories[0].elbo[0] + 3


def test_a_saved_model_goes_on_as_if_nothing_had_happened(tmp_path):
    x = encode_names(["ana", "banana", "bana", "nana"])
    model = SequenceVAE(2, 8, 4)
    fit(model, x, epochs=1, binarize="none")
    save(model, tmp_path / "model.npz")
    again = load(SequenceVAE(2, 8, 4, seed=5), tmp_path / "model.npz")
    ours, theirs = (fit(m, x, epochs=2, binarize="none").elbo for m in (model, again))
    assert ours == theirs
    assert torch.equal(model.elbo(x).elbo, again.elbo(x).elbo)  # also the stream of noise


def test_a_copy_of_the_model_draws_the_same_noise():
    model = small()
    again = copy.deepcopy(model)
    assert torch.equal(model.elbo(X).elbo, again.elbo(X).elbo)


# Writing


@pytest.mark.parametrize("reach", REACHES)
def test_at_temperature_0_every_letter_is_the_likeliest(reach):
    model, z = small(reach=reach), points(6)
    written = model.write(z, longest=5)
    assert written.shape == (6, 6)
    logits = model.decoder.logits(before(written), z)
    for row, best in zip(written, logits.argmax(-1), strict=True):
        n = min(up_to_end(row[None]).sum().item(), 5)  # what is cut has no end of its own
        assert torch.equal(row[:n], best[:n])
        assert (row[n:] == 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_other_temperatures_draw_from_powers_of_the_probabilities(temperature):
    model, z = small(), points(1).expand(20_000, -1)
    written = model.write(z, temperature, seeded(), longest=1)
    p = model.decoder.logits(torch.zeros(1, 1, dtype=torch.int64), z[:1]).softmax(-1)[0, 0]
    expected = p ** (1 / temperature) / (p ** (1 / temperature)).sum()
    first = torch.nn.functional.one_hot(written[:, 0], 3).double()
    assert z_score(first, expected) < Z_MAX


def test_samples_follow_the_seed():
    model = small()
    ours, theirs = (model.sample(50, seeded(4)) for _ in range(2))
    assert torch.equal(ours, theirs)
    assert ours.shape == (50, 13)
    assert len(ours.unique(dim=0)) > 5


# What is refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": -1}, "latent_dim must be a whole number of at least 0, got -1"),
        ({"latent_dim": 2.0}, "latent_dim must be a whole number of at least 0, got 2.0"),
        ({"reach": -1}, "reach must be a whole number of at least 0, got -1"),
        ({"hidden_dim": 0}, "hidden_dim must be a whole number of at least 1, got 0"),
        ({"n_letters": True}, "n_letters must be a whole number of at least 1, got True"),
        ({"word_dropout": 1.1}, r"word_dropout must lie in \[0, 1\], got 1.1"),
    ],
)
def test_models_that_cannot_be_built_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SequenceVAE(**options)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X.float(), TypeError, "x must be an int64 tensor, got torch.float32"),
        ([[1, 0]], TypeError, "x must be an int64 tensor, got <class 'list'>"),
        (X[0], ValueError, "x must have shape"),
        (X[:0], ValueError, "x must have shape"),
        (torch.tensor([[3, 0]]), ValueError, r"x must lie in 0..2, but it spans 0..3"),
        (torch.tensor([[-1, 0]]), ValueError, r"x must lie in 0..2, but it spans -1..0"),
        (torch.tensor([[1, 0], [1, 2]]), ValueError, "each row of x must hold an end, 0"),
    ],
)
def test_what_are_no_strings_is_named(x, error, message):
    model = small()
    for call in (model.elbo, model.encode, lambda x: iwae_bound(model, x, 2)):
        with pytest.raises(error, match=message):
            call(x)


def test_points_and_temperatures_that_do_not_fit_are_named():
    model = small()
    for z, message in ((points(3, 1), "z must be a tensor of shape"),
                       (points(3) * math.nan, "z must be finite")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.decode(z)
        with pytest.raises(ValueError, match=message):
            model.write(z)
    with pytest.raises(TypeError, match="z must have the model's dtype"):
        model.decode(points(3).float())
    with pytest.raises(ValueError, match="temperature must be a finite number of at least 0"):
        model.write(points(3), -1.0)
    with pytest.raises(ValueError, match="longest must be a whole number"):
        model.write(points(3), longest=0)
    with pytest.raises(ValueError, match="n_samples must be a whole number"):
        model.elbo(X, n_samples=0)
