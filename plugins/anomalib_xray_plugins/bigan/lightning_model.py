"""BiGAN as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from anomalib.models import AnomalibModule
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.adversarial import (
    NoiseSchedule,
    add_noise,
    check_soft_labels,
    discriminator_loss,
    instance_noise_level,
    passing_loss,
)
from anomalib_xray.networks.losses import IMAGE_ERRORS, ImageError
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray_plugins.alpha_gan.patch_training import PatchTraining
from anomalib_xray_plugins.bigan.torch_model import SCORES, BiganModel


class Bigan(ReconstructionModel, PatchTraining, AnomalibModule):
    """BiGAN: a generative adversarial network whose encoder learns to invert the generator, on normal radiographs.

    The discriminator sees pairs: an image with the code that the encoder gives it, or a code with the image that the
    generator gives it. Where it cannot tell them apart, encoder and generator are each other's inverse.

    Source: Donahue et al. 2017 (1605.09782); Zenati et al. 2018 (1802.06222), for anomalies; arXiv 2001.10883, section
    3. Encoder and generator are one player with one optimiser; what its reference implementation adds to their
    gradients, the discriminator's left-over ones, is not reproduced.

    Args:
        width: Channels of the first level; the widest level has 16 times as many.
        latent_size: Length of the code; 100 in the published code, 200 in the paper.
        attention: Whether encoder, generator and discriminator have self-attention.
        attention_pooling: Pooling of keys and values in self-attention; 1 as published, 2 costs a quarter.
        spectral_norm: Whether the layers of generator and discriminator, and the encoder's trunk, are spectrally
            normalised.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        instance_noise: Scale of the noise on the images that the discriminator sees; 0 for none.
        noise_schedule: How the noise fades: ``linear``, or ``published`` (whose scale is 0.01).
        reconstruction_loss: Error of ``G(E(x))`` in the loss of encoder and generator: ``mse``, ``l1`` or
            ``smooth_l1``.
        reconstruction_weight: Its weight; 0 as published.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient``, each also
            with ``_top_k``, ``discriminator``, ``discriminator_difference``, ``feature_matching``,
            ``feature_matching_signed``, ``encoder_feature_matching``, ``latent_distance``, ``bigan``,
            ``feature_distance``, ``feature_distance_top_k``, or with ``patch_share`` ``patch_discriminator`` or
            ``patch_discriminator_top_k``.
        feature_weight: Share of the features in the score ``bigan``, the rest is the absolute error (0.1 as published).
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        anomaly_map: What the anomaly map shows: the error of the ``reconstruction``, or the distance of features or
            what the discriminator of patches finds where that is the chosen score, or ``grad_cam``, where the
            discriminator sees that the image is not real; the last one cannot be exported.
        learning_rate: Learning rate of encoder and generator.
        references: Number of stored features of training images that the discriminator's are compared with.

    Raises:
        XrayError: Soft labels with a loss that has no labels, a negative scale of the noise, noise in a training
            without an end, or no stored feature.

    Example:
        >>> "bigan" in Bigan(image_size=64, width=8, latent_size=8).scores
        True
    """

    model: BiganModel

    def __init__(
        self,
        width: int = 64,
        latent_size: int = 256,
        attention: bool = True,
        attention_pooling: int = 2,
        spectral_norm: bool = True,
        soft_labels: float = 0.0,
        instance_noise: float = 0.1,
        noise_schedule: NoiseSchedule = "linear",
        reconstruction_loss: ImageError = "mse",
        reconstruction_weight: float = 100.0,
        score: str = "mse_top_k",
        feature_weight: float = 0.1,
        top_k: float = 0.005,
        anomaly_map: Literal["reconstruction", "grad_cam"] = "reconstruction",
        learning_rate: float = 1e-3,
        references: int = 16384,
        **settings: Any,
    ) -> None:
        super().__init__(latent_size=latent_size, score=score, top_k=top_k, learning_rate=learning_rate, **settings)
        check_soft_labels(soft_labels, self.adversarial_loss)
        if instance_noise < 0:
            msg = f"instance_noise is {instance_noise}, but it is a standard deviation: at least 0 (no noise)."
            raise XrayError(msg)
        self.soft_labels, self.instance_noise, self.noise_schedule = soft_labels, instance_noise, noise_schedule
        self.error, self.reconstruction_weight = IMAGE_ERRORS[reconstruction_loss], reconstruction_weight
        self.model = BiganModel(
            self.image_size,
            width,
            latent_size,
            attention,
            attention_pooling,
            spectral_norm,
            self.ema_decay,
            feature_weight,
            self.make_scorer(),
            anomaly_map,
            self.adversarial_loss,
            references,
            self.patch_share > 0,
        )

    @property
    def scores(self) -> Sequence[str]:
        """Names of the scores."""
        return self.scores_of_patches(SCORES)

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Generator and encoder together, and the discriminator."""
        return {
            "generator": ([self.model.generator, self.model.encoder], self.learning_rate),
            "discriminator": ([self.model.discriminator], self.discriminator_learning_rate),
            **self.patch_player(),
        }

    def adversarial_step(self, image: Tensor) -> None:
        """Updates generator and encoder, then the discriminator.

        Images and codes that were made in the first turn are handed on to the second one as data.
        """
        model, kind, noise = self.model, self.adversarial_loss, self._noise()
        image = to_tanh_range(image)
        drawn = torch.randn(len(image), model.latent_size, device=self.device)

        self.turn_of("generator")
        code = model.encoder(image)
        reconstruction, sample = self._generate(code, drawn)
        # The encoder's pairs should pass for the generator's, and the generator's for the encoder's.
        encoder = passing_loss(-model.discriminator(add_noise(image, noise), code), kind)
        generator = passing_loss(model.discriminator(add_noise(sample, noise), drawn), kind)
        errors = {} if reconstruction is None else {"reconstruction_l1": l1_loss(reconstruction, image)}
        error = 0.0 if reconstruction is None else self.error(reconstruction, image)
        self.update("generator", encoder + generator + self.reconstruction_weight * error)
        code, sample = code.detach(), sample.detach()

        self.turn_of("discriminator")
        shown, made = add_noise(image, noise), add_noise(sample, noise)
        encoded, generated = model.discriminator(shown, code), model.discriminator(made, drawn)
        discriminator = discriminator_loss(encoded, [generated], kind, self.soft_labels)
        discriminator = discriminator + self._pair_penalty(shown, code, made, drawn)
        self.update("discriminator", discriminator)

        if model.encoder_average is not None:
            model.encoder_average.update_parameters(model.encoder)
        losses = {"generator_loss": generator, "encoder_loss": encoder, "discriminator_loss": discriminator, **errors}
        self.end_of_step(losses, encoded, generated, len(image))

    def _generate(self, code: Tensor, drawn: Tensor) -> tuple[Tensor | None, Tensor]:
        """Reconstructions, where their error counts, and samples.

        In one batch: batch statistics of encoded and drawn codes differ, and running statistics of batches of one kind
        each would fit neither. A training as published sees drawn codes only.
        """
        if not self.reconstruction_weight:
            return None, self.model.generator(drawn)
        reconstruction, sample = self.model.generator(torch.cat([code, drawn])).chunk(2)
        return reconstruction, sample

    def _noise(self) -> float:
        """Standard deviation of the noise on the discriminator's images in this epoch."""
        scale, trainer = self.instance_noise, self._trainer
        if scale == 0 or trainer is None:
            return 0.0
        if trainer.max_epochs is None or trainer.max_epochs < 1:
            msg = (
                f"instance_noise is {scale} and fades over the epochs, but their number is not known; set "
                "trainer.max_epochs, or instance_noise: 0."
            )
            raise XrayError(msg)
        return instance_noise_level(scale, self.current_epoch, trainer.max_epochs, self.noise_schedule)

    def _pair_penalty(self, image: Tensor, code: Tensor, sample: Tensor, drawn: Tensor) -> Tensor | float:
        """The gradient penalty between pairs: image and code of a pair are moved together."""
        shape = image.shape[1:]

        def judge(pair: Tensor) -> Tensor:
            pixels, codes = pair[:, : shape.numel()], pair[:, shape.numel() :]
            logits: Tensor = self.model.discriminator(pixels.reshape(-1, *shape), codes)
            return logits

        real, fake = (torch.cat([pixels.flatten(1), codes], 1) for pixels, codes in ((image, code), (sample, drawn)))
        return self.penalty(judge, real, fake)
