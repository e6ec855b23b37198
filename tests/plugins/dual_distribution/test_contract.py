from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import DualDistribution
from anomalib_xray.testing import ModelContract


class TestDualDistribution(ModelContract):
    model = DualDistribution
    settings: ClassVar = {"image_size": 64, "width": 4, "hidden": 64, "members": 2}
