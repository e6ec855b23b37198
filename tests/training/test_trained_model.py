from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.models import AnomalibModule
from torch import nn
from torch.optim import Adam

from anomalib_xray.errors import XrayError
from anomalib_xray.training.trained_model import Phases, Schedule, TrainedModel, check_share, make_adam, make_scheduler

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


def test_adam_in_one_pass_takes_the_steps_of_adam() -> None:
    layers = [nn.Conv2d(2, 3, 4).to(memory_format=torch.channels_last) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    settings: dict[str, Any] = {"betas": (0.5, 0.999), "weight_decay": 0.1}
    optimizers = [make_adam(layers[0].parameters(), 0.01, **settings), Adam(layers[1].parameters(), 0.01, **settings)]
    for _ in range(3):
        image = torch.rand(2, 2, 8, 8)
        for layer, optimizer in zip(layers, optimizers, strict=True):
            optimizer.zero_grad()
            layer(image).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(list(layers[0].parameters()), list(layers[1].parameters()))


class Linear(TrainedModel, AnomalibModule):
    """Learns nothing: only its optimiser is looked at."""

    scores = ("mse_top_k",)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.model = torch.nn.Linear(1, 1)


def trained(max_epochs: int | None, **settings: Any) -> Any:
    """A model whose trainer has a number of epochs."""
    model = Linear(**settings)
    model._trainer = SimpleNamespace(max_epochs=max_epochs)  # type: ignore[assignment]  # all that is asked of it
    return model


def test_a_constant_rate_has_no_scheduler() -> None:
    used = optimizer()
    assert make_scheduler(used, "constant", STEPS) is None
    assert trained(STEPS).with_schedule(used) is used
    assert Linear(schedule="cosine").with_schedule(used) is used


def test_steps_are_the_trainers_epochs() -> None:
    found = trained(STEPS, schedule="cosine").configure_optimizers()
    assert found["lr_scheduler"]["interval"] == "epoch"
    assert found["lr_scheduler"]["scheduler"].T_max == STEPS


def test_steps_of_a_part_are_its_epochs() -> None:
    model = trained(STEPS, schedule="cosine")
    model.phases = lambda: Phases.by_share(0.3, STEPS)
    steps = [model.with_schedule(optimizer(), part)["lr_scheduler"]["scheduler"].T_max for part in (0, 1, None)]
    assert steps == [6, 14, 20]


@pytest.mark.parametrize("endless", [-1, None])
def test_an_endless_training_is_refused(endless: int | None) -> None:
    with pytest.raises(XrayError, match=r"schedule is 'linear', but training has no end; set trainer\.max_epochs"):
        trained(endless, schedule="linear").configure_optimizers()


@pytest.mark.parametrize(
    ("epochs", "share", "first"),
    [(60, 0.6, 36), (500, 0.7, 350), (2, 0.6, 1), (3, 0.99, None), (1, 0.6, None), (50, 0.0, None), (None, 0.0, None)],
)
def test_a_training_is_divided_by_a_share(epochs: int | None, share: float, first: int | None) -> None:
    phases = Phases.by_share(share, epochs)
    assert phases.first == first
    found = [phases.of(epoch) for epoch in range(epochs or 5)]
    if first is None:
        assert set(found) == {None}
        assert phases.share(0) == phases.share(1) == 1
    else:
        assert epochs is not None
        assert found == [0] * first + [1] * (epochs - first)
        assert (phases.share(0), phases.share(1)) == pytest.approx((first / epochs, 1 - first / epochs))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_a_division_leaves_an_epoch_to_each_part(share: float) -> None:
    for epochs in range(1, 40):
        phases = {Phases.by_share(share, epochs).of(epoch) for epoch in range(epochs)}
        assert phases in ({None}, {0, 1})
        if phases == {None}:
            assert epochs * min(share, 1 - share) <= 0.5


@pytest.mark.parametrize("share", [-0.1, 1.0, 40, math.nan])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(XrayError, match=f"encoder_share is {share}, .* take for example 0.4"):
        check_share("encoder_share", share, "trained beside the generator", 0.4)
