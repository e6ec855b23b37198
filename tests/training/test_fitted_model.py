from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from anomalib.models import AnomalibModule
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.fitted_model import FittedModel


class Means(nn.Module):
    """Remembers what it is fitted to."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[float]] = []

    def vectors(self, image: Tensor) -> Tensor:
        return image.mean((1, 2, 3))[:, None]

    def fit(self, vectors: Tensor) -> None:
        self.calls.append([round(float(value), 3) for value in vectors.flatten()])

    def forward(self, batch: Tensor) -> ScoredBatch:
        return ScoredBatch.of({"mean": batch.mean((1, 2, 3))}, "mean", None)


class MeansModel(FittedModel, AnomalibModule):
    scores = ("mean",)

    def __init__(self, references: int = 100) -> None:
        # A pre-processor would stretch the brightness.
        super().__init__(references=references, image_size=64, score="mean", pre_processor=False)
        self.model: Means = Means()


def batches(*brightness: float) -> list:  # type: ignore[type-arg]  # batches of anomalib
    return [normal_batch(torch.full((1, 3, 64, 64), value)) for value in brightness]


def test_it_is_fitted_once_an_epoch_to_the_images_of_that_epoch(tmp_path: Path) -> None:
    model = MeansModel()
    found = fit(model, batches(0.1, 0.2, 0.3), tmp_path, epochs=2)
    assert model.model.calls == [[0.1, 0.2, 0.3]] * 2
    assert found.checkpoint.exists()


def test_it_keeps_a_sample(tmp_path: Path) -> None:
    model = MeansModel(references=2)
    fit(model, batches(0.1, 0.2, 0.3, 0.4), tmp_path)
    ((first, second),) = model.model.calls
    assert first != second
    assert {first, second} <= {0.1, 0.2, 0.3, 0.4}


def test_a_validation_comes_after_the_fit_and_a_sanity_check_before_any() -> None:
    model = MeansModel()
    model.on_validation_start()
    assert model.model.calls == []
    model.training_step(batches(0.5)[0])
    model.on_validation_start()
    model.on_validation_start()
    assert model.model.calls == [[0.5]]
    model.training_step(batches(0.6)[0])
    model.on_train_epoch_end()
    assert model.model.calls == [[0.5], [0.5, 0.6]]


def test_more_than_one_epoch_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit(MeansModel(), batches(0.1), tmp_path / "one")
        assert "max_epochs" not in caplog.text
        fit(MeansModel(), batches(0.1), tmp_path / "two", epochs=2)
    assert "set trainer.max_epochs to 1" in caplog.text


def test_no_reference_is_refused() -> None:
    with pytest.raises(XrayError, match="references is 0"):
        MeansModel(references=0)
