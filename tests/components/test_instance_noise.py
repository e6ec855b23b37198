from __future__ import annotations

import pytest
import torch

from anomalib_xray.components import NoiseSchedule, add_noise, instance_noise_level


@pytest.mark.parametrize(("epoch", "expected"), [(0, 2.49), (1, 0.01 * 497 / 3), (99, 0.01 * 399 / 101), (498, 0.0)])
def test_published_schedule_is_its_formula(epoch: int, expected: float) -> None:
    assert instance_noise_level(0.01, epoch, 500, "published") == pytest.approx(expected)


@pytest.mark.parametrize(("epoch", "expected"), [(0, 0.2), (5, 0.1), (9, 0.02), (10, 0.0), (12, 0.0)])
def test_linear_schedule_falls_along_a_line(epoch: int, expected: float) -> None:
    assert instance_noise_level(0.2, epoch, 10) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["linear", "published"])
@pytest.mark.parametrize("epochs", [1, 4, 50])
def test_noise_is_never_negative_and_fades(schedule: NoiseSchedule, epochs: int) -> None:
    levels = [instance_noise_level(0.3, epoch, epochs, schedule) for epoch in range(epochs)]
    assert min(levels) >= 0
    assert levels[-1] <= levels[0]
    assert [instance_noise_level(0, epoch, epochs, schedule) for epoch in range(epochs)] == [0] * epochs


def test_noise_has_its_deviation() -> None:
    torch.manual_seed(0)
    image = torch.full((4, 1, 64, 64), 0.5)
    difference = add_noise(image, 0.3) - image
    assert difference.mean().item() == pytest.approx(0, abs=0.01)
    assert difference.std().item() == pytest.approx(0.3, rel=0.02)


def test_without_noise_the_image_is_itself_and_nothing_is_drawn() -> None:
    image = torch.rand(2, 1, 8, 8)
    before = torch.get_rng_state()
    assert add_noise(image, 0.0) is image
    assert torch.equal(torch.get_rng_state(), before)
