"""Variational autoencoder."""

from anomalib_xray_plugins.vae.lightning_model import Vae

__all__ = ["Vae"]
