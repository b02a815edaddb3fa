"""The library that the book "From EM to the VAE" builds up."""

from em2vae.bounds import iwae_bound
from em2vae.data import load_digits
from em2vae.images import load_images
from em2vae.mixtures import BernoulliMixture, GaussianMixture
from em2vae.ppca import ProbabilisticPCA
from em2vae.saving import load, save
from em2vae.training import History, fit
from em2vae.vae import VAE, ElboTerms

__all__ = [
    "VAE", "BernoulliMixture", "ElboTerms", "GaussianMixture", "History", "ProbabilisticPCA", "fit",
    "iwae_bound", "load", "load_digits", "load_images", "save",
]  # fmt: skip
