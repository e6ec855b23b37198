"""F-AnoGAN."""

from anomalib_xray_plugins.f_ano_gan.lightning_model import FAnoGan

__all__ = ["FAnoGan"]
