from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import ReconstructionAe
from anomalib_xray.testing import ModelContract


class TestReconstructionAe(ModelContract):
    model = ReconstructionAe
    settings: ClassVar = {"image_size": 64, "width": 4, "hidden": 64}
