"""Alpha-GAN."""

from anomalib_xray_plugins.alpha_gan.lightning_model import AlphaGan

__all__ = ["AlphaGan"]
