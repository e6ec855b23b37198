from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from anomalib_xray.components.schedule import Schedule, make_scheduler, with_schedule
from anomalib_xray.errors import XrayError

STEPS, RATE = 20, 0.3


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=RATE)


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("linear", lambda t: 1 - 0.99 * t),
        ("exponential", lambda t: 0.01**t),
        ("cosine", lambda t: 0.01 + 0.99 * (1 + math.cos(math.pi * t)) / 2),
    ],
)
def test_rates_follow_their_formula(schedule: Schedule, share: Any) -> None:
    used = optimizer()
    scheduler = make_scheduler(used, schedule, STEPS)
    assert scheduler is not None
    rates = []
    for _ in range(STEPS + 1):
        rates.append(used.param_groups[0]["lr"])
        used.step()
        scheduler.step()
    np.testing.assert_allclose(rates, [RATE * share(step / STEPS) for step in range(STEPS + 1)], rtol=1e-6)


@pytest.mark.parametrize("schedule", ["linear", "exponential", "cosine"])
def test_a_restored_scheduler_goes_on(schedule: Schedule) -> None:
    def rates(used: torch.optim.Optimizer, scheduler: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            used.step()
            scheduler.step()
            found.append(used.param_groups[0]["lr"])
        return found

    whole = optimizer()
    expected = rates(whole, make_scheduler(whole, schedule, STEPS), STEPS)
    first = optimizer()
    scheduler: Any = make_scheduler(first, schedule, STEPS)
    begun = rates(first, scheduler, 7)
    second = optimizer()
    restored: Any = make_scheduler(second, schedule, STEPS)
    restored.load_state_dict(scheduler.state_dict())
    second.load_state_dict(first.state_dict())
    np.testing.assert_allclose(begun + rates(second, restored, STEPS - 7), expected, rtol=1e-6)


def test_a_constant_rate_has_no_scheduler() -> None:
    used = optimizer()
    assert make_scheduler(used, "constant", STEPS) is None
    assert with_schedule(used, "constant", None) is used


def test_steps_are_the_trainers_epochs() -> None:
    trainer: Any = SimpleNamespace(max_epochs=STEPS)
    found: Any = with_schedule(optimizer(), "cosine", trainer)
    assert found["lr_scheduler"]["interval"] == "epoch"
    assert found["lr_scheduler"]["scheduler"].T_max == STEPS


@pytest.mark.parametrize("endless", [-1, None])
def test_an_endless_training_is_refused(endless: int | None) -> None:
    trainer: Any = SimpleNamespace(max_epochs=endless)
    with pytest.raises(XrayError, match=r"schedule is 'linear', but training has no end; set trainer\.max_epochs"):
        with_schedule(optimizer(), "linear", trainer)
