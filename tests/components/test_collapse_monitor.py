from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from anomalib_xray.components.collapse_monitor import CollapseMonitor, feature_spread


def epochs(monitor: CollapseMonitor, *spreads: float | None) -> None:
    for epoch, spread in enumerate(spreads):
        metrics = {} if spread is None else {"train_feature_spread": torch.tensor(spread)}
        trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        monitor.on_train_epoch_end(trainer, cast("Any", None))


def test_spread_is_the_distance_from_the_mean_over_the_length() -> None:
    features = np.random.default_rng(0).normal(2, 1, (5, 3))
    apart = np.mean([((one - features.mean(0)) ** 2).sum() for one in features])
    length = np.mean([(one**2).sum() for one in features])
    found = feature_spread(torch.from_numpy(features))
    np.testing.assert_allclose(found.item(), np.sqrt(apart / length), rtol=1e-5)


@pytest.mark.parametrize(
    ("features", "expected"), [([[1.0, 2.0]] * 3, 0.0), ([[0.0]] * 2, 0.0), ([[1.0], [-1.0]], 1.0)]
)
def test_spread_at_its_limits(features: list[list[float]], expected: float) -> None:
    assert feature_spread(torch.tensor(features)).item() == expected


def test_collapse_is_reported_once_after_its_patience(caplog: pytest.LogCaptureFixture) -> None:
    monitor = CollapseMonitor("do something", patience=2)
    with caplog.at_level(logging.WARNING):
        epochs(monitor, 0.1, 1e-5, 0.1, 1e-5, None)
        assert caplog.records == []
        epochs(monitor, 1e-5, 1e-5, 1e-5)
    (record,) = caplog.records
    assert "the same features" in record.getMessage()
    assert record.getMessage().endswith("do something.")


def test_counting_goes_on_after_a_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    first = CollapseMonitor("do something", patience=2)
    epochs(first, 1e-5)
    second = CollapseMonitor("do something", patience=2)
    second.load_state_dict(first.state_dict())
    with caplog.at_level(logging.WARNING):
        epochs(second, 1e-5)
    assert len(caplog.records) == 1
