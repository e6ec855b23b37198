"""DCGAN."""

from anomalib_xray_plugins.dcgan.lightning_model import Dcgan

__all__ = ["Dcgan"]
