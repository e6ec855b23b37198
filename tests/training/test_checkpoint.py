from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from anomalib_xray.training.checkpoint import StraightCheckpointIO, random_state, restore_random_state


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002  # the state of this very generator is under test
        float(np.random.randn()),  # noqa: NPY002  # as above
        float(torch.rand(())),
        float(torch.randn(3).sum()),
    ]


def test_a_checkpoint_is_what_lightning_would_have_written(tmp_path: Path) -> None:
    content = {"state_dict": {"weight": torch.rand(3, 2), "part": torch.rand(4)[1:]}, "epoch": 3, "name": "Cae"}
    read = []
    for writer in (StraightCheckpointIO(), TorchCheckpointIO()):
        path = tmp_path / type(writer).__name__ / "model.ckpt"
        writer.save_checkpoint(content, path)
        writer.save_checkpoint(content, path)  # replaces it
        assert list(path.parent.iterdir()) == [path]
        read.append(torch.load(path, weights_only=True, mmap=True))
    ours, theirs = read
    assert {name: part.tolist() for name, part in ours.pop("state_dict").items()} == {
        name: part.tolist() for name, part in theirs.pop("state_dict").items()
    }
    assert ours == theirs == {"epoch": 3, "name": "Cae"}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    StraightCheckpointIO().save_checkpoint({"epoch": 1}, path)
    with pytest.raises(AttributeError):  # what cannot be pickled
        StraightCheckpointIO().save_checkpoint({"epoch": 2, "function": lambda: None}, path)
    assert torch.load(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_draws_repeat_after_a_checkpoint_without_pickled_code() -> None:
    draw()  # leaves a half-used pair of normal numbers behind
    stored = io.BytesIO()
    torch.save(random_state(), stored)
    expected = draw()
    assert draw() != expected
    stored.seek(0)
    restore_random_state(torch.load(stored, weights_only=True))
    assert draw() == expected


def test_states_of_another_number_of_accelerators_are_left_alone() -> None:
    state = random_state()
    state["cuda"] = [torch.get_rng_state()] * 99
    expected = draw()
    restore_random_state(state)
    assert draw() == expected
