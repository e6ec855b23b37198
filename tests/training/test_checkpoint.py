from __future__ import annotations

import io
import random

import numpy as np
import torch

from anomalib_xray.training.checkpoint import random_state, restore_random_state


def draw() -> list[float]:
    return [
        random.random(),
        random.gauss(0, 1),
        float(np.random.rand()),  # noqa: NPY002  # the state of this very generator is under test
        float(np.random.randn()),  # noqa: NPY002  # as above
        float(torch.rand(())),
        float(torch.randn(3).sum()),
    ]


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
