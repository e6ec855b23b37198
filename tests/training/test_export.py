from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.models import AnomalibModule, get_model
from numpy.typing import NDArray

import anomalib_xray.models  # noqa: F401  # makes the plugins known to anomalib
from anomalib_xray.edge.description import Description, Parity
from anomalib_xray.errors import XrayError
from anomalib_xray.training import export
from anomalib_xray.training.export import PARITY_TOLERANCE, describe_export
from anomalib_xray.transforms import XrayPreProcessor

Picture = NDArray[np.float32]


LIMITS = {"image_min": 0.01, "image_max": 0.2, "_image_threshold": 0.1, "pixel_min": 0.0, "pixel_max": 0.3}


@pytest.fixture(scope="module")
def untouched() -> AnomalibModule:
    return get_model("cae", image_size=64, width=4, latent_channels=8, top_k=0.05, equalize=True)


@pytest.fixture
def model(untouched: AnomalibModule) -> AnomalibModule:
    """A CAE with random weights and the thresholds and limits of a validation set that never was."""
    model = copy.deepcopy(untouched)
    for name, value in LIMITS.items():
        getattr(model.post_processor, name).fill_(value)
    return model


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "bundle.json").read_text())
    return content


def with_output_bias(model: AnomalibModule, bias: float) -> AnomalibModule:
    """The same model but for the last layer."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.model.decoder[-2].bias.fill_(bias)
    return other


def pictures(count: int = 3) -> list[Picture]:
    random = np.random.default_rng(0)
    drawn = [random.random((40 + 10 * number, 50)).astype(np.float32) for number in range(count)]
    for picture in drawn:
        picture[:8] = 0
    return drawn


def raw(model: AnomalibModule, picture: Picture) -> tuple[float, NDArray[np.float64]]:
    with torch.no_grad():
        image = model.pre_processor(torch.from_numpy(picture).expand(1, 3, *picture.shape))
        output = model.eval().model(image)
    return float(output.pred_score), output.anomaly_map.double().numpy()


@pytest.fixture
def opened_as(monkeypatch: pytest.MonkeyPatch) -> Callable[[AnomalibModule], None]:
    """Lets the exported model be another model of torch."""

    def replace(model: AnomalibModule) -> None:
        @torch.no_grad()
        def run(picture: Picture) -> tuple[NDArray[np.float64], Picture]:
            output = model.eval()(torch.from_numpy(picture).expand(1, 3, *picture.shape))
            return np.float64([output.pred_score.item()]), output.anomaly_map[0].numpy()

        monkeypatch.setattr(export, "Graph", lambda _: run)

    return replace


def parity_of(description: Description) -> Parity:
    return description.precisions["fp32"].parity["openvino_f32"]


def test_the_same_model_passes(
    model: AnomalibModule, opened_as: Callable[[AnomalibModule], None], tmp_path: Path
) -> None:
    opened_as(model)
    parity = parity_of(describe_export(model, tmp_path / "model.xml", pictures()))
    assert (parity.images, parity.tolerance, parity.passed) == (3, PARITY_TOLERANCE, True)
    assert parity.score == pytest.approx(0, abs=1e-6)
    assert parity.map == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("normalised", [True, False])
def test_the_difference_is_that_of_raw_scores_and_maps(
    model: AnomalibModule, opened_as: Callable[[AnomalibModule], None], normalised: bool, tmp_path: Path
) -> None:
    model.post_processor.enable_normalization = normalised
    other = with_output_bias(model, 0.5)
    opened_as(other)
    parity = parity_of(describe_export(model, tmp_path / "model.xml", pictures()))
    compared = [(raw(model, picture), raw(other, picture)) for picture in pictures()]
    median = np.median([one for (one, _), _ in compared])
    score = max(abs(one - two) / max(one, median) for (one, _), (two, _) in compared)
    pixel = max(np.abs(one - two).max() / one.max() for (_, one), (_, two) in compared)
    assert min(score, pixel) > 100 * PARITY_TOLERANCE
    assert parity.score == pytest.approx(score, rel=1e-3)
    assert parity.map == pytest.approx(pixel, rel=1e-3)
    assert not parity.passed


def test_an_exported_model_that_gives_no_numbers_does_not_pass(
    model: AnomalibModule, opened_as: Callable[[AnomalibModule], None], tmp_path: Path
) -> None:
    opened_as(with_output_bias(model, math.nan))
    parity = parity_of(describe_export(model, tmp_path / "model.xml", pictures()))
    assert not parity.passed
    assert parity.score is None


def test_an_empty_test_split_is_named(
    model: AnomalibModule, opened_as: Callable[[AnomalibModule], None], tmp_path: Path
) -> None:
    opened_as(model)
    with pytest.raises(XrayError, match="test split is empty"):
        describe_export(model, tmp_path / "model.xml", [])


def test_the_description_tells_what_the_runtime_needs(
    model: AnomalibModule,
    opened_as: Callable[[AnomalibModule], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened_as(model)
    (tmp_path / "model.bin").write_bytes(b"weights")
    with caplog.at_level(logging.WARNING):
        describe_export(model, tmp_path / "model.xml", pictures(1))
    metadata = read(tmp_path)
    digest, weights = (
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("bundle.json", "model.bin")
    )
    assert (tmp_path / "bundle.sha256").read_text() == f"{digest}  bundle.json\n"
    assert metadata["files"] == {"model.bin": weights}
    assert metadata["model"] == "Cae"
    assert (metadata["score"], metadata["scores"]) == ("mse_top_k", ["mse_top_k"])
    assert metadata["settings"]["top_k"] == 0.05
    assert metadata["settings"]["padding"] == "centred"
    assert metadata["thresholds"] == {"mse_top_k": pytest.approx(0.1)}
    assert metadata["pixel_threshold"] is None
    assert metadata["normalization"] == {"image": pytest.approx([0.01, 0.2]), "pixel": pytest.approx([0.0, 0.3])}
    parity = metadata["precisions"]["fp32"]["parity"]["openvino_f32"]
    assert (parity["images"], parity["passed"]) == (1, True)
    assert "research use only" in metadata["notice"].lower()
    assert caplog.messages == []


def test_an_export_needs_no_data_set(caplog: pytest.LogCaptureFixture) -> None:
    def missing(_stage: str) -> None:
        raise XrayError("MURA v1.1 is not here.")

    datamodule: Any = SimpleNamespace(setup=missing)
    with caplog.at_level(logging.WARNING):
        images = export._parity_images(datamodule)
    assert np.array_equal(next(images), next(export.phantom_images()))
    assert caplog.messages == ["Parity is measured on phantoms: MURA v1.1 is not here."]


def test_the_description_tells_the_padding(
    model: AnomalibModule, opened_as: Callable[[AnomalibModule], None], tmp_path: Path
) -> None:
    model.pre_processor = XrayPreProcessor(64, equalize=True, padding="uniform")
    opened_as(model)
    describe_export(model, tmp_path / "model.xml", pictures(1))
    metadata = read(tmp_path)
    assert metadata["settings"]["padding"] == "uniform"


def test_the_description_of_a_model_without_validation_says_that_scores_are_raw(
    untouched: AnomalibModule, opened_as: Callable[[AnomalibModule], None], tmp_path: Path
) -> None:
    opened_as(untouched)
    describe_export(untouched, tmp_path / "model.xml", pictures(1))
    metadata = read(tmp_path)
    assert metadata["normalization"] == {"image": None, "pixel": None}
    assert (metadata["thresholds"], metadata["pixel_threshold"]) == ({"mse_top_k": None}, None)


def test_a_difference_is_warned_of(
    model: AnomalibModule,
    opened_as: Callable[[AnomalibModule], None],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    opened_as(with_output_bias(model, 0.5))
    with caplog.at_level(logging.WARNING):
        describe_export(model, tmp_path / "model.xml", pictures(1))
    assert "model.xml differs from torch by" in caplog.messages[0]
    assert read(tmp_path)["precisions"]["fp32"]["parity"]["openvino_f32"]["passed"] is False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_exported_files_agree_with_torch(
    model: AnomalibModule, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "PARITY_IMAGES", 3)
    path = getattr(model, f"to_{kind}")(tmp_path)
    parity = next(iter(read(path.parent)["precisions"]["fp32"]["parity"].values()))
    assert parity["images"] == 3
    assert parity["passed"]
