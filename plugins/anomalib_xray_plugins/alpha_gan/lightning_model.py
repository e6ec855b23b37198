"""α-GAN as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from anomalib_xray.components import (
    IMAGE_ERRORS,
    AdversarialLoss,
    GanModel,
    ImageError,
    Latent,
    Schedule,
    check_soft_labels,
    draw,
    gradient_penalty,
)
from anomalib_xray.components.sagan import to_tanh_range
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.alpha_gan.loss import (
    code_discriminator_loss,
    divergence_loss,
    encoder_loss,
    generator_step_loss,
    image_discriminator_loss,
)
from anomalib_xray_plugins.alpha_gan.torch_model import MEAN_PROBABILITY, SCORES, AlphaGanModel


class AlphaGan(GanModel, AnomalibModule):
    """α-GAN: an autoencoder and a generative adversarial network in one, trained on normal radiographs.

    Source: Rosca et al. 2017 (1706.04987), as used in arXiv 2001.10883, section 3. Every player sees one forward pass
    with the current weights; the original's stale activations are not reproduced (its reference implementation
    back-propagates through weights that were already updated).

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        equalize: Whether the foreground's histogram is equalised.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        width: Channels of the first level; the widest level has 16 times as many.
        latent_size: Length of the code.
        latent: Code ``linear`` (mean unbounded, log-variance) or ``tanh`` (both through tanh, as published).
        attention: Whether encoder, generator and discriminator have self-attention.
        attention_pooling: Pooling of keys and values in self-attention; 1 as published, 2 costs a quarter.
        spectral_norm: Whether convolutions are spectrally normalised.
        code_spectral_norm: Whether the code discriminator is spectrally normalised too.
        minibatch_discrimination: Whether the discriminator compares images with others of their batch; not with
            ``wgan-gp``.
        adversarial_loss: ``log`` (as published, where it is called hinge), ``hinge`` or ``wgan-gp``.
        gradient_penalty: Weight of the gradient penalty of ``wgan-gp``.
        soft_labels: Largest distance of the discriminator's labels from 0 and 1; with ``log`` only.
        reconstruction_loss: Error of reconstructions in the losses of encoder and generator: ``l1`` (as published),
            ``mse`` or ``smooth_l1``.
        reconstruction_weight: Its weight (0.01 as published).
        kl_weight: Weight of the codes' divergence from the normal distribution in the encoder's loss; 0 for none, as in
            the published code.
        ema_decay: Decay of the moving average of the generator's weights that evaluation uses; 0 for none.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient``, each also
            with ``_top_k``, ``discriminator``, ``code_discriminator``, ``discriminators_mean``,
            ``discriminators_mean_probability`` (not with ``wgan-gp``), ``discriminator_difference``,
            ``feature_matching``, ``feature_matching_signed`` or ``latent_distance``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        anomaly_map: What the anomaly map shows: the error of the ``reconstruction``, or ``grad_cam``, where the
            discriminator sees that the image is not real; the latter cannot be exported.
        learning_rate: Learning rate of encoder and generator.
        discriminator_learning_rate: Learning rate of the discriminator.
        code_discriminator_learning_rate: Learning rate of the code discriminator.
        betas: Coefficients of Adam.
        schedule: Learning rates over the training: ``constant``, ``linear``, ``cosine`` or ``exponential``.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have, soft labels with a loss that has no labels, or
            a negative weight of the divergence.
    """

    model: AlphaGanModel

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 64,
        latent_size: int = 256,
        latent: Latent = "linear",
        attention: bool = True,
        attention_pooling: int = 2,
        spectral_norm: bool = True,
        code_spectral_norm: bool = True,
        minibatch_discrimination: bool = True,
        adversarial_loss: AdversarialLoss = "hinge",
        gradient_penalty: float = 10.0,
        soft_labels: float = 0.0,
        reconstruction_loss: ImageError = "mse",
        reconstruction_weight: float = 500.0,
        kl_weight: float = 0.0,
        ema_decay: float = 0.0,
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        top_k: float = 0.005,
        map_sigma: float = 1.0,
        anomaly_map: Literal["reconstruction", "grad_cam"] = "reconstruction",
        learning_rate: float = 1e-3,
        discriminator_learning_rate: float = 2e-4,
        code_discriminator_learning_rate: float = 2e-4,
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
        self.start([name for name in SCORES if adversarial_loss != "wgan-gp" or name != MEAN_PROBABILITY])
        check_soft_labels(soft_labels, adversarial_loss)
        if kl_weight < 0:
            msg = f"kl_weight is {kl_weight}, but it is at least 0, which leaves the divergence out."
            raise XrayError(msg)
        self.model = AlphaGanModel(
            image_size,
            width,
            latent_size,
            latent,
            attention,
            attention_pooling,
            spectral_norm,
            code_spectral_norm,
            self.hparams["minibatch_discrimination"],
            ema_decay,
            ReconstructionScorer(score, top_k, map_sigma, extra_scores),
            anomaly_map,
            adversarial_loss,
        )

    def players(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """Encoder, generator, discriminator and code discriminator."""
        model, rates = self.model, self.hparams
        return {
            "encoder": ([model.encoder], rates["learning_rate"]),
            "generator": ([model.generator], rates["learning_rate"]),
            "discriminator": ([model.discriminator], rates["discriminator_learning_rate"]),
            "code_discriminator": ([model.code_discriminator], rates["code_discriminator_learning_rate"]),
        }

    def training_step(self, batch: ImageBatch, *_: Any) -> None:  # noqa: ANN401
        """Updates encoder, generator, discriminator and code discriminator in turn.

        Every player is updated on a forward pass of its own through the current weights of the others; codes and fakes
        are handed on as data. The generator sees encoded and drawn codes in one batch, in the encoder's turn too: their
        batch statistics differ, and running statistics of batches of one kind each would fit neither.
        """
        model, weight = self.model, self.hparams["reconstruction_weight"]
        error_of = IMAGE_ERRORS[self.hparams["reconstruction_loss"]]
        image = self.grey(batch)
        self.keep(image)
        image = to_tanh_range(image)
        noise = torch.randn(len(image), model.latent_size, device=self.device)

        self.turn_of("encoder")
        mean, deviation = model.encoder(image)
        code = draw(mean, deviation)
        reconstruction, _ = model.generator(torch.cat([code, noise])).chunk(2)
        encoder = encoder_loss(error_of(reconstruction, image), model.code_discriminator(code), weight)
        if self.hparams["kl_weight"]:
            encoder = encoder + self.hparams["kl_weight"] * divergence_loss(mean, deviation)
        self.update("encoder", encoder)
        code = code.detach()

        self.turn_of("generator")
        reconstruction, sample = model.generator(torch.cat([code, noise])).chunk(2)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        generator = generator_step_loss(error_of(reconstruction, image), *judged, weight)
        self.update("generator", generator)
        reconstruction, sample = reconstruction.detach(), sample.detach()

        self.turn_of("discriminator")
        real = model.discriminator(image, remember=True)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        discriminator = self._discriminator_loss(image, reconstruction, sample, (real, *judged))
        self.update("discriminator", discriminator)

        self.turn_of("code_discriminator")
        code_discriminator = self._code_discriminator_loss(noise, code)
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

    def _discriminator_loss(
        self, image: Tensor, reconstruction: Tensor, sample: Tensor, logits: tuple[Tensor, Tensor, Tensor]
    ) -> Tensor:
        """The discriminator's loss on images, reconstructions and samples, and the penalty for both kinds of fakes."""
        kind, judge = self.hparams["adversarial_loss"], self.model.discriminator
        loss = image_discriminator_loss(*logits, kind, self.hparams["soft_labels"])
        if kind == "wgan-gp":
            penalty = gradient_penalty(judge, image, reconstruction) + gradient_penalty(judge, image, sample)
            loss = loss + self.hparams["gradient_penalty"] * penalty
        return loss

    def _code_discriminator_loss(self, noise: Tensor, code: Tensor) -> Tensor:
        """The code discriminator's loss on normal codes and the encoder's, and its penalty."""
        kind, judge = self.hparams["adversarial_loss"], self.model.code_discriminator
        loss = code_discriminator_loss(judge(noise), judge(code), kind)
        if kind == "wgan-gp":
            loss = loss + self.hparams["gradient_penalty"] * gradient_penalty(judge, noise, code)
        return loss

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions, and samples from fixed codes."""
        return {**super().pictures(image), **self.reconstruction_rows(image, self.model.reconstruct(image))}
