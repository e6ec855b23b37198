"""What autoencoders of images share: their loss, the noise on their input, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from anomalib.data import ImageBatch
from torch import Tensor, optim

from anomalib_xray.components.input_noise import NoiseKind, input_noise
from anomalib_xray.components.losses import masked_reconstruction_loss
from anomalib_xray.components.perceptual import PerceptualError
from anomalib_xray.components.radiograph_model import RadiographModel
from anomalib_xray.errors import XrayError
from anomalib_xray.scores import (
    EXTRA_SCORES,
    PERCEPTUAL_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    foreground,
)

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
else:
    AnomalibModule = object

AutoencoderLoss = Literal["mse", "l1", "smooth_l1", "ssim", "perceptual"]

AUTOENCODER_SCORES = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES, *PERCEPTUAL_SCORES)
"""Scores that an autoencoder of images can compute."""


class AutoencoderModel(RadiographModel, AnomalibModule):
    """Mixin of an autoencoder of images: ``class Cae(AutoencoderModel, AnomalibModule)``.

    Besides those of :class:`RadiographModel` the plugin's constructor has the arguments ``reconstruction_loss``,
    ``perceptual_backbone``, ``perceptual_layers``, ``perceptual_weights``, ``noise``, ``noise_kind``, ``extra_scores``,
    ``top_k``, ``map_sigma``, ``learning_rate`` and ``weight_decay``. It calls :meth:`start` and gives its torch module
    the scorer of :meth:`make_scorer`; the module reconstructs in training and has a method ``reconstruct``.

    The network of a perceptual loss is no part of the model: it is not trained, not saved and not exported. That of a
    perceptual score is: it is saved in the checkpoint, which needs its file no more.
    """

    _loss_network: tuple[PerceptualError, ...] = ()
    """In a tuple, so that it is not registered as a part of the model."""

    def start(self, scores: Sequence[str] = AUTOENCODER_SCORES) -> None:
        """As :meth:`RadiographModel.start`, and checks loss and noise.

        Args:
            scores: Names of the scores that the model computes.

        Raises:
            XrayError: A setting that an autoencoder does not have.
        """
        super().start(scores)
        for name, choices in {"reconstruction_loss": AutoencoderLoss, "noise_kind": NoiseKind}.items():
            if self.hparams[name] not in get_args(choices):
                known = ", ".join(get_args(choices))
                msg = f"{name} is {self.hparams[name]!r}, but {self.name} knows {known}; choose one of them."
                raise XrayError(msg)
        if self.hparams["noise"] < 0:
            msg = f"noise is {self.hparams['noise']}, but a standard deviation is not negative; 0 leaves the noise out."
            raise XrayError(msg)

    def make_scorer(self) -> ReconstructionScorer:
        """Scores and map as the settings want them; the network of a perceptual loss is built as well."""
        settings = self.hparams

        def make_network() -> PerceptualError:
            return PerceptualError(settings["perceptual_backbone"], settings["perceptual_layers"])

        scorer = ReconstructionScorer(
            settings["score"],
            settings["top_k"],
            settings["map_sigma"],
            settings["extra_scores"],
            {"perceptual": make_network},
        )
        networks = list(scorer.networks.values())
        if settings["reconstruction_loss"] == "perceptual":
            networks = networks or [make_network()]
        self._loss_network = tuple(network for network in networks if isinstance(network, PerceptualError))
        return scorer

    def on_fit_start(self) -> None:
        """Brings the perceptual network to the device and reads its weights, if there is one."""
        super().on_fit_start()
        for network in self._loss_network:
            network.to(next(self.model.parameters()))  # its device and precision
            network.backbone.prepare(self.hparams["perceptual_weights"])

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:  # noqa: ANN401
        """Lowers the error of the reconstruction of images, or of images with noise."""
        image = self.grey(batch)
        loss = self.reconstruction_loss(self.model(self.disturbed(batch)), image)
        self.log_losses({"loss": loss}, len(image))
        return loss

    def disturbed(self, batch: ImageBatch) -> Tensor:
        """What the network sees in training: a batch's images with noise on their foreground, ``(N, 3, S, S)``."""
        assert batch.image is not None  # anomalib's fields are optional, its loaders fill this one
        images: Tensor = batch.image
        deviation: float = self.hparams["noise"]
        if deviation == 0:  # and no random number is drawn
            return images
        return images + input_noise(foreground(self.grey(batch)), deviation, self.hparams["noise_kind"])

    def reconstruction_loss(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """The loss of the settings over the foreground, a scalar, of ``(N, 1, S, S)`` in [0, 1]."""
        kind = self.hparams["reconstruction_loss"]
        if kind == "perceptual":
            return self._loss_network[0].loss(reconstruction, image)
        return masked_reconstruction_loss(reconstruction, image, foreground(image), kind)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images and their reconstructions, in turn by rows."""
        reconstruct: Callable[[Tensor], Tensor] = self.model.reconstruct  # type: ignore[assignment]  # a method of it
        return self.reconstruction_rows(image, reconstruct(image))

    def configure_optimizers(self) -> Any:  # noqa: ANN401  # Lightning's union of forms
        """Adam on all that is trained, with the schedule of the settings."""
        trained = [weight for weight in self.parameters() if weight.requires_grad]
        settings = self.hparams
        return self.with_schedule(
            optim.Adam(trained, lr=settings["learning_rate"], weight_decay=settings["weight_decay"])
        )
