from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import MemAe
from anomalib_xray.testing import ModelContract


class TestMemAe(ModelContract):
    model = MemAe
    settings: ClassVar = {"image_size": 64, "width": 4, "hidden": 64, "memory_items": 7}
