"""Deep semi-supervised anomaly detection."""

from anomalib_xray_plugins.deep_sad.lightning_model import DeepSad

__all__ = ["DeepSad"]
