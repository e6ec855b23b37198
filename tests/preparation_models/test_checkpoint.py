from __future__ import annotations

from pathlib import Path

import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation_models.checkpoint import resume, save_checkpoint


def parts(seed: int) -> dict[str, torch.nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return {"network": torch.nn.Linear(3, 2)}


def test_a_stopped_training_goes_on_where_it_stood(tmp_path: Path) -> None:
    before, after = parts(0), parts(1)
    save_checkpoint(tmp_path / "checkpoint.pt", {"seed": 3}, 7, before)
    assert resume(tmp_path / "checkpoint.pt", {"seed": 3}, after) == 7
    assert (after["network"].weight == before["network"].weight).all()


def test_a_training_without_checkpoint_starts_at_its_beginning(tmp_path: Path) -> None:
    assert resume(tmp_path / "checkpoint.pt", {}, parts(0)) == 0


def test_another_training_and_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"seed": 3}, 7, parts(0))
    with pytest.raises(XrayError, match="other settings"):
        resume(path, {"seed": 4}, parts(0))
    with pytest.raises(XrayError, match="no checkpoint of this training"):
        resume(path, {"seed": 3}, {"other": torch.nn.Linear(3, 2)})
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(XrayError, match="no checkpoint of this training"):
        resume(path, {"seed": 3}, parts(0))
