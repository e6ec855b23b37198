"""α-GAN as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.visualization import Visualizer
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn, optim
from torch.nn.functional import l1_loss

from anomalib_xray.components import AdversarialLoss, RadiographModel
from anomalib_xray_plugins.alpha_gan.loss import (
    code_discriminator_loss,
    encoder_loss,
    generator_step_loss,
    image_discriminator_loss,
)
from anomalib_xray_plugins.alpha_gan.networks import Latent
from anomalib_xray_plugins.alpha_gan.torch_model import SCORES, AlphaGanModel, to_tanh_range, to_unit_range


class AlphaGan(RadiographModel, AnomalibModule):
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
        attention_pooling: Pooling of keys and values in self-attention; 1 as published, 2 costs a quarter.
        adversarial_loss: ``log`` (as published, where it is called hinge) or ``hinge``.
        reconstruction_weight: Weight of the absolute reconstruction error in the losses of encoder and generator.
        score: Score that becomes the predicted score: ``mse``, ``mse_top_k``, ``l1``, ``l1_top_k``, ``discriminator``,
            ``code_discriminator`` or ``discriminators_mean``.
        top_k: Pixels of the top-k scores: a number, or a fraction of the foreground if below 1.
        map_sigma: Smoothing of the anomaly map, in pixels of the network's input.
        learning_rate: Learning rate of encoder and generator.
        discriminator_learning_rate: Learning rate of the discriminator.
        code_discriminator_learning_rate: Learning rate of the code discriminator.
        betas: Coefficients of Adam.
        seed: Seed of weights, codes, shuffling and augmentation; none leaves them random.
        pre_processor: Pre-processor, or whether to use the default one.
        post_processor: Post-processor, or whether to use the default one.
        evaluator: Evaluator, or whether to use the default one.
        visualizer: Visualizer, or whether to use the default one.

    Raises:
        XrayError: An image size or score that the model does not have.
    """

    def __init__(
        self,
        image_size: int = 128,
        equalize: bool = False,
        augmentation: Literal["default", "advanced"] | None = "default",
        width: int = 64,
        latent_size: int = 100,
        latent: Latent = "linear",
        attention_pooling: int = 2,
        adversarial_loss: AdversarialLoss = "hinge",
        reconstruction_weight: float = 10.0,
        score: str = "mse_top_k",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
        learning_rate: float = 2e-4,
        discriminator_learning_rate: float = 2e-4,
        code_discriminator_learning_rate: float = 2e-4,
        betas: tuple[float, float] = (0.5, 0.999),
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
        self.automatic_optimization = False
        self.adversarial_loss = adversarial_loss
        self.reconstruction_weight = reconstruction_weight
        self.learning_rates = (
            learning_rate,
            learning_rate,
            discriminator_learning_rate,
            code_discriminator_learning_rate,
        )
        self.betas = betas
        self.model: AlphaGanModel = AlphaGanModel(
            image_size, width, latent_size, latent, attention_pooling, score, top_k, map_sigma
        )

        self.register_buffer("fixed_codes", torch.randn(16, latent_size), persistent=False)

    def training_step(self, batch: ImageBatch, *_: Any) -> None:  # noqa: ANN401
        """Updates encoder, generator, discriminator and code discriminator in turn.

        Every player is updated on a forward pass of its own through the current weights of the others; codes and fakes
        are handed on as data.
        """
        model, weight, kind = self.model, self.reconstruction_weight, self.adversarial_loss
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)  # four players
        image = to_tanh_range(self.grey(batch))
        noise = torch.randn(len(image), model.latent_size, device=self.device)

        self._turn_of(model.encoder)
        mean, deviation = model.encoder(image)
        code = mean + deviation * torch.randn_like(mean)
        encoder = encoder_loss(image, model.generator(code), model.code_discriminator(code), weight)
        self._update(optimizers[0], encoder)
        code = code.detach()

        self._turn_of(model.generator)
        reconstruction, sample = model.generator(code), model.generator(noise)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        generator = generator_step_loss(image, reconstruction, *judged, weight)
        self._update(optimizers[1], generator)
        reconstruction, sample = reconstruction.detach(), sample.detach()

        self._turn_of(model.discriminator)
        real = model.discriminator(image, remember=True)
        judged = model.discriminator(reconstruction), model.discriminator(sample)
        discriminator = image_discriminator_loss(real, *judged, kind)
        self._update(optimizers[2], discriminator)

        self._turn_of(model.code_discriminator)
        code_discriminator = code_discriminator_loss(
            model.code_discriminator(noise), model.code_discriminator(code), kind
        )
        self._update(optimizers[3], code_discriminator)

        self.log_losses(
            {
                "generator_loss": generator,
                "encoder_loss": encoder,
                "discriminator_loss": discriminator,
                "code_discriminator_loss": code_discriminator,
                "reconstruction_l1": l1_loss(reconstruction, image),
                "real_logit": real.mean(),
                "reconstruction_logit": judged[0].mean(),
                "sample_logit": judged[1].mean(),
            },
            len(image),
        )

    def _turn_of(self, player: nn.Module) -> None:
        """Lets gradients into one player's weights only."""
        self.model.requires_grad_(False)
        player.requires_grad_(True)

    def _update(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        """One step of the player whose turn it is."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def on_train_epoch_end(self) -> None:
        """Hands all weights back as trainable."""
        self.model.requires_grad_(True)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above their reconstructions, and samples from fixed codes."""
        mean, _ = self.model.encoder(to_tanh_range(image))
        return {
            **self.reconstruction_rows(image, to_unit_range(self.model.generator(mean))),
            "samples": to_unit_range(self.model.generator(self.fixed_codes)),
        }

    def configure_optimizers(self) -> list[optim.Optimizer]:
        """Adam for each player: encoder, generator, discriminator, code discriminator."""
        model = self.model
        players = (model.encoder, model.generator, model.discriminator, model.code_discriminator)
        return [
            optim.Adam(player.parameters(), lr=rate, betas=self.betas)
            for player, rate in zip(players, self.learning_rates, strict=True)
        ]
