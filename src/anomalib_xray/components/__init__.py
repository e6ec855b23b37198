"""Parts that model plugins share."""

from anomalib_xray.components.adversarial import (
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
from anomalib_xray.components.attention import SelfAttention
from anomalib_xray.components.autoencoder import (
    AUTOENCODER_SCORES,
    AutoencoderLoss,
    AutoencoderModel,
    NoiseKind,
    input_noise,
)
from anomalib_xray.components.backbone import Backbone
from anomalib_xray.components.fitted_model import DetectorModel, FittedModel
from anomalib_xray.components.frozen_backbone import FrozenBackbone, PerceptualError
from anomalib_xray.components.gan import GanModel, evaluating, generator_of
from anomalib_xray.components.latent import GaussianHead, HasLatent, Latent, draw
from anomalib_xray.components.losses import (
    IMAGE_ERRORS,
    ImageError,
    ReconstructionLoss,
    masked_mse_loss,
    masked_reconstruction_loss,
)
from anomalib_xray.components.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.components.reconstruction_model import MapModel, ReconstructionModel
from anomalib_xray.components.trained_model import Phases, Schedule, TrainedModel, check_share

__all__ = [
    "AUTOENCODER_SCORES",
    "IMAGE_ERRORS",
    "AdversarialLoss",
    "AutoencoderLoss",
    "AutoencoderModel",
    "Backbone",
    "DetectorModel",
    "FittedModel",
    "FrozenBackbone",
    "GanModel",
    "GaussianHead",
    "HasLatent",
    "ImageError",
    "Latent",
    "MapModel",
    "MinibatchDiscrimination",
    "NoiseKind",
    "NoiseSchedule",
    "PerceptualError",
    "Phases",
    "RadiographModel",
    "ReconstructionLoss",
    "ReconstructionModel",
    "Schedule",
    "SelfAttention",
    "TrainedModel",
    "add_noise",
    "check_share",
    "check_soft_labels",
    "discriminator_loss",
    "draw",
    "evaluating",
    "generator_loss",
    "generator_of",
    "gradient_penalty",
    "input_noise",
    "instance_noise_level",
    "masked_mse_loss",
    "masked_reconstruction_loss",
    "moving_average",
    "passing_loss",
]
