from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray.detectors import DetectorBank
from anomalib_xray.errors import XrayError
from anomalib_xray.models import LatentDetector

CONFIGS = Path(__file__).parents[3] / "configs"

SMALL: dict[str, Any] = {"image_size": 64, "backbone": "test_byobnet", "layers": [1]}


def test_settings_reach_the_detectors() -> None:
    model = LatentDetector(
        **SMALL, detectors=["knn", "dbscan"], components=3, whiten=True, neighbours=2, limit=9, eps=0.5, min_samples=7
    )
    bank: Any = model.model.detectors
    assert isinstance(bank, DetectorBank)
    assert (bank.projection.components, bank.projection.whiten) == (3, True)
    assert (bank.detectors["knn"].neighbours, bank.detectors["knn"].limit) == (2, 9)
    assert (bank.detectors["dbscan"].eps, bank.detectors["dbscan"].min_samples) == (0.5, 7)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("detectors", ["forest"]),
        ("score", "mse"),
        ("pooling", "median"),
        ("references", 0),
        ("nu", 2.0),
        ("top_k", 0),
    ],
)
def test_wrong_settings_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(XrayError, match=setting):
        LatentDetector(**{**SMALL, setting: value})


def test_the_score_is_one_of_the_chosen_detectors() -> None:
    with pytest.raises(XrayError, match="mahalanobis"):
        LatentDetector(**SMALL, detectors=["mahalanobis"])


@pytest.mark.parametrize("file", ["latent_detector.yaml"])
def test_configuration_builds_the_model_and_fits_it_once(file: str) -> None:
    config = yaml.safe_load((CONFIGS / file).read_text())
    settings = config["model"]["init_args"]
    model = LatentDetector(**settings)
    assert {name: model.hparams[name] for name in settings} == settings
    assert config["trainer"]["max_epochs"] == 1
