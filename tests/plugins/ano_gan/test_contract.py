from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import AnoGan
from anomalib_xray.testing import ModelContract


class TestAnoGan(ModelContract):
    model = AnoGan
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "discriminator_width": 4,
        "latent_size": 16,
        "search_steps": 10,
        "validation_search_steps": 5,
        "restarts": 2,
        "discriminator_learning_rate": 2e-3,
    }
    falling_loss = "train_discriminator_loss"
    exportable = False
