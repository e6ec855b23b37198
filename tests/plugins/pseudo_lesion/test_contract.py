from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import PseudoLesion
from anomalib_xray.testing import ModelContract


class TestPseudoLesion(ModelContract):
    """The comparing form on a backbone, with all kinds of lesions."""

    model = PseudoLesion
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "tasks": ["cut_paste", "foreign_patch", "poisson", "natural", "deform"],
        "sizes": [0.1, 0.4],
        "aligned": True,
        "compare": True,
        "backbone": "test_efficientnet",
        "layers": [0, 1, 2],
        "calibration": "place",
        "focal": 1.0,
        "dice": 0.1,
        "score": "lesion_top_k",
    }
