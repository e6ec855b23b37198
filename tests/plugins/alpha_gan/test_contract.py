from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import AlphaGan
from anomalib_xray.testing import ModelContract


class TestAlphaGan(ModelContract):
    model = AlphaGan
    settings: ClassVar = {"image_size": 64, "width": 8, "latent_size": 16, "references": 64}
    falling_loss = "train_reconstruction_l1"
