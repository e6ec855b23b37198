from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from anomalib.data import ImageBatch

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.pseudo_lesion import PseudoLesion

CONFIG = Path(__file__).parents[3] / "configs" / "pseudo_lesion.yaml"
SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "augmentation": None}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"tasks": ["plate"]}, "tasks is plate, but there are cut_paste"),
        ({"tasks": []}, "tasks is empty"),
        ({"calibration": "time"}, "calibration is time"),
        ({"sizes": [0.3, 0.2]}, r"sizes is \[0.3, 0.2\]"),
        ({"lesions": 0}, "at least 1 lesion"),
        ({"dice": -1.0}, "no negative number"),
        ({"crop": 0.0}, "a crop above 0"),
    ],
)
def test_refuses_what_it_does_not_have(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        PseudoLesion(**SMALL, **setting)


def test_shipped_configuration_builds_the_model() -> None:
    PseudoLesion(**yaml.safe_load(CONFIG.read_text())["model"]["init_args"])


def test_it_learns_to_find_lesions_that_it_has_not_seen() -> None:
    model = PseudoLesion(**SMALL, tasks=["foreign_patch"], sizes=[0.2, 0.4], lesions=1, learning_rate=1e-2)
    generator = torch.Generator().manual_seed(0)

    def batch() -> torch.Tensor:  # each of a brightness of its own
        level = 0.2 + 0.6 * torch.rand(8, 1, 1, 1, generator=generator)
        return level + 0.02 * torch.rand(8, 1, 64, 64, generator=generator)

    optimizer = model.configure_optimizers()
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step(ImageBatch(image=batch().expand(-1, 3, -1, -1))).backward()
        optimizer.step()
    with torch.no_grad():
        _, lesion, found = model.eval().pictures(batch())["lesions"].chunk(3)
    assert found[lesion > 0.1].mean() > 3 * found[lesion == 0].mean()
