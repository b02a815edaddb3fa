"""Codebooks of chapter 18: words, the prior over them, and the two-part bound."""

import math

import pytest
import torch
from torch.distributions import Bernoulli

from em2vae import codebook, fit, load, save, words
from em2vae.codebook import VQVAE, WordPrior, exchange, straight_through, two_part


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=12):
    return (torch.rand(n, 784, generator=seeded()) < 0.2).float()


def pages_of(n, n_words, seed=1):
    return torch.randint(n_words, (n, 49), generator=seeded(seed))


@pytest.fixture
def model():
    """A small model whose list holds vectors of the images."""
    model = VQVAE(n_words=5, word_dim=3, channels=(4, 6))
    model.revive(model.vectors(images()), seeded())
    return model


@pytest.fixture
def prior():
    """A prior whose weights are large enough to make pages unequal."""
    prior = WordPrior(n_words=5, embed_dim=4, hidden_dim=8)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn(parameter.shape, generator=seeded(2)))
    return prior


class Toy:
    """Pages of 3x3 words for pictures of four pixels: few enough to be summed."""

    n_words, data_dim = 2, 4

    def __init__(self):
        self.table = torch.randn(9, 2, 4, generator=seeded(3))

    def decode(self, words):
        logits = torch.stack([self.table[j, words[:, j]] for j in range(9)]).sum(0)
        return Bernoulli(logits=logits)

    def encode(self, x):
        return torch.zeros(len(x), 9, dtype=torch.int64)


@pytest.fixture
def three_by_three(monkeypatch):
    monkeypatch.setattr(words, "SIDE", 3)
    monkeypatch.setattr(codebook, "SIDE", 3)


def toy_prior():
    prior = WordPrior(n_words=2, embed_dim=3, hidden_dim=6).double()
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(4)))
    return prior


def all_pages(n_words=2, n_places=9):
    return torch.cartesian_prod(*[torch.arange(n_words)] * n_places)


# The prior


def test_the_prior_sums_to_one_over_all_pages(three_by_three):
    log_p = toy_prior().log_prob(all_pages()).sum(-1)  # of 512 pages
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=1e-12)
    assert log_p.std() > 0.5  # and they are not all alike


def test_a_word_moves_no_factor_before_its_own_and_no_logit_of_its_own(prior):
    page = pages_of(1, 5)
    before = prior.logits(page)[0]
    for place in (0, 8, 24, 40, 48):
        other = page.clone()
        other[0, place] = (other[0, place] + 1) % 5
        moved = (prior.logits(other)[0] - before).abs().amax(-1) > 0
        row, column = divmod(place, 7)
        sees = {
            7 * r + c
            for r in range(7)
            for c in range(7)
            if (row - r, column - c) in WordPrior.reach
        }
        assert set(moved.nonzero().flatten().tolist()) == sees
        assert all(seer > place for seer in sees)


def test_beyond_the_edge_stands_a_number_of_its_own():
    prior = WordPrior(n_words=5)
    page = torch.arange(49)[None] % 5
    seen = prior.neighbours(page)[0]
    assert seen.shape == (49, 12)
    assert seen[0].tolist() == [5] * 12
    expected = [page[0, 7 * (3 + r) + 3 + c].item() for r, c in WordPrior.reach]
    assert seen[24].tolist() == expected
    assert seen[6].tolist() == [5] * 10 + [page[0, 4].item(), page[0, 5].item()]


def test_the_logits_are_those_of_the_formula(prior):
    page, e = pages_of(1, 5), prior.embed.weight
    for place in (0, 17, 48):
        row, column = divmod(place, 7)
        seen = []
        for r, c in WordPrior.reach:
            inside = row + r >= 0 and 0 <= column + c < 7
            seen.append(e[page[0, place + 7 * r + c] if inside else 5])
        u = prior.first.weight @ torch.cat(seen) + prior.place[place]
        v = prior.second.weight @ (u * u.sigmoid()) + prior.second.bias
        logits = prior.head.weight @ (v * v.sigmoid()) + prior.head.bias
        assert torch.allclose(prior.logits(page)[0, place], logits, atol=1e-4)


def test_what_is_kept_stays_and_the_rest_is_drawn_from_the_prior(three_by_three):
    prior = toy_prior().float()
    start = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 1, 1]]).repeat(20_000, 1)
    drawn = prior.sample(start, kept=6, generator=seeded())
    assert torch.equal(drawn[:, :6], start[:, :6])
    ends = all_pages(n_places=3)
    pages = torch.cat([start[:8, :6], ends], 1)
    p = prior.log_prob(pages)[:, 6:].sum(-1).exp()  # given the six
    share = torch.stack([(drawn[:, 6:] == end).all(-1).float().mean() for end in ends])
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    assert ((share - p).abs() < 4.5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert torch.equal(start[0], torch.tensor([1, 0, 1, 1, 0, 0, 1, 1, 1]))


# The bound


def test_no_page_exceeds_the_sum_over_all_pages_and_the_gap_is_its_surprise(three_by_three):
    toy, prior = Toy(), toy_prior().float()
    x, pages = torch.tensor([[1.0, 0, 0, 1]]), all_pages()
    terms = two_part(toy, prior, x.expand(512, -1), pages)
    log_p = terms.elbo.logsumexp(0)
    assert (terms.elbo < log_p).all()
    posterior = (prior.log_prob(pages).sum(-1) + toy.decode(pages).log_prob(x).sum(-1)).softmax(0)
    assert torch.allclose(log_p - terms.elbo, -posterior.log(), atol=1e-4)
    every = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    total = [two_part(toy, prior, v.expand(512, -1), pages).elbo.logsumexp(0) for v in every]
    assert torch.stack(total).logsumexp(0).item() == pytest.approx(0, abs=1e-4)


def test_the_two_parts_are_those_computed_by_hand(model, prior):
    x, pages = images(), pages_of(12, 5)
    terms = two_part(model, prior, x, pages)
    logits = model.decode(pages).logits
    by_hand = (x * logits - logits.exp().log1p()).sum(-1)
    table = prior.logits(pages).softmax(-1)
    price = [-sum(table[i, j, pages[i, j]].log() for j in range(49)) for i in range(12)]
    assert torch.allclose(terms.log_likelihood, by_hand, atol=1e-3)
    assert torch.allclose(terms.kl, torch.stack(price), atol=1e-3)
    assert torch.allclose(terms.elbo, terms.log_likelihood - terms.kl)
    own = two_part(model, prior, x)
    assert torch.equal(own.elbo, two_part(model, prior, x, model.encode(x)).elbo)


def test_the_objective_is_the_bound_of_equal_words_less_the_commitment(model):
    x, h = images(), model.vectors(images())
    terms = model.eval().elbo(x)
    numbers = model.encode(x)
    distance = (h - model.words[numbers]).square().sum((1, 2))
    assert torch.allclose(terms.kl, torch.tensor(49 * math.log(5)))
    expected = model.decode(numbers).log_prob(x).sum(-1)
    assert torch.allclose(terms.log_likelihood, expected, atol=1e-4)
    bound = terms.log_likelihood - terms.kl
    assert torch.allclose(bound - terms.elbo, model.commitment * distance, atol=1e-3)
    assert (terms.elbo < bound).all()
    assert model(x).item() == pytest.approx(terms.elbo.mean().item())


def test_exchanges_never_lower_the_bound_and_equal_a_search_by_hand(model, prior):
    x = images(4)
    start, found = model.encode(x), exchange(model, prior, x, candidates=3)
    before, after = (two_part(model, prior, x, w).elbo for w in (start, found))
    assert (after >= before).all() and (after > before + 0.1).any()
    page, h = start[:1].clone(), model.vectors(x[:1])[0]
    for place in range(49):
        bounds = {}
        for word in (h[place] - model.words).square().sum(-1).argsort()[:3].tolist():
            page[0, place] = word
            bounds[word] = two_part(model, prior, x[:1], page).elbo.item()
        page[0, place] = max(bounds, key=bounds.get)
    assert torch.equal(page, found[:1])
    assert torch.equal(exchange(model, prior, x, candidates=1), start)


# Words and gradients


def test_straight_through_gives_the_word_and_its_slope_to_the_vector():
    h = torch.tensor([[0.2, 0.7], [1.5, -1.0]], requires_grad=True)
    word = torch.tensor([[0.0, 1.0], [2.0, -1.0]], requires_grad=True)
    out = straight_through(h, word)
    assert torch.allclose(out, word)
    (out**3).sum().backward()
    assert torch.allclose(h.grad, 3 * word.detach() ** 2)
    assert word.grad is None


def test_the_word_is_the_nearest(model):
    h = torch.randn(50, 3, generator=seeded(5))
    expected = [min(range(5), key=lambda m: (v - model.words[m]).norm().item()) for v in h]
    assert model.nearest(h).tolist() == expected
    x = images()
    assert torch.equal(model.encode(x), model.nearest(model.vectors(x)))
    maps = model.encoder(x.view(-1, 1, 28, 28))
    assert torch.allclose(model.vectors(x)[:, 7 * 2 + 5], maps[:, :, 2, 5], atol=1e-6)


def test_the_encoder_receives_the_slope_at_the_words_and_the_commitment(model):
    x = images()
    model.eval().elbo(x).elbo.sum().backward()
    got = model.encoder[-1].bias.grad  # moves every vector alike
    h = model.vectors(x).detach()
    word = model.words[model.nearest(h)].requires_grad_()
    log_p = model._picture(word).log_prob(x).sum()
    (slope,) = torch.autograd.grad(log_p, word)
    by_hand = (slope - 2 * model.commitment * (h - word.detach())).sum((0, 1))
    assert torch.allclose(got, by_hand, rtol=1e-3, atol=1e-3)
    assert not model.words.requires_grad


def test_words_are_the_weighted_means_of_the_closed_form():
    model, generator = VQVAE(n_words=3, word_dim=2, decay=0.7), seeded()
    first = torch.tensor([[0.0, 0], [1, 1], [-1, 2]])
    model.words.copy_(first)
    model.counts.copy_(torch.tensor([2.0, 1.0, 4.0]))
    model.sums.copy_(first * model.counts[:, None])
    counts, sums = model.counts.clone(), model.sums.clone()
    batches = [torch.randn(5, 4, 2, generator=generator) for _ in range(6)]
    chosen = [torch.randint(2, (5, 4), generator=generator) for _ in batches]  # never word 2
    for h, numbers in zip(batches, chosen, strict=True):
        model.move_words(h, numbers)
    n_steps = len(batches)
    for m in range(3):
        n, s = 0.7**n_steps * counts[m], 0.7**n_steps * sums[m]
        for t, (h, numbers) in enumerate(zip(batches, chosen, strict=True), start=1):
            own, weight = h[numbers == m], 0.3 * 0.7 ** (n_steps - t)
            n, s = n + weight * len(own), s + weight * own.sum(0)
        assert model.counts[m].item() == pytest.approx(n.item(), rel=1e-5)
        assert torch.allclose(model.words[m], s / n, atol=1e-5)
    assert torch.allclose(model.words[2], first[2], atol=1e-5)  # an unused word stays


def test_dead_words_are_replaced_by_vectors_and_the_others_stay():
    model = VQVAE(n_words=4, word_dim=2, dead_below=0.1)
    model.words.copy_(torch.arange(8.0).view(4, 2))
    model.counts.copy_(torch.tensor([10.0, 0.9, 0.0, 1.1]))  # the mean count will be 10
    model.sums.copy_(model.words * model.counts[:, None])
    h = 100 + torch.randn(5, 8, 2, generator=seeded())
    before = model.words.clone()
    assert model.revive(h, seeded(1)) == 2
    assert torch.equal(model.words[[0, 3]], before[[0, 3]])
    vectors = {tuple(v) for v in h.flatten(0, 1).tolist()}
    assert {tuple(v) for v in model.words[[1, 2]].tolist()} <= vectors
    assert torch.allclose(model.counts, torch.tensor([10.0, 10.0, 10.0, 1.1]))
    assert torch.allclose(model.sums, model.words * model.counts[:, None])
    assert model.revive(h, seeded(1)) == 0


def test_training_fills_the_list_and_revives_a_word_that_no_vector_chooses():
    model = VQVAE(n_words=6, word_dim=3, channels=(4, 6))
    model.elbo(images())
    assert (model.counts > 0).all() and model.words.unique(dim=0).shape[0] > 1
    model.words[2], model.counts[2], model.sums[2] = 1e4, 0.1, 1e3  # far away and nearly dead
    model.elbo(images())
    assert model.words.abs().max() < 100


@pytest.mark.parametrize("how", ["eval", "no_grad"])
def test_words_move_only_in_training_with_gradients(model, how):
    before = {name: value.clone() for name, value in model.named_buffers()}
    if how == "eval":
        model.eval().elbo(images())
    else:
        with torch.no_grad():
            model.elbo(images())
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())
    model.train().elbo(images())
    assert not torch.equal(model.words, before["words"])


def test_fit_trains_both_and_the_same_seed_gives_the_same_bits():
    torch.manual_seed(5)
    state, runs = torch.get_rng_state(), []
    for _ in range(2):
        model, prior = VQVAE(n_words=5, channels=(4, 6)), WordPrior(n_words=5)
        rises = fit(model, images(40), epochs=8, batch_size=10, learning_rate=1e-2).elbo
        learns = fit(prior, model.encode(images(40)), 8, batch_size=10, binarize="none").elbo
        runs.append((model.words.clone(), prior.place.detach().clone(), rises, learns))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0][0], runs[1][0]) and torch.equal(runs[0][1], runs[1][1])
    assert rises[-1] > rises[0] + 50 and learns[-1] > learns[0] + 5


def test_a_saved_model_writes_the_same_words(model, tmp_path):
    save(model, tmp_path / "words.npz")
    again = load(VQVAE(n_words=5, word_dim=3, channels=(4, 6), seed=9), tmp_path / "words.npz")
    assert torch.equal(again.words, model.words)
    assert torch.equal(again.encode(images()), model.encode(images()))


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_words": 0}, "n_words"),
        ({"word_dim": 1.5}, "word_dim"),
        ({"channels": (4, 0)}, r"channels\[1\]"),
        ({"commitment": -1.0}, "commitment"),
        ({"decay": 1.0}, "decay"),
        ({"dead_below": math.nan}, "dead_below"),
    ],
)
def test_a_bad_size_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        VQVAE(**options)


@pytest.mark.parametrize("name", ["n_words", "embed_dim", "hidden_dim"])
def test_a_bad_size_of_the_prior_is_named(name):
    with pytest.raises(ValueError, match=name):
        WordPrior(**{name: 0})


@pytest.mark.parametrize(
    ("page", "error", "message"),
    [
        (torch.zeros(2, 49), TypeError, "int64"),
        ([[0] * 49], TypeError, "int64"),
        (torch.zeros(2, 48, dtype=torch.int64), ValueError, r"\(B, 49\)"),
        (torch.zeros(49, dtype=torch.int64), ValueError, r"\(B, 49\)"),
        (torch.zeros(0, 49, dtype=torch.int64), ValueError, r"\(B, 49\)"),
        (torch.full((1, 49), 5), ValueError, r"0\.\.4, but hold 5\.\.5"),
        (torch.full((1, 49), -1), ValueError, r"0\.\.4, but hold -1\.\.-1"),
    ],
)
def test_words_that_are_none_are_refused(model, prior, page, error, message):
    calls = (model.decode, prior.log_prob, prior.sample, lambda w: two_part(model, prior, x, w))
    x = images(2)
    for call in calls:
        with pytest.raises(error, match=message):
            call(page)


def test_images_that_are_none_are_refused(model, prior):
    with pytest.raises(ValueError, match="binary"):
        model.elbo(images() / 2)
    with pytest.raises(ValueError, match="binary"):
        two_part(model, prior, images() / 2)
    with pytest.raises(ValueError, match=r"\(N, 784\)"):
        model.encode(torch.zeros(2, 783))
    with pytest.raises(TypeError, match=r"x\.float\(\)"):
        model.encode(images().double())
    with pytest.raises(ValueError, match="at most 5"):
        exchange(model, prior, images(), candidates=6)
    with pytest.raises(ValueError, match="candidates"):
        exchange(model, prior, images(), candidates=0)
    with pytest.raises(ValueError, match="h's shape"):
        straight_through(torch.zeros(2, 3), torch.zeros(3))
