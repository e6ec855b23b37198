from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar

import cv2
import numpy as np
from anomalib.models import AnomalibModule

from anomalib_xray.models import DeepOneClass
from anomalib_xray.testing import ModelContract


@cache
def reference_pictures() -> str:
    """A folder with a picture of noise and one of stripes: the same ones in every step, so that the loss falls."""
    root = Path(mkdtemp())
    source = np.random.default_rng(0)
    for name in ("noise", "stripes"):
        (root / name).mkdir()
        shape = (48, 32) if name == "noise" else (48, 1)
        picture = np.broadcast_to(source.integers(1, 256, shape, dtype=np.uint8), (48, 32))
        cv2.imwrite(str(root / name / "picture.png"), np.ascontiguousarray(picture))
    return str(root)


class TestDeepOneClass(ModelContract):
    model = DeepOneClass
    settings: ClassVar = {
        "image_size": 64,
        "backbone": "test_resnet",
        "backbone_layer": 2,
        "templates": 8,
        "augmentation": None,
        "learning_rate": 1e-3,
    }

    @classmethod
    def make_model(cls, **changes: Any) -> AnomalibModule:
        return super().make_model(**{"reference_root": reference_pictures(), **changes})
