"""Autoencoder with a short code."""

from anomalib_xray_plugins.reconstruction_ae.lightning_model import ReconstructionAe

__all__ = ["ReconstructionAe"]
