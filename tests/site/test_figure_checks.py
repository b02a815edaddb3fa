"""Every figure refuses, by name, data and traits that its JavaScript cannot draw."""

import math
from dataclasses import dataclass, field

import pytest
import torch
import traitlets
from torch import nn

from em2vae import VAE, load_digits
from em2vae.codebook import VQVAE, WordPrior
from em2vae.conditional import ConditionalVAE
from em2vae.data import binarize
from em2vae.interactive.ae_versus_vae import AeVersusVae
from em2vae.interactive.amortized_pad import AmortizedPad
from em2vae.interactive.bound_ladder import BoundLadder
from em2vae.interactive.codebook import Codebook
from em2vae.interactive.elbo_explorer import ElboExplorer
from em2vae.interactive.em_stepper import EmStepper
from em2vae.interactive.figure import HERE, InteractiveFigure, pack_network
from em2vae.interactive.gradient_race import GradientRace
from em2vae.interactive.gumbel_simplex import GumbelSimplex
from em2vae.interactive.jensen import Jensen
from em2vae.interactive.kl_explorer import KLExplorer
from em2vae.interactive.latent_explorer import LatentExplorer
from em2vae.interactive.likelihood_lab import LikelihoodLab
from em2vae.interactive.loss_scaling import LossScaling
from em2vae.interactive.mean_field import MeanField
from em2vae.interactive.monte_carlo_integral import MonteCarloIntegral
from em2vae.interactive.name_walk import NameWalk
from em2vae.interactive.style_transfer import StyleTransfer
from em2vae.interactive.training_scrubber import TrainingScrubber
from em2vae.interactive.vae_lab import VaeLab
from em2vae.ppca import ProbabilisticPCA
from em2vae.sequence import SequenceVAE
from em2vae.vae import mlp

N = 12
NODES = (torch.zeros(1, 2), torch.ones(1))


def vae_of(latent_dim=2, data_dim=784, **options) -> VAE:
    return VAE(latent_dim, (4,), data_dim=data_dim, **options)


def ppca(K, D=784):
    generator = torch.Generator().manual_seed(0)
    return ProbabilisticPCA(torch.randn(D, K, generator=generator), torch.zeros(D), 1.0)


@dataclass
class Data:
    """What the figures with images are built from, each field open to being spoiled."""

    vae: VAE = field(default_factory=vae_of)
    x: torch.Tensor = field(default_factory=lambda: binarize(load_digits("test")[0][:N]))
    labels: torch.Tensor = field(default_factory=lambda: load_digits("test")[1][:N])


def ae_versus_vae(data):
    encoder, decoder = mlp([784, 2], nn.ReLU), mlp([2, 784], nn.ReLU)
    return AeVersusVae(encoder, decoder, data.vae, data.x, data.labels)


def scrubber(data):
    figure = TrainingScrubber(data.x, data.labels, epochs=(0,))
    figure.recorder(data.vae)(0)
    return figure


BUILD = {
    "latent-explorer": lambda data: LatentExplorer(data.vae, data.x, data.labels),
    "amortized-pad": lambda data: AmortizedPad(data.vae, data.x, data.labels, [1, 4], *NODES),
    "ae-versus-vae": ae_versus_vae,
    "training-scrubber": scrubber,
    "bound-ladder": lambda data: BoundLadder(data.vae, data.x),
    "loss-scaling": lambda data: LossScaling({1.0: data.vae}, {1.0: data.vae}, data.x),
    "monte-carlo-integral": lambda data: MonteCarloIntegral([ppca(2), ppca(3)], data.x),
    "em-stepper": lambda data: EmStepper(data.x[:, 300:302] + 0.01 * torch.arange(N)[:, None]),
    "elbo-explorer": lambda data: ElboExplorer(),
    "gradient-race": lambda data: GradientRace(),
    "gumbel-simplex": lambda data: GumbelSimplex(),
    "jensen": lambda data: Jensen(),
    "kl-explorer": lambda data: KLExplorer(),
    "mean-field": lambda data: MeanField(),
    "likelihood-lab": lambda data: LikelihoodLab(*data.x[:2].view(2, 28, 28)),
    "vae-lab": lambda data: VaeLab(data.x, data.labels, data.x, data.labels),
    "style-transfer": lambda data: StyleTransfer(ConditionalVAE(2, (4,)), data.x, data.labels),
    "name-walk": lambda data: NameWalk(SequenceVAE(2)),
    "codebook": lambda data: Codebook(VQVAE(), WordPrior(), data.x, data.labels),
}
WITH_IMAGES = [*list(BUILD)[:7], "vae-lab", "style-transfer", "codebook"]
WITH_VAE = WITH_IMAGES[:6]
WITH_LABELS = [*WITH_IMAGES[:4], "vae-lab", "style-transfer", "codebook"]
FLAT = [name for name in WITH_VAE if name not in ("latent-explorer", "loss-scaling")]


def test_every_figure_is_tested_here():
    modules = {path.stem for path in HERE.glob("*.js")} & {path.stem for path in HERE.glob("*.py")}
    assert {name.replace("_", "-") for name in modules} == set(BUILD)


def spoiled_images(x):
    nan = x.clone()
    nan[3, 5] = math.nan
    return {
        "shape": (torch.zeros(N, 64), ValueError, r"shape \(N, 784\), got .* 28x28 .* resize"),
        "colour": (x.reshape(N, 1, 28, 28).expand(N, 3, 28, 28), ValueError, "Make colours grey"),
        "flat": (x[0], ValueError, r"shape \(N, 784\)"),
        "empty": (x[:0], ValueError, "at least one"),
        "whole": (x.long(), TypeError, "floating-point"),
        "list": (x.tolist(), TypeError, "floating-point"),
        "nan": (nan, ValueError, "NaN"),
    }


@pytest.mark.parametrize("name", WITH_IMAGES)
@pytest.mark.parametrize("fault", spoiled_images(torch.zeros(N, 784)))
def test_images_that_cannot_be_drawn_are_refused(name, fault):
    x, error, message = spoiled_images(Data().x)[fault]
    with pytest.raises(error, match=f"(?s)x must .*{message}|x .*{message}"):
        BUILD[name](Data(x=x))


@pytest.mark.parametrize("name", [*WITH_VAE, "style-transfer", "codebook"])
def test_values_beyond_grey_are_refused(name):
    with pytest.raises(ValueError, match=r"x must lie in \[0, 1\]"):
        BUILD[name](Data(x=255 * Data().x))


@pytest.mark.parametrize("name", ["ae-versus-vae", "training-scrubber", "bound-ladder"])
def test_grey_images_are_refused_where_bits_travel(name):
    with pytest.raises(ValueError, match="x must be binary"):
        BUILD[name](Data(x=0.5 * Data().x))


@pytest.mark.parametrize("name", WITH_LABELS)
@pytest.mark.parametrize(
    "spoil, error, message",
    [
        (lambda labels: labels[:-1], ValueError, "x and labels must match, got 12 and 11"),
        (lambda labels: labels[:, None], ValueError, r"x and labels must match.*shape \(12, 1\)"),
        (lambda labels: labels + 300, ValueError, r"labels must lie in 0\.\.9.*span 30"),
        (lambda labels: labels - 10, ValueError, r"labels must lie in 0\.\.9"),
        (lambda labels: labels.float(), TypeError, "labels must be an integer tensor"),
        (lambda labels: labels > 4, TypeError, "labels must be an integer tensor"),
        (lambda labels: labels.tolist(), TypeError, "labels must be an integer tensor.*list"),
    ],
)
def test_labels_that_are_no_digits_are_refused(name, spoil, error, message):
    with pytest.raises(error, match=message):
        BUILD[name](Data(labels=spoil(Data().labels)))


@pytest.mark.parametrize("name", WITH_VAE)
def test_models_of_other_pictures_are_refused(name):
    with pytest.raises(ValueError, match=r"vae must have data_dim = 784, got 64: .* 28x28"):
        BUILD[name](Data(vae=vae_of(data_dim=64)))
    with pytest.raises(TypeError, match=r"vae must be an em2vae\.VAE, got Linear"):
        BUILD[name](Data(vae=nn.Linear(2, 784)))


@pytest.mark.parametrize("name", WITH_VAE)
def test_one_latent_dimension_is_refused(name):
    with pytest.raises(ValueError, match=r"latent_dim .*2, got 1: a map is flat"):
        BUILD[name](Data(vae=vae_of(1)))


@pytest.mark.parametrize("name", FLAT)
def test_more_than_two_latent_dimensions_are_refused_where_all_are_on_a_map(name):
    with pytest.raises(ValueError, match="latent_dim = 2, got 3"):
        BUILD[name](Data(vae=vae_of(3)))


@pytest.mark.parametrize("name", WITH_VAE)
def test_weights_that_are_not_finite_are_refused(name):
    data = Data()
    data.vae.decoder.head.weight.data[3, 1] = math.nan
    with pytest.raises(ValueError, match="finite"):
        BUILD[name](data)


@pytest.mark.parametrize(
    "network, message",
    [
        (
            nn.Sequential(nn.Linear(2, 784), nn.Sigmoid()),
            r"Linear \(with bias\), then ReLU.*Sigmoid",
        ),
        (nn.Linear(2, 784, bias=False), "with bias"),
        (nn.Sequential(nn.ReLU(), nn.Linear(2, 784)), "ReLU"),
        (nn.Linear(2, 64), "lead from 2 to 784 numbers"),
        (nn.Linear(3, 784), "lead from 2 to 784 numbers"),
        (nn.Sequential(nn.Linear(2, 5), nn.Linear(4, 784)), "lead from 2 to 784 numbers"),
        (nn.Sequential(), "not Sequential"),
    ],
)
def test_networks_that_the_browser_cannot_compute_are_refused(network, message):
    with pytest.raises(ValueError, match=message):
        pack_network(network, torch.zeros(9, 2), 784, torch.sigmoid, 0.01)


def test_what_belongs_to_one_figure_is_refused_too():
    data = Data()
    vae, x, labels = data.vae, data.x, data.labels
    with pytest.raises(ValueError, match=r"eps must be \(S, 2\) and weights \(S,\)"):
        AmortizedPad(vae, x, labels, [1], torch.zeros(4, 3), torch.ones(4) / 4)
    with pytest.raises(ValueError, match="weights add up to 1, not to 4"):
        AmortizedPad(vae, x, labels, [1], torch.zeros(4, 2), torch.ones(4))
    with pytest.raises(ValueError, match="with ink"):
        AmortizedPad(vae, 0 * x, labels, [1], *NODES)
    with pytest.raises(ValueError, match=r"encoder must turn images .* got .12, 3"):
        AeVersusVae(nn.Linear(784, 3), nn.Linear(2, 784), vae, x, labels)
    with pytest.raises(ValueError, match=r"encoder must turn images .* fails"):
        AeVersusVae(nn.Linear(64, 2), nn.Linear(2, 784), vae, x, labels)
    with pytest.raises(ValueError, match="at least 8 images, got 7"):
        LossScaling({1.0: vae}, {1.0: vae}, x[:7])
    with pytest.raises(ValueError, match="bernoulli must hold models"):
        LossScaling({}, {1.0: vae}, x)
    with pytest.raises(ValueError, match="keyed by positive numbers"):
        LossScaling({1.0: vae}, {-1.0: vae}, x)
    with pytest.raises(ValueError, match=r"same latent_dim, got \[2, 3\]"):
        LossScaling({1.0: vae}, {1.0: vae_of(3)}, x)
    with pytest.raises(ValueError, match="models must differ in K"):
        MonteCarloIntegral([ppca(2), ppca(2)], x)
    with pytest.raises(ValueError, match="epochs must hold whole numbers"):
        TrainingScrubber(x, labels, epochs=())
    figure = TrainingScrubber(x, labels, epochs=(0, 1))
    figure.recorder(vae)(0)
    with pytest.raises(ValueError, match="one training"):
        figure.recorder(VAE(2, (5,)))(1)
    with pytest.raises(ValueError, match="min_variance"):
        EmStepper(torch.randn(9, 2), min_variance=0.0)


# What a figure reports, and what may be any whole number.
FREE = {"active", "kl", "log_p", "latent_dims", "epochs", "elbo", "history", "seed"}
WRONG = {
    traitlets.Float: [math.nan, math.inf, "a"],
    traitlets.Int: [10**6, "a"],
    traitlets.Unicode: [5, "a" * 1000],
}


@pytest.mark.parametrize("name", BUILD)
def test_traits_set_from_python_are_finite_and_of_the_right_shape(name):
    """Each public trait that holds a number or a list refuses NaN, and a list of another length."""
    figure = BUILD[name](Data())
    own = set(figure.trait_names(sync=True)) - set(InteractiveFigure.class_trait_names()) - FREE
    checked = 0
    for trait in own - ({"start"} if name == "em-stepper" else set()):
        kind, before = figure.traits()[trait], getattr(figure, trait)
        if trait.startswith("_") or isinstance(kind, traitlets.Enum | traitlets.Bool):
            continue
        values = next((wrong for of, wrong in WRONG.items() if isinstance(kind, of)), None)
        for value in values or ([math.nan] * len(before), [*before, 0.0], "ab"):
            with pytest.raises((traitlets.TraitError, ValueError), match=trait):
                setattr(figure, trait, value)
            assert getattr(figure, trait) == before
            checked += 1
    assert checked >= 3 or name == "loss-scaling"  # which offers choices alone


@pytest.mark.parametrize(
    "trait, value, message",
    [
        ("means", [[0.0, 0.0]] * 2, r"shape \(3, 2\)"),
        ("points", [[0.0, math.nan]] * 9, r"shape \(N, 2\)"),
        ("points", [[0.0, 1.0]] * 2, "3 to 500 pairs"),
        ("weights", [0.5, 0.5, 0.5], "add up to 1"),
        ("covariances", [[[1.0, 2.0], [2.0, 1.0]]] * 3, "positive definite"),
        ("covariances", [[[1.0, 0.5], [0.0, 1.0]]] * 3, "symmetric"),
    ],
)
def test_no_mixture_no_picture(trait, value, message):
    stepper = EmStepper(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)))
    with pytest.raises(traitlets.TraitError, match=f"{trait} must .*{message}"):
        setattr(stepper, trait, value)


def test_a_tensor_is_as_good_as_a_list():
    explorer = BUILD["latent-explorer"](Data())
    explorer.z = torch.tensor([0.5, -1.0])
    assert explorer.z == [0.5, -1.0]
