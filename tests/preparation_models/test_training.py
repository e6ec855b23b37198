from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation_models.training import train_network


def trained(path: Path, steps: int = 3, *, last: int | None = None, seed: int = 3, width: int = 2) -> torch.nn.Linear:
    """A small network after some steps; Ctrl-C comes before the step ``last``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, width)
    schedule = torch.optim.lr_scheduler.LinearLR(torch.optim.AdamW(network.parameters(), lr=0.1))

    def loss_at(step: int) -> torch.Tensor:
        if step == last:
            raise KeyboardInterrupt
        return network(torch.full((1, 3), step + 1.0)).square().sum()

    settings = {"seed": seed}
    train_network(network, lambda: loss_at, schedule, steps=steps, checkpoint=path, every=1, settings=settings)
    return network


def test_a_stopped_training_goes_on_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped.pt", last=1)
    assert "step 1 of 3: loss" in capsys.readouterr().out
    stopped = trained(tmp_path / "stopped.pt", last=0)
    assert not stopped.training
    assert torch.equal(stopped.weight, trained(tmp_path / "whole.pt").weight)


def test_a_finished_training_is_taken_as_it_is(tmp_path: Path) -> None:
    assert torch.equal(trained(tmp_path / "whole.pt").weight, trained(tmp_path / "whole.pt", last=0).weight)


def test_each_step_is_one_of_adamw_on_its_schedule(tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    for step in range(3):
        optimizer.zero_grad()
        network(torch.full((1, 3), step + 1.0)).square().sum().backward()
        optimizer.step()
        schedule.step()
    assert torch.equal(trained(tmp_path / "checkpoint.pt").weight, network.weight)


def test_another_training_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    trained(path)
    with pytest.raises(XrayError, match="other settings"):
        trained(path, seed=4)
    with pytest.raises(XrayError, match="no checkpoint of this training"):
        trained(path, width=3)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(XrayError, match="no checkpoint of this training"):
        trained(path)
