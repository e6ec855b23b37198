"""Bidirectional generative adversarial network."""

from anomalib_xray_plugins.bigan.lightning_model import Bigan

__all__ = ["Bigan"]
