from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import PseudoLesion
from anomalib_xray.testing import ModelContract


class TestPseudoLesion(ModelContract):
    """The comparing form, with all kinds of lesions."""

    model = PseudoLesion
    settings: ClassVar = {
        "image_size": 64,
        "width": 4,
        "tasks": ["cut_paste", "foreign_patch", "poisson", "natural", "deform"],
        "sizes": [0.1, 0.4],
        "compare": True,
        "calibration": "place",
        "focal": 1.0,
        "dice": 0.1,
    }
