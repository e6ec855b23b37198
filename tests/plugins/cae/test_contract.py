from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Cae
from anomalib_xray.testing import ModelContract


class TestCae(ModelContract):
    model = Cae
    settings: ClassVar = {"image_size": 64, "width": 4, "latent_channels": 32}
