from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray.errors import XrayError
from anomalib_xray.models import Nmf

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("resolution", 48),
        ("components", 0),
        ("updates", 0),
        ("detectors", ["forest"]),
        ("score", "outlier_columns"),
        ("references", 0),
        ("extra_scores", ["fid"]),
    ],
)
def test_wrong_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(XrayError, match=setting):
        Nmf(**{"image_size": 64, setting: value})


def test_per_image_has_no_detectors() -> None:
    with pytest.raises(XrayError, match="knn"):
        Nmf(image_size=64, per_image=True, score="knn")
    assert Nmf(image_size=64, per_image=True, score="outlier_columns").hparams["score"] == "outlier_columns"


@pytest.mark.parametrize("file", ["nmf.yaml", "paper/nmf.yaml"])
def test_configuration_builds_the_model_and_fits_it_once(file: str) -> None:
    config = yaml.safe_load((CONFIGS / file).read_text())
    settings = config["model"]["init_args"]
    model = Nmf(**settings)
    assert {name: model.hparams[name] for name in settings} == settings
    assert config["trainer"]["max_epochs"] == 1
