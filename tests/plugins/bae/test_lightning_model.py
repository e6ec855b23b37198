from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.bae import Bae
from anomalib_xray_plugins.bae.lightning_model import check_levels

SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "latent_channels": 8}
CONFIGS = Path(__file__).parents[3] / "configs"


def settings_of(config: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / config).read_text())["model"]["init_args"]
    return settings


@pytest.mark.parametrize(
    ("size", "stride", "most"), [(64, 2, 3), (128, 2, 4), (256, 2, 4), (512, 2, 5), (64, 1, 6), (512, 1, 9)]
)
def test_an_image_has_room_for_so_many_levels(size: int, stride: int, most: int) -> None:
    check_levels(most, stride, size)
    for levels in (1, most + 1):
        with pytest.raises(XrayError, match=f"levels is {levels}.* 2 to {most}"):
            check_levels(levels, stride, size)


def test_wider_stride_is_refused() -> None:
    with pytest.raises(XrayError, match="stride is 3"):
        Bae(**SMALL, stride=3)


def test_wider_border_is_refused() -> None:
    with pytest.raises(XrayError, match="code_padding is 2"):
        Bae(**SMALL, code_padding=2)


def test_shipped_configurations_build_the_model() -> None:
    assert settings_of("bae.yaml")["image_size"] == 128
    Bae(**settings_of("bae.yaml"))
    published: Any = Bae(**settings_of("paper/bae.yaml"))
    with torch.no_grad():
        code, _ = published.model.eval().encode(torch.rand(1, 1, 512, 512))
    assert code.shape == (1, 256, 3, 3)
    assert sum(parameter.numel() for parameter in published.model.parameters()) == 1_526_497
