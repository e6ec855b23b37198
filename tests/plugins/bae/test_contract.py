from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Bae
from anomalib_xray.testing import ModelContract


class TestBae(ModelContract):
    model = Bae
    settings: ClassVar = {"image_size": 64, "width": 4, "latent_channels": 8}
