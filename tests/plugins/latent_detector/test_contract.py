from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import LatentDetector
from anomalib_xray.testing import ModelContract


class TestLatentDetector(ModelContract):
    model = LatentDetector
    # A vision transformer, which here is exported, too.
    settings: ClassVar = {
        "image_size": 64,
        "backbone": "test_vit",
        "layers": [2, 4],
        "components": 4,
        "pooling": "tiles",
    }
    falling_loss = None


class TestLatentDetectorOfPlaces(ModelContract):
    model = LatentDetector
    settings: ClassVar = {
        "image_size": 64,
        "backbone": "test_byobnet",
        "layers": [1, 2],
        "components": 4,
        "pooling": "places",
        "references": 200,
    }
    falling_loss = None
