from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Cae
from anomalib_xray.testing import ModelContract


class TestCae(ModelContract):
    model = Cae
    settings: ClassVar = {"image_size": 64, "width": 4, "latent_channels": 32}


class TestDenoisingCae(ModelContract):
    """With the loss, the noise and the score that are not the default ones."""

    model = Cae
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "latent_channels": 8,
        "levels": 2,
        "reconstruction_loss": "ssim",
        "noise": 0.2,
        "score": "perceptual_top_k",
        "perceptual_backbone": "test_efficientnet",
        "perceptual_layers": [0, 1],
    }
    steps: ClassVar = 12
