"""DCGAN as an anomalib model."""

from __future__ import annotations

from typing import Literal

import torch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import nn

from anomalib_xray.components import AdversarialLoss, NoiseSchedule, Schedule, check_soft_labels
from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.dcgan.networks import Norm
from anomalib_xray_plugins.dcgan.torch_model import SCORES, DcganModel
from anomalib_xray_plugins.dcgan.training import PairTraining

REFERENCE_PIXELS = 2**25
"""Pixels of the training images that features are stored of: 2048 images of 128 x 128, 128 of 512 x 512."""


class Dcgan(PairTraining, AnomalibModule):
    """DCGAN: a generative adversarial network trained on normal radiographs, whose discriminator finds anomalies.

    It does not reconstruct. An image is unusual if the discriminator does not take it for real, or if some of the
    discriminator's features are far from all that it saw in training images; the latter shows where.

    Source: Radford et al. 2016 (1511.06434), as used in arXiv 2001.10883, section 3; the distance of features is not
    part of it. Minibatch discrimination looks at one image's features at a time; the original glues four images
    together.

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the generator's last level; every level towards the code doubles them.
        discriminator_width: Channels of the discriminator's first level; every further level doubles them.
        latent_size: Length of the code.
        norm: Normalisation of the generator's levels: ``none`` (as published) or ``batch``.
        spectral_norm: Whether convolutions are spectrally normalised.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch; not with
            ``wgan-gp``.
        adversarial_loss: ``log`` (as published), ``hinge`` or ``wgan-gp``.
        gradient_penalty: Weight of the gradient penalty of ``wgan-gp``.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        instance_noise: Factor of the noise on what the discriminator sees in training; 0 for none.
        noise_schedule: How the noise fades: ``linear``, or ``published``.
        ema_decay: Decay of the moving average of the generator's weights that samples are drawn with; 0 for none.
        references: Number of features of training images that features are compared with.
        score: Score that becomes the predicted score: ``discriminator``, ``feature_distance`` or
            ``feature_distance_top_k``.
        top_k: Pixels of the top-k score: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        anomaly_map: What the anomaly map shows: the ``feature_distance`` at each pixel, or ``grad_cam``, where the
            discriminator sees that the image is not real; the latter cannot be exported.
        learning_rate: Learning rate of the generator.
        discriminator_learning_rate: Learning rate of the discriminator.
        betas: Coefficients of Adam.
        schedule: Learning rates over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, soft labels with a loss that has no labels, or
            no stored feature.
    """

    model: DcganModel

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 16,
        discriminator_width: int = 16,
        latent_size: int = 128,
        norm: Norm = "batch",
        spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        adversarial_loss: AdversarialLoss = "hinge",
        gradient_penalty: float = 10.0,
        soft_labels: float = 0.0,
        instance_noise: float = 0.0,
        noise_schedule: NoiseSchedule = "linear",
        ema_decay: float = 0.0,
        references: int = 16384,
        score: str = "feature_distance_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        anomaly_map: Literal["feature_distance", "grad_cam"] = "feature_distance",
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        schedule: Schedule = "constant",
        seed: int | None = 42,
        pre_processor: nn.Module | bool = True,
        post_processor: nn.Module | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        self.start(SCORES)
        check_soft_labels(soft_labels, adversarial_loss)
        if references < 1:
            msg = f"references is {references}, but features are compared with at least 1 stored one."
            raise XrayError(msg)
        self.model = DcganModel(
            image_size,
            width,
            discriminator_width,
            latent_size,
            norm,
            spectral_norm,
            self.hparams["minibatch_discrimination"],
            ema_decay,
            references,
            score,
            top_k,
            map_sigma,
            anomaly_map,
            adversarial_loss,
        )

    @property
    def kept_images(self) -> int:
        """As many as features are chosen out of, which is more than minibatch discrimination stores."""
        return int(REFERENCE_PIXELS // self.hparams["image_size"] ** 2)

    def remember(self) -> None:
        """Stores features for the distance as well."""
        super().remember()
        if self.seen:
            generator = torch.Generator().manual_seed(self.hparams["seed"] or 0)
            self.model.remember(torch.cat(self.seen), generator)
