from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Dcgan
from anomalib_xray.testing import ModelContract


class TestDcgan(ModelContract):
    model = Dcgan
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "discriminator_width": 4,
        "latent_size": 16,
        "references": 256,
        "discriminator_learning_rate": 2e-3,
    }
    falling_loss = "train_discriminator_loss"
