"""Autoencoders of images: their losses, the noise on their input, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.frozen_backbone import PerceptualError
from anomalib_xray.networks.losses import masked_reconstruction_loss
from anomalib_xray.scores import (
    EXTRA_SCORES,
    PERCEPTUAL_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    foreground,
)
from anomalib_xray.training.reconstruction_model import ReconstructionModel
from anomalib_xray.training.trained_model import TrainedModel

NoiseKind = Literal["coarse", "pixel"]

GRID = 16
"""Side of the grid of coarse noise."""


def input_noise(mask: Tensor, deviation: float, kind: NoiseKind = "coarse") -> Tensor:
    """Draws normal noise within the foreground, ``(N, 1, S, S)``, exactly 0 outside it.

    Coarse noise has the size of an anomaly: it is drawn on a grid of 16 x 16 points, upsampled bilinearly and moved by
    a random distance, across the edges, so that the grid's points lie anywhere. Source: Kascenas et al. 2022,
    "Denoising autoencoders for unsupervised anomaly detection in brain MRI" (MIDL), section 3.

    Args:
        mask: 1 in the foreground and 0 outside, ``(N, 1, S, S)``.
        deviation: Standard deviation at the grid's points, in units of the image's range [0, 1]; 0.2 as published.
            Between the points, where coarse noise is an average of them, it is smaller.
        kind: ``coarse``, or ``pixel``, drawn for each pixel on its own.

    >>> mask = torch.eye(64).expand(2, 1, 64, 64)
    >>> noise = input_noise(mask, 0.2)
    >>> noise.shape, bool((noise * (1 - mask) == 0).all())
    (torch.Size([2, 1, 64, 64]), True)
    """
    if kind == "pixel":
        return deviation * torch.randn_like(mask) * mask
    height, width = mask.shape[2:]
    grid = torch.randn(len(mask), 1, GRID, GRID, device=mask.device, dtype=mask.dtype)
    noise = interpolate(grid, size=(height, width), mode="bilinear", align_corners=True)
    moves = int(torch.randint(height, ())), int(torch.randint(width, ()))
    return deviation * noise.roll(moves, (2, 3)) * mask


AutoencoderLoss = Literal["mse", "l1", "smooth_l1", "ssim", "perceptual"]


class AutoencoderModel(ReconstructionModel, TrainedModel):
    """Mixin of an autoencoder of images: ``class Cae(AutoencoderModel, AnomalibModule)``.

    The torch module reconstructs in training.

    The network of a perceptual loss does not belong to the model: it is not trained, not saved and not exported. That
    of a perceptual score does: it is saved in the checkpoint, which needs its file no more.

    Args:
        reconstruction_loss: Error that training lowers: ``mse``, ``l1``, ``smooth_l1``, ``ssim`` (1 - SSIM), or
            ``perceptual``, the relative difference of a frozen backbone's features.
        perceptual_backbone: Network of timm whose features the loss or score ``perceptual`` compares.
        perceptual_layers: Which of its feature maps, in rising order from 0.
        perceptual_weights: File with weights of this network, read when training starts; none leaves them random.
        noise: Standard deviation of the noise on the foreground of what the network sees in training, in units of the
            image's range; 0 for none. The target stays clean.
        noise_kind: ``coarse``, drawn on 16 x 16 points and upsampled, or ``pixel``.
        weight_decay: Weight decay of Adam.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        score: Score that becomes the predicted score: ``mse``, ``l1``, ``smooth_l1``, ``ssim``, ``gradient`` or
            ``perceptual``, each also with ``_top_k``.
        extra_scores: Errors whose scores are computed besides: ``ssim``, ``gradient``, ``perceptual``.

    Raises:
        XrayError: A setting that an autoencoder does not have.
    """

    scores = (*RECONSTRUCTION_SCORES, *EXTRA_SCORES, *PERCEPTUAL_SCORES)

    _loss_network: tuple[PerceptualError, ...] = ()
    """Kept in a tuple, so that it is not registered as a part of the model."""

    def __init__(
        self,
        reconstruction_loss: AutoencoderLoss = "mse",
        perceptual_backbone: str = "resnet18",
        perceptual_layers: Sequence[int] = (1, 2, 3),
        perceptual_weights: str | None = None,
        noise: float = 0.0,
        noise_kind: NoiseKind = "coarse",
        weight_decay: float = 0.0,
        augmentation: Literal["default", "advanced"] | None = "advanced",
        score: str = "mse_top_k",
        extra_scores: list[str] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, score=score, extra_scores=extra_scores, **settings)
        for name, value, choices in (
            ("reconstruction_loss", reconstruction_loss, get_args(AutoencoderLoss)),
            ("noise_kind", noise_kind, get_args(NoiseKind)),
        ):
            if value not in choices:
                msg = f"{name} is {value!r}, but {self.name} knows {', '.join(choices)}; choose one of them."
                raise XrayError(msg)
        if noise < 0:
            msg = f"noise is {noise}, but a standard deviation is not negative; 0 leaves the noise out."
            raise XrayError(msg)
        self.reconstruction_loss, self.weight_decay = reconstruction_loss, weight_decay
        self.noise, self.noise_kind = noise, noise_kind
        self.perceptual_backbone, self.perceptual_layers = perceptual_backbone, perceptual_layers
        self.perceptual_weights = perceptual_weights

    def further_networks(self) -> dict[str, Callable[[], nn.Module]]:
        """The network of the perceptual error."""
        return {
            "perceptual": lambda: PerceptualError(self.perceptual_backbone, self.perceptual_layers, self.image_size)
        }

    def make_scorer(self) -> ReconstructionScorer:
        """Builds the scorer of the settings, and the network of a perceptual loss."""
        scorer = super().make_scorer()
        networks = list(scorer.networks.values())
        if self.reconstruction_loss == "perceptual":
            networks = networks or [self.further_networks()["perceptual"]()]
        self._loss_network = tuple(network for network in networks if isinstance(network, PerceptualError))
        return scorer

    def on_fit_start(self) -> None:
        """Brings the perceptual network to the device and reads its weights, if there is one."""
        super().on_fit_start()
        for network in self._loss_network:
            network.to(next(self.model.parameters()))  # its device and precision
            network.backbone.prepare(self.perceptual_weights)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Lowers the error of the reconstruction of images, or of images with noise."""
        image = self.grey(batch)
        loss = self.loss_of(self.model(self.disturbed(batch)), image)
        self.log_losses({"loss": loss}, len(image))
        return loss

    def disturbed(self, batch: ImageBatch) -> Tensor:
        """A batch's images with noise on their foreground, ``(N, 3, S, S)``."""
        images = torch.as_tensor(batch.image)
        if self.noise == 0:  # and no random number is drawn
            return images
        return images + input_noise(foreground(self.grey(batch)), self.noise, self.noise_kind)

    def loss_of(self, reconstruction: Tensor, image: Tensor) -> Tensor:
        """The loss of the settings over the foreground, a scalar, of ``(N, 1, S, S)`` in [0, 1]."""
        if self.reconstruction_loss == "perceptual":
            return self._loss_network[0].loss(reconstruction, image)
        return masked_reconstruction_loss(reconstruction, image, foreground(image), self.reconstruction_loss)
