from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import DeepSad
from anomalib_xray.testing import ModelContract


class TestDeepSad(ModelContract):
    model = DeepSad
    settings: ClassVar = {"image_size": 64, "width": 4, "code_size": 16, "learning_rate": 1e-3}
