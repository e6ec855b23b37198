"""Convolutional autoencoder as an anomalib model."""

from __future__ import annotations

from typing import Any

from anomalib.models import AnomalibModule

from anomalib_xray.errors import XrayError
from anomalib_xray.training.autoencoder_model import AutoencoderModel
from anomalib_xray_plugins.cae.torch_model import CaeModel, Output

LEVELS_AT_MOST = 5
"""Halvings that leave a bottleneck of 2 x 2 at the smallest image size."""


class Cae(AutoencoderModel, AnomalibModule):
    """Convolutional autoencoder trained on normal radiographs with a masked error, the squared one as published.

    What it cannot reconstruct is unusual. Source: arXiv 2001.10883, section 3.

    Args:
        width: Channels of the first level; every level doubles them.
        latent_channels: Channels of the bottleneck.
        levels: Halvings between the image and the bottleneck, 1 to 5; 5 as published.
        output: Last activation: ``sigmoid``, or ``relu_tanh`` as published.

    Raises:
        XrayError: A setting that the model does not have.

    Example:
        >>> "mse_top_k" in Cae(width=4, levels=3).scores
        True
    """

    def __init__(
        self, width: int = 16, latent_channels: int = 512, levels: int = 5, output: Output = "sigmoid", **settings: Any
    ) -> None:
        super().__init__(**settings)
        if not 1 <= levels <= LEVELS_AT_MOST:
            msg = f"levels is {levels}, but an autoencoder of radiographs has 1 to {LEVELS_AT_MOST}."
            raise XrayError(msg)
        self.model: CaeModel = CaeModel(width, latent_channels, levels, output, self.make_scorer())
