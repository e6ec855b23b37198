"""Bottleneck autoencoder as an anomalib model."""

from __future__ import annotations

from typing import Any, Literal

from anomalib.models import AnomalibModule

from anomalib_xray.errors import XrayError
from anomalib_xray.training.autoencoder_model import AutoencoderModel
from anomalib_xray_plugins.bae.torch_model import Activation, BaeModel, Output, reduction


class Bae(AutoencoderModel, AnomalibModule):
    """Bottleneck autoencoder trained on normal radiographs with a masked error, the squared one as published.

    Each level convolves and max-pools, so that a few levels reach a narrow code. Source: arXiv 2001.10883, section 3.

    Args:
        width: Channels of the first level; every level doubles them.
        latent_channels: Channels of the code.
        levels: Levels of the encoder, at least 2, each of them pooled 2x2. 3 of stride 1 or 2 of stride 2 leave a code
            of an eighth of the side; 5 of stride 2 leave one place of 512 pixels, as published.
        stride: Stride of the convolutions but the first: 2 as published, or 1, which reconstructs more sharply.
        code_padding: Padding around the code, 0, or 1 as published: then a border without content.
        skip: Whether the decoder sees the last two encoder levels beside the code. It then also sees anomalies, and
            reconstructs them better.
        activation: Activation between layers: ``relu`` or ``tanh``.
        output: Last activation: ``sigmoid``, or ``tanh`` as published with skip connections.
        learning_rate: Learning rate of Adam.

    Raises:
        XrayError: A setting that the model does not have, or more levels than the image has room for.

    Example:
        >>> Bae(width=4, levels=4).score
        'mse_top_k'
    """

    def __init__(
        self,
        width: int = 16,
        latent_channels: int = 16,
        levels: int = 3,
        stride: Literal[1, 2] = 1,
        code_padding: int = 0,
        skip: bool = False,
        activation: Activation = "relu",
        output: Output = "sigmoid",
        learning_rate: float = 2e-3,
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **settings)
        check_levels(levels, stride, self.image_size)
        if code_padding not in (0, 1):
            msg = f"code_padding is {code_padding}, but the code has no border or one: choose 0, or 1 as published."
            raise XrayError(msg)
        self.model: BaeModel = BaeModel(
            width, latent_channels, levels, stride, code_padding, skip, activation, output, self.make_scorer()
        )


def check_levels(levels: int, stride: int, image_size: int) -> None:
    """Refuses other strides than 1 and 2, less than 2 levels, and levels that leave less than a place for the code."""
    if stride not in (1, 2):
        msg = f"stride is {stride}, but a bottleneck autoencoder convolves with 1 or 2; choose one of them."
        raise XrayError(msg)
    most = max(count for count in range(2, 10) if reduction(count, stride) <= image_size)
    if not 2 <= levels <= most:
        msg = (
            f"levels is {levels}, but at {image_size} pixels and stride {stride} there is room for 2 to {most}; choose "
            "one of them."
        )
        raise XrayError(msg)
