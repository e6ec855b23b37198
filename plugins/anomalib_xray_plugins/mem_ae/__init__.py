"""Autoencoder with a memory of normal codes."""

from anomalib_xray_plugins.mem_ae.lightning_model import MemAe

__all__ = ["MemAe"]
