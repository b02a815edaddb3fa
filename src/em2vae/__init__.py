"""The library that the book "From EM to the VAE" builds up."""

from em2vae.bounds import iwae_bound
from em2vae.data import load_digits
from em2vae.training import History, fit
from em2vae.vae import VAE, ElboTerms

__all__ = ["VAE", "ElboTerms", "History", "fit", "iwae_bound", "load_digits"]
