from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.predictor import Predictor, open_predictor
from anomalib_xray.preparation.pipeline import Pipeline

from .tiny_bundle import CROP, write_bundle

LOWER = {"brightest": np.linspace(0.0, 0.4, 101).tolist()}


def grey(level: int) -> np.ndarray:
    return np.full((20, 16), level, np.uint8)


def opened(tmp_path: Path, name: str, **changes: object) -> Predictor:
    return open_predictor(write_bundle(tmp_path / name, **changes))  # type: ignore[arg-type]  # of one function only


def test_percentiles_are_averaged(tmp_path: Path) -> None:
    predictors = [opened(tmp_path, "a", model="Cae"), opened(tmp_path, "b", model="Vae", distribution=LOWER)]
    ensemble = Ensemble(predictors)
    results = ensemble.predict(grey(76))
    level = 76 / 255  # of normal images on [.2, .6] and on [0, .4]
    expected = {"Cae": 100 * (level - 0.2) / 0.4, "Vae": 100 * level / 0.4}
    assert {label: result.percentile for label, result in results.items()} == pytest.approx(expected, abs=1e-3)
    assert ensemble.fused(results) == pytest.approx(sum(expected.values()) / 2, abs=1e-3)


def test_a_single_bundle_is_not_fused(tmp_path: Path) -> None:
    ensemble = Ensemble([opened(tmp_path, "a")])
    assert not ensemble.fuses
    assert ensemble.fused(ensemble.predict(grey(76))) is None


def test_a_bundle_without_normal_images_prevents_the_fusion(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    ensemble = Ensemble([opened(tmp_path, "a"), open_predictor(make_bundle("old"))])
    assert ensemble.without_distribution == ["old"]
    assert ensemble.fused(ensemble.predict(grey(76))) is None


@pytest.mark.parametrize(
    ("models", "folders", "labels"),
    [
        (("Cae", "Vae"), ("x/b", "y/b"), ["Cae", "Vae"]),
        (("Cae", "Cae"), ("one", "two"), ["one", "two"]),
        (("Cae", "Cae"), ("x/b", "y/b"), ["Cae-1", "Cae-2"]),
        (("Cae", "CAE"), ("x/b", "y/B"), ["Cae-1", "CAE-2"]),
        (("../../up", "a/b c"), ("one", "two"), ["up", "a_b_c"]),
        (("..", "..."), ("one", "two"), ["one", "two"]),
    ],
)
def test_labels_tell_apart_and_are_names_of_folders(
    tmp_path: Path, models: tuple[str, str], folders: tuple[str, str], labels: list[str]
) -> None:
    predictors = [opened(tmp_path, folder, model=model) for model, folder in zip(models, folders, strict=True)]
    assert list(Ensemble(predictors).predictors) == labels


def test_a_shared_preparation_runs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "steps:\n  - resize: {longest_side: 16}\n"
    ensemble = Ensemble([opened(tmp_path, name, preparation=CROP) for name in "ab"])
    mixed = Ensemble([opened(tmp_path, name, preparation=text) for name, text in (("c", CROP), ("d", other))])
    prepare, calls = Pipeline.prepare, []

    def counted(pipeline: Pipeline, image: np.ndarray) -> object:
        calls.append(image.shape)
        return prepare(pipeline, image)

    monkeypatch.setattr(Pipeline, "prepare", counted)
    ensemble.predict(grey(76))
    assert len(calls) == 1
    mixed.predict(grey(76))
    assert len(calls) == 3
