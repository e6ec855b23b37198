from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import AeU
from anomalib_xray.testing import ModelContract


class TestAeU(ModelContract):
    model = AeU
    settings: ClassVar = {"image_size": 64, "width": 4, "hidden": 64}
