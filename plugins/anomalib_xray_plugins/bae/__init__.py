"""Bottleneck autoencoder."""

from anomalib_xray_plugins.bae.lightning_model import Bae

__all__ = ["Bae"]
