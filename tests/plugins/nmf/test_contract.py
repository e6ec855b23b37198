from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Nmf
from anomalib_xray.testing import ModelContract


class TestNmf(ModelContract):
    model = Nmf
    settings: ClassVar = {"image_size": 64, "resolution": 16, "components": 5, "updates": 20}
    falling_loss = None


class TestNmfPerImage(ModelContract):
    model = Nmf
    settings: ClassVar = {"image_size": 64, "resolution": 32, "components": 8, "init": "random", "per_image": True}
    falling_loss = None
    exportable = False
