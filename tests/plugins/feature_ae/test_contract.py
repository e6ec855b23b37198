from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import FeatureAe
from anomalib_xray.testing import ModelContract


class TestFeatureAe(ModelContract):
    model = FeatureAe
    settings: ClassVar = {
        "image_size": 64,
        "backbone": "test_efficientnet",
        "channels": [8],
        "latent_channels": 8,
        "learning_rate": 0.01,
    }
