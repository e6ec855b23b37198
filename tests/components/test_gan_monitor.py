from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from anomalib_xray.components.gan_monitor import GanMonitor, diversity

REAL = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
VARIED = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
ALIKE = VARIED[:1] + 0.001 * VARIED


def watch(
    monitor: GanMonitor, *, epochs: int, samples: torch.Tensor = VARIED, logits: tuple[float, float] = (1.0, -1.0),
    loss: str = "log",
) -> dict[str, float]:  # fmt: skip
    """Epochs with the same samples and logits; returns what was logged."""
    logged: dict[str, float] = {}
    metrics = {"train_real_logit": torch.tensor(logits[0]), "train_sample_logit": torch.tensor(logits[1])}
    module: Any = SimpleNamespace(
        grey=lambda batch: batch,
        samples=lambda: samples,
        log_dict=logged.update,
        adversarial_loss=loss,
    )
    for epoch in range(epochs):
        trainer: Any = SimpleNamespace(callback_metrics=metrics, current_epoch=epoch)
        monitor.on_train_batch_end(trainer, module, None, REAL, 0)
        monitor.on_train_batch_end(trainer, module, None, REAL[:1], 1)
        monitor.on_train_epoch_end(trainer, module)
    return logged


def test_diversity_is_the_mean_distance_of_pairs_as_a_share_of_the_real_ones() -> None:
    def spread(images: torch.Tensor) -> float:
        return float(np.mean(pdist(images.flatten(1).numpy())) / 8)

    assert diversity(VARIED, REAL) == pytest.approx(spread(VARIED) / spread(REAL))
    assert diversity(REAL, REAL) == pytest.approx(1)
    assert diversity(ALIKE[:1].repeat(4, 1, 1, 1), REAL) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("real", [None, REAL[:1], REAL[:1].repeat(3, 1, 1, 1)])
def test_nothing_to_compare_with_is_no_finding(real: torch.Tensor | None) -> None:
    assert diversity(VARIED, real) == 1


def test_margin_and_diversity_are_logged() -> None:
    logged = watch(GanMonitor(), epochs=1, logits=(2.0, -0.5))
    assert logged["train_discriminator_margin"] == pytest.approx(2.5)
    assert logged["train_sample_diversity"] == pytest.approx(diversity(VARIED, REAL))


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"samples": ALIKE}, "nearly alike"),
        ({"logits": (9.0, -8.0)}, "sure of everything"),
        ({"logits": (0.001, 0.0)}, "tells nothing apart"),
    ],
)
def test_what_lasts_is_reported_once(state: Any, word: str, caplog: pytest.LogCaptureFixture) -> None:
    monitor = GanMonitor(patience=3)
    with caplog.at_level(logging.WARNING):
        watch(monitor, epochs=2, **state)
        assert caplog.records == []
        watch(monitor, epochs=4, **state)
    assert [word in record.getMessage() for record in caplog.records] == [True]


def test_a_recovery_starts_the_count_again(caplog: pytest.LogCaptureFixture) -> None:
    monitor = GanMonitor(patience=3)
    for _ in range(3):
        watch(monitor, epochs=2, samples=ALIKE)
        watch(monitor, epochs=1)
    assert caplog.records == []


def test_a_critic_may_be_far_from_0(caplog: pytest.LogCaptureFixture) -> None:
    watch(GanMonitor(patience=1), epochs=2, logits=(90.0, -80.0), loss="wgan-gp")
    assert caplog.records == []


def test_a_checkpoint_keeps_the_count(caplog: pytest.LogCaptureFixture) -> None:
    first, second = GanMonitor(patience=3), GanMonitor(patience=3)
    watch(first, epochs=2, samples=ALIKE)
    second.load_state_dict(first.state_dict())
    watch(second, epochs=1, samples=ALIKE)
    assert len(caplog.records) == 1
