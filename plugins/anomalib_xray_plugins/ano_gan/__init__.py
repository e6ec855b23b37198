"""AnoGAN."""

from anomalib_xray_plugins.ano_gan.lightning_model import AnoGan

__all__ = ["AnoGan"]
