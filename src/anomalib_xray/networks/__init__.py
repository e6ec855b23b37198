"""Layers, losses and backbones that models share."""

from anomalib_xray.networks.adversarial import (
    AdversarialLoss,
    NoiseSchedule,
    add_noise,
    check_soft_labels,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    instance_noise_level,
    moving_average,
    passing_loss,
)
from anomalib_xray.networks.attention import (
    SelfAttention,
)
from anomalib_xray.networks.backbone import (
    Backbone,
)
from anomalib_xray.networks.frozen_backbone import (
    FrozenBackbone,
    PerceptualError,
)
from anomalib_xray.networks.latent import (
    GaussianHead,
    HasLatent,
    Latent,
    draw,
)
from anomalib_xray.networks.losses import (
    IMAGE_ERRORS,
    ImageError,
    ReconstructionLoss,
    masked_mse_loss,
    masked_reconstruction_loss,
)
from anomalib_xray.networks.minibatch_discrimination import (
    MinibatchDiscrimination,
)

__all__ = [
    "IMAGE_ERRORS",
    "AdversarialLoss",
    "Backbone",
    "FrozenBackbone",
    "GaussianHead",
    "HasLatent",
    "ImageError",
    "Latent",
    "MinibatchDiscrimination",
    "NoiseSchedule",
    "PerceptualError",
    "ReconstructionLoss",
    "SelfAttention",
    "add_noise",
    "check_soft_labels",
    "discriminator_loss",
    "draw",
    "generator_loss",
    "gradient_penalty",
    "instance_noise_level",
    "masked_mse_loss",
    "masked_reconstruction_loss",
    "moving_average",
    "passing_loss",
]
