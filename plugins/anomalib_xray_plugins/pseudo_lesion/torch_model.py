"""Network that finds pseudo-lesions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    adaptive_avg_pool2d,
    binary_cross_entropy_with_logits,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
)

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.frozen_backbone import FrozenBackbone
from anomalib_xray.networks.unet import UNet, double_convolution, rise, way_up
from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, error_scores, foreground, masked_mean
from anomalib_xray_plugins.cae.torch_model import CaeModel

Calibration = Literal["none", "place", "picture"]

SCORES = ("lesion", "lesion_top_k")
"""Scores that the model computes."""

FOLD = 2
"""Pixels are put side by side as channels in squares of this side: a step costs a third, at no loss of detail."""

RARE = 0.03
"""Probability of a lesion before training, about their share of pixels (Lin et al. 2017, 1708.02002, section 4.1)."""

LEVELS = (1, 2, 4, 8, 8)
"""Channels of the U-Net's levels, in widths."""

GRID = 16
"""Side of the grid of what fires where nothing was painted."""

LEAST_MOMENTUM = 0.01
"""Share of the newest batch in that grid, once a hundred batches were seen."""

LEAST_DEVIATION = 0.02
"""Standard deviation of a picture's foreground below which it is not raised further: five grey levels."""

LEAST_PROBABILITY = 1e-3
"""Added to a mean probability that divides."""

COMPARED_LEVELS, COMPARED_CHANNELS = 4, 32
"""Halvings and channels of the code of the reconstructing network: too few for a lesion that it never saw."""


class BackboneUNet(nn.Module):
    """A U-Net whose way down is a frozen backbone; the finest level is the picture itself.

    Args:
        backbone: A convolutional network of timm.
        layers: Which of its feature maps, in rising order.
        inputs: Channels of the finest level.
        outputs: Channels of the maps.
        width: Channels of the finest level on the way up.
    """

    def __init__(self, backbone: str, layers: Sequence[int], inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        self.backbone = FrozenBackbone(backbone, layers)
        if self.backbone.side is not None:
            msg = f"backbone is {backbone}, but a U-Net needs feature maps of several sizes: take a convolutional one."
            raise XrayError(msg)
        beside = [width, *(width * 2 ** min(level + 1, 3) for level in range(len(layers)))]
        self.narrow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(many, few, 1, bias=False), nn.BatchNorm2d(few), nn.ReLU(inplace=True))
            for many, few in zip(self.backbone.channels, beside[1:], strict=True)
        )
        self.finest = double_convolution(inputs, width)
        self.decoder = way_up(beside)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, image: Tensor, finest: Tensor) -> Tensor:
        """Maps of pictures, ``(N, outputs, h, w)``.

        Args:
            image: What the backbone sees, ``(N, 1, S, S)`` in [0, 1].
            finest: What the last block on the way up sees, ``(N, inputs, h, w)``.
        """
        found = [narrow(one) for narrow, one in zip(self.narrow, self.backbone(image), strict=True)]
        made: Tensor = self.head(rise(self.decoder, [self.finest(finest), *found]))
        return made


class LesionModel(nn.Module):
    """A U-Net that tells lesions from normal; the arguments are settings of ``PseudoLesion``.

    With ``compare`` an autoencoder first reconstructs the picture without its lesions, and the U-Net sees both.
    """

    clean: Tensor
    batches: Tensor

    def __init__(
        self,
        width: int = 8,
        compare: bool = False,
        calibration: Calibration = "none",
        score: str = "lesion",
        top_k: float = 0.01,
        map_sigma: float = 1.0,
        backbone: str | None = None,
        layers: Sequence[int] = (1, 2, 3),
    ) -> None:
        super().__init__()
        inputs = (2 if compare else 1) * FOLD**2
        self.network: UNet | BackboneUNet = (
            UNet(inputs, FOLD**2, [width * share for share in LEVELS])
            if backbone is None
            else BackboneUNet(backbone, layers, inputs, FOLD**2, width)
        )
        nn.init.constant_(self.network.head.bias, math.log(RARE / (1 - RARE)))  # type: ignore[arg-type]  # it has one
        self.reconstructing = CaeModel(width, COMPARED_CHANNELS, COMPARED_LEVELS) if compare else None
        self.calibration, self.score, self.top_k = calibration, score, top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)
        # With these a division by place changes nothing.
        self.register_buffer("clean", torch.full((1, 1, GRID, GRID), 0.5))
        self.register_buffer("batches", torch.zeros(()))
        self.to(memory_format=torch.channels_last)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Pictures without their lesions, ``(N, 1, S, S)`` in [0, 1]."""
        assert self.reconstructing is not None  # of comparing models
        return self.reconstructing.reconstruct(image) * foreground(image)

    def seen(self, image: Tensor, reconstruction: Tensor | None = None) -> Tensor:
        """What the U-Net sees of ``(N, 1, S, S)`` in [0, 1], side by side: with a mean of 0 and a deviation of 1."""
        mask = foreground(image)
        mean = masked_mean(image, mask).view(-1, 1, 1, 1)
        deviation = masked_mean((image - mean).square(), mask).clamp(min=LEAST_DEVIATION**2).sqrt().view(-1, 1, 1, 1)
        seen = [image] if reconstruction is None else [image, reconstruction]
        return torch.cat([(picture - mean) / deviation * mask for picture in seen], 1)

    def logits(self, image: Tensor, seen: Tensor) -> Tensor:
        """Logits of a lesion at each pixel of pictures, ``(N, 1, H, W)``, from what the U-Net sees of them."""
        folded = pixel_unshuffle(seen, FOLD).contiguous(memory_format=torch.channels_last)
        network = self.network
        return pixel_shuffle(network(image, folded) if isinstance(network, BackboneUNet) else network(folded), FOLD)

    @torch.no_grad()
    def learn_clean(self, logits: Tensor, clean: Tensor) -> None:
        """Takes what fires at pixels where nothing was painted, 1 in ``clean`` ``(N, 1, S, S)``, into their mean."""
        fired = logits.detach().to(self.clean.dtype).sigmoid() * clean
        fired, weight = (adaptive_avg_pool2d(one.mean(0, keepdim=True), GRID) for one in (fired, clean))
        self.batches += 1
        momentum = (1 / self.batches).clamp(min=LEAST_MOMENTUM) * (weight > 0)
        self.clean += momentum * (fired / weight.clamp(min=LEAST_PROBABILITY) - self.clean)

    def calibrated(self, probability: Tensor, mask: Tensor) -> Tensor:
        """Probabilities ``(N, 1, S, S)`` over what fires without a lesion: here in training, or in this picture."""
        if self.calibration == "place":
            size = (probability.shape[2], probability.shape[3])
            usual = interpolate(self.clean, size=size, mode="bilinear", align_corners=False) + self.clean.mean()
            return probability / (usual + LEAST_PROBABILITY)
        if self.calibration == "picture":
            return probability / (masked_mean(probability, mask).view(-1, 1, 1, 1) + LEAST_PROBABILITY)
        return probability

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Gives logits in training, scores in evaluation; images are pre-processed, ``(N, 3, S, S)`` in [0, 1]."""
        image = batch.mean(1, keepdim=True)
        logits = self.logits(image, self.seen(image, None if self.reconstructing is None else self.reconstruct(image)))
        if self.training:
            return logits
        mask = foreground(image)
        lesion = self.calibrated(logits.sigmoid(), mask)
        scores = error_scores({"lesion": lesion}, mask, self.top_k)
        return ScoredBatch.of(scores, self.score, self.anomaly_map(lesion, mask))


def lesion_loss(logits: Tensor, lesion: Tensor, mask: Tensor, focal: float = 0.0, dice: float = 0.0) -> Tensor:
    """Cross-entropy of lesions over the foreground of a batch, and the Dice loss of all its pixels.

    ``mean |t - p|^focal BCE(p, t) + dice (1 - 2 sum p t / sum (p^2 + t^2))``. Sources: Lin et al. 2017 (1708.02002),
    for labels between 0 and 1 Li et al. 2020 (2006.04388), equation 5; Milletari et al. 2016 (1606.04797), equation 3.

    Args:
        logits: ``(N, 1, H, W)``.
        lesion: Labels t in [0, 1], ``(N, 1, H, W)``.
        mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.
        focal: Exponent; 0 for the plain cross-entropy.
        dice: Weight of the Dice loss.

    Returns:
        Scalar.

    >>> half = torch.full((1, 1, 1, 1), 0.5)
    >>> round(float(lesion_loss(torch.zeros_like(half), half, torch.ones_like(half))), 4)
    0.6931
    """
    logits = logits.float()  # cross-entropy and sums need single precision
    probability = logits.sigmoid()
    error = binary_cross_entropy_with_logits(logits, lesion, reduction="none")
    if focal:
        error = error * (lesion - probability).abs().pow(focal)
    loss = (error * mask).sum() / mask.sum().clamp(min=1)
    if dice:
        probability = probability * mask
        sizes = (probability.square() + lesion.square()).sum().clamp(min=1)
        loss = loss + dice * (1 - 2 * (probability * lesion).sum() / sizes)
    return loss
