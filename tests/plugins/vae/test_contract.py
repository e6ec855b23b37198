from __future__ import annotations

from typing import ClassVar

from anomalib_xray.models import Vae
from anomalib_xray.testing import ModelContract


class TestVae(ModelContract):
    model = Vae
    settings: ClassVar = {"image_size": 64, "width": 4, "latent_size": 16}
