"""Parts that model plugins share."""

from anomalib_xray.components.adversarial import AdversarialLoss, discriminator_loss, generator_loss
from anomalib_xray.components.attention import SelfAttention
from anomalib_xray.components.losses import masked_mse_loss
from anomalib_xray.components.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.components.radiograph_model import RadiographModel

__all__ = [
    "AdversarialLoss",
    "MinibatchDiscrimination",
    "RadiographModel",
    "SelfAttention",
    "discriminator_loss",
    "generator_loss",
    "masked_mse_loss",
]
