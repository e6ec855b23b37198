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
        "score": "feature_distance_top_k",
    }
    falling_loss = "train_reconstruction_l1"
