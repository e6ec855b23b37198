"""Feature autoencoder."""

from anomalib_xray_plugins.feature_ae.lightning_model import FeatureAe

__all__ = ["FeatureAe"]
