"""Classical detectors on the codes of an encoder."""

from anomalib_xray_plugins.latent_detector.lightning_model import LatentDetector

__all__ = ["LatentDetector"]
