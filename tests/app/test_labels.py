from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.app.answer import descriptions, distinct_labels, open_models
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.errors import XrayError


@pytest.mark.parametrize(
    ("models", "folders", "labels"),
    [
        (["Cae", "AlphaGan"], ["a", "b"], ["Cae", "AlphaGan"]),
        (["Cae", "Cae"], ["hands", "chests"], ["Cae (hands)", "Cae (chests)"]),
        (["Cae", "Cae", "Vae"], ["a", "a", "a"], ["Cae (a) 1", "Cae (a) 2", "Vae"]),
        (["Cae", "Cae"], ["", ""], ["Cae 1", "Cae 2"]),
    ],
)
def test_no_two_models_are_called_the_same(models: list[str], folders: list[str], labels: list[str]) -> None:
    assert distinct_labels(models, folders) == labels


def test_a_model_says_what_its_numbers_mean(models: Ensemble) -> None:
    first, second = descriptions(models)
    assert first["label"] == "Cae"
    assert first["precision"] == "fp32"
    assert first["scores"] == ["brightest", "mean"]
    assert first["thresholds"] == {"brightest": 0.4, "mean": None}
    assert first["pixel_threshold"] == 0.5
    assert first["map_limits"] == [0.0, 0.6]
    assert first["normal_images"] == 100
    assert first["prepares"]
    assert len(first["distribution"]["brightest"]) == 101
    assert not second["prepares"]
    assert second["distribution"] == {}


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_and_too_many_bundles_are_refused(count: int, bundles: list[Path]) -> None:
    with pytest.raises(XrayError, match=f"{count} bundles cannot be shown: give 1 to 8"):
        open_models([bundles[0]] * count, precision=None, device="CPU", threads=None)
