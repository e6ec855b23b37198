"""Deep support vector data description."""

from anomalib_xray_plugins.deep_svdd.lightning_model import DeepSvdd

__all__ = ["DeepSvdd"]
