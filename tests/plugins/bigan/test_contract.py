from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Bigan
from anomalib_xray.testing import ModelContract


class TestBigan(ModelContract):
    model = Bigan
    settings: ClassVar = {
        "image_size": 64,
        "width": 8,
        "latent_size": 16,
        "references": 64,
        "patch_share": 0.2,  # of one or two epochs, so that every step trains all players
        "score": "patch_discriminator_top_k",
    }
    falling_loss = "train_reconstruction_l1"
