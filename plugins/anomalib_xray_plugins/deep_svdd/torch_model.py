"""The deep support vector data description as one module: network, centre and radius."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anomalib_xray.scores import ScoredBatch
from anomalib_xray_plugins.deep_svdd.loss import away_from_0, squared_distance
from anomalib_xray_plugins.deep_svdd.networks import BackboneEncoder, Decoder, Encoder, Images

SCORES = ("svdd",)
"""Scores that the model can compute."""


class DeepSvddModel(nn.Module):
    """A network that draws the codes of normal images together around a fixed centre.

    Args:
        image_size: Side S of the images.
        width: Channels of the network's first level.
        code_size: Length Z of the code.
        decodes: Whether there is a decoder for pre-training.
        backbone: A convolutional network of timm, frozen, in place of the network that is trained from scratch.
        backbone_layer: Which of its feature maps is pooled.
        score: Score that becomes the predicted score.

    Attributes:
        center: The centre c, ``(Z,)``.
        radius: The radius R of a soft boundary, a scalar.
        has_center: Whether the centre was set.
    """

    center: Tensor
    radius: Tensor
    has_center: Tensor

    def __init__(
        self,
        image_size: int = 128,
        width: int = 32,
        code_size: int = 128,
        decodes: bool = False,
        backbone: str | None = None,
        backbone_layer: int = 3,
        score: str = "svdd",
    ) -> None:
        super().__init__()
        self.encoder: Encoder | BackboneEncoder = (
            Encoder(image_size, width, code_size)
            if backbone is None
            else BackboneEncoder(backbone, backbone_layer, code_size)
        )
        self.decoder = Decoder(image_size, width, code_size) if decodes else None
        self.score = score
        self.register_buffer("center", torch.zeros(code_size))
        self.register_buffer("radius", torch.zeros(()))
        self.register_buffer("has_center", torch.tensor(False))

    @torch.no_grad()
    def set_center(self, images: Images) -> None:
        """Sets the centre, once for all, to the mean code of the training images (section 3.3).

        In training mode, as the steps that follow compute: running statistics of batch normalisation begin with it.

        Args:
            images: Goes over the training images.
        """
        if isinstance(self.encoder, BackboneEncoder):
            self.encoder.standardise(images())
        codes = torch.cat([self.encoder(image) for image in images()])
        self.center.copy_(away_from_0(codes.mean(0)))
        self.has_center.fill_(True)

    def reconstruct(self, image: Tensor) -> Tensor:
        """Encodes and decodes, ``(N, 1, S, S)`` in [0, 1] to the same; only with a decoder."""
        assert self.decoder is not None  # asked for in pre-training only
        reconstruction: Tensor = self.decoder(self.encoder(image))
        return reconstruction

    def forward(self, batch: Tensor) -> Tensor | ScoredBatch:
        """Encodes in training, scores in evaluation.

        Args:
            batch: Pre-processed images with equal channels, ``(N, 3, S, S)`` in [0, 1].

        Returns:
            Codes ``(N, Z)`` in training; in evaluation scores, without a map.
        """
        codes: Tensor = self.encoder(batch.mean(1, keepdim=True))
        if self.training:
            return codes
        return ScoredBatch.of({"svdd": squared_distance(codes, self.center)}, self.score, None)
