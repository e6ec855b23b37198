"""Deep one-class features."""

from anomalib_xray_plugins.deep_one_class.lightning_model import DeepOneClass

__all__ = ["DeepOneClass"]
