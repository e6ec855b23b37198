"""Convolutional autoencoder."""

from anomalib_xray_plugins.cae.lightning_model import Cae

__all__ = ["Cae"]
