"""Parts that model plugins share."""

from anomalib_xray.components.adversarial import (
    AdversarialLoss,
    check_soft_labels,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    passing_loss,
)
from anomalib_xray.components.attention import SelfAttention
from anomalib_xray.components.average import moving_average
from anomalib_xray.components.gan import GanModel, evaluating, generator_of
from anomalib_xray.components.instance_noise import NoiseSchedule, add_noise, instance_noise_level
from anomalib_xray.components.latent import GaussianHead, Latent, draw
from anomalib_xray.components.losses import ReconstructionLoss, masked_mse_loss, masked_reconstruction_loss
from anomalib_xray.components.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.components.schedule import Schedule

__all__ = [
    "AdversarialLoss",
    "GanModel",
    "GaussianHead",
    "Latent",
    "MinibatchDiscrimination",
    "NoiseSchedule",
    "RadiographModel",
    "ReconstructionLoss",
    "Schedule",
    "SelfAttention",
    "add_noise",
    "check_soft_labels",
    "discriminator_loss",
    "draw",
    "evaluating",
    "generator_loss",
    "generator_of",
    "gradient_penalty",
    "instance_noise_level",
    "masked_mse_loss",
    "masked_reconstruction_loss",
    "moving_average",
    "passing_loss",
]
