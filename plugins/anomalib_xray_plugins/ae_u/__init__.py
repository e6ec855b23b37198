"""Autoencoder with a predicted uncertainty."""

from anomalib_xray_plugins.ae_u.lightning_model import AeU

__all__ = ["AeU"]
