"""α-GAN as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any, Literal

import torch
from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import check_soft_labels, discriminator_loss, generator_loss
from anomalib_xray.networks.latent import LOG_VARIANCE, Latent, draw
from anomalib_xray.networks.losses import IMAGE_ERRORS, ImageError
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import kld_score
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray_plugins.alpha_gan.patch_training import PatchTraining
from anomalib_xray_plugins.alpha_gan.torch_model import MEAN_PROBABILITY, SCORES, AlphaGanModel


class AlphaGan(ReconstructionModel, PatchTraining, AnomalibModule):
    """α-GAN: an autoencoder and a generative adversarial network in one, trained on normal radiographs.

    Source: Rosca et al. 2017 (1706.04987), as used in arXiv 2001.10883, section 3. Every player sees one forward pass
    with the current weights; the original's stale activations are not reproduced (its reference implementation
    back-propagates through weights that were already updated).

    Args:
        width: Channels of the first level; the widest level has 16 times as many.
        latent_size: Length of the code.
        latent: Code ``linear`` (mean unbounded, log-variance) or ``tanh`` (both through tanh, as published).
        attention: Whether encoder, generator and discriminator have self-attention.
        attention_pooling: Pooling of keys and values in self-attention; 1 as published, 2 costs a quarter.
        spectral_norm: Whether convolutions are spectrally normalised.
        code_spectral_norm: Whether the code discriminator is spectrally normalised too.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch; not with
            ``wgan-gp``.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        reconstruction_loss: Error of reconstructions in the losses of encoder and generator: ``l1`` (as published),
            ``mse`` or ``smooth_l1``.
        reconstruction_weight: Its weight (0.01 as published).
        kl_weight: Weight of the codes' divergence from the normal distribution in the encoder's loss; 0 for none, as in
            the published code.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient``, each also
            with ``_top_k``, ``discriminator``, ``code_discriminator``, ``discriminators_mean``,
            ``discriminators_mean_probability`` (not with ``wgan-gp``), ``discriminator_difference``,
            ``feature_matching``, ``feature_matching_signed``, ``encoder_feature_matching``, ``latent_distance``,
            ``feature_distance``, ``feature_distance_top_k``, or with ``patch_share`` ``patch_discriminator`` or
            ``patch_discriminator_top_k``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        anomaly_map: What the anomaly map shows: the error of the ``reconstruction``, or the distance of features or
            what the discriminator of patches finds where that is the chosen score, or ``grad_cam``, where the
            discriminator sees that the image is not real; the last one cannot be exported.
        learning_rate: Learning rate of encoder and generator.
        code_discriminator_learning_rate: Learning rate of the code discriminator.
        references: Number of stored features of training images that the discriminator's are compared with.

    Raises:
        XrayError: Soft labels with a loss that has no labels, a negative weight of the divergence, or no stored
            feature.

    Example:
        >>> "discriminators_mean_probability" in AlphaGan(image_size=64, width=8, adversarial_loss="wgan-gp").scores
        False
    """

    model: AlphaGanModel

    def __init__(
        self,
        width: int = 64,
        latent_size: int = 256,
        latent: Latent = "linear",
        attention: bool = True,
        attention_pooling: int = 2,
        spectral_norm: bool = True,
        code_spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        soft_labels: float = 0.0,
        reconstruction_loss: ImageError = "mse",
        reconstruction_weight: float = 500.0,
        kl_weight: float = 0.0,
        score: str = "feature_distance_top_k",
        top_k: float = 0.005,
        anomaly_map: Literal["reconstruction", "grad_cam"] = "reconstruction",
        learning_rate: float = 1e-3,
        code_discriminator_learning_rate: float = 2e-4,
        references: int = 65536,
        **settings: Any,
    ) -> None:
        super().__init__(latent_size=latent_size, score=score, top_k=top_k, learning_rate=learning_rate, **settings)
        check_soft_labels(soft_labels, self.adversarial_loss)
        if kl_weight < 0:
            msg = f"kl_weight is {kl_weight}, but it is at least 0, which leaves the divergence out."
            raise XrayError(msg)
        self.error, self.reconstruction_weight = IMAGE_ERRORS[reconstruction_loss], reconstruction_weight
        self.soft_labels, self.kl_weight = soft_labels, kl_weight
        self.code_discriminator_learning_rate = code_discriminator_learning_rate
        self.model = AlphaGanModel(
            self.image_size,
            width,
            latent_size,
            latent,
            attention,
            attention_pooling,
            spectral_norm,
            code_spectral_norm,
            self.compares_images(minibatch_discrimination),
            self.ema_decay,
            self.make_scorer(),
            anomaly_map,
            self.adversarial_loss,
            references,
            self.patch_share > 0,
        )

    @property
    def scores(self) -> Sequence[str]:
        """Names of the scores: a critic of ``wgan-gp`` gives no probabilities."""
        critic = self.hparams["adversarial_loss"] == "wgan-gp"
        return [name for name in self.scores_of_patches(SCORES) if not critic or name != MEAN_PROBABILITY]

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Encoder, generator, discriminator and code discriminator."""
        model = self.model
        return {
            "encoder": ([model.encoder], self.learning_rate),
            "generator": ([model.generator], self.learning_rate),
            "discriminator": ([model.discriminator], self.discriminator_learning_rate),
            "code_discriminator": ([model.code_discriminator], self.code_discriminator_learning_rate),
            **self.patch_player(),
        }

    def adversarial_step(self, image: Tensor) -> None:
        """Updates encoder, generator, discriminator and code discriminator in turn.

        Every player is updated on a forward pass of its own through the current weights of the others; codes and fakes
        are handed on as data. The generator sees encoded and drawn codes in one batch, in the encoder's turn too: their
        batch statistics differ, and running statistics of batches of one kind each would fit neither.
        """
        model, kind, weight = self.model, self.adversarial_loss, self.reconstruction_weight
        image = to_tanh_range(image)
        noise = torch.randn(len(image), model.latent_size, device=self.device)

        self.turn_of("encoder")
        mean, deviation = model.encoder(image)
        code = draw(mean, deviation)
        reconstruction = model.generator(torch.cat([code, noise]), wanted=len(code))
        encoder = weight * self.error(reconstruction, image) + generator_loss(model.code_discriminator(code))
        if self.kl_weight:
            encoder = encoder + self.kl_weight * divergence_loss(mean, deviation)
        self.update("encoder", encoder)
        code = code.detach()

        self.turn_of("generator")
        reconstruction, sample = model.generator(torch.cat([code, noise])).chunk(2)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        adversarial = generator_loss(judged[0]) + generator_loss(judged[1])
        generator = weight * self.error(reconstruction, image) + adversarial
        self.update("generator", generator)
        reconstruction, sample = reconstruction.detach(), sample.detach()

        self.turn_of("discriminator")
        real = model.discriminator(image, remember=True)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        discriminator = discriminator_loss(real, [*judged], kind, self.soft_labels)
        discriminator = discriminator + self.penalty(model.discriminator, image, reconstruction, sample)
        self.update("discriminator", discriminator)

        self.turn_of("code_discriminator")
        judge = model.code_discriminator
        code_discriminator = discriminator_loss(judge(noise), [judge(code)], kind) + self.penalty(judge, noise, code)
        self.update("code_discriminator", code_discriminator)

        self.end_of_step(
            {
                "generator_loss": generator,
                "encoder_loss": encoder,
                "discriminator_loss": discriminator,
                "code_discriminator_loss": code_discriminator,
                "reconstruction_l1": l1_loss(reconstruction, image),
                "reconstruction_logit": judged[0].mean(),
            },
            real,
            judged[1],
            len(image),
        )


def divergence_loss(mean: Tensor, deviation: Tensor) -> Tensor:
    """Divergence of the codes' distributions from the standard normal one: sum over the code, mean over the images.

    Args:
        mean: ``(N, Z)``.
        deviation: Factor of the drawn noise, ``(N, Z)``; of either sign with codes through tanh, where its size counts.

    Returns:
        Scalar, in nats, at least 0.
    """
    return kld_score(mean, deviation.abs().clamp(min=exp(-LOG_VARIANCE / 2))).mean()
