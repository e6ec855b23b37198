from __future__ import annotations

import numpy as np
import torch

from anomalib_xray.detectors import Reservoir


def sample(limit: int, seed: int, batch: int = 7) -> list[int]:
    reservoir = Reservoir(limit, seed)
    for rows in torch.arange(50.0).unsqueeze(1).split(batch):
        reservoir.add(rows)
    assert reservoir.seen == 50
    return [int(row) for row in reservoir.rows().flatten()]


def test_all_rows_are_kept_in_order_while_there_is_room() -> None:
    assert sample(50, 0) == list(range(50))


def test_a_sample_has_distinct_rows_and_does_not_depend_on_batches() -> None:
    rows = sample(10, 3)
    assert len(set(rows)) == 10
    assert sample(10, 3, batch=1) == rows
    assert sample(10, 4) != rows


def test_every_row_has_the_same_chance() -> None:
    counts = np.bincount([row for seed in range(300) for row in sample(10, seed)], minlength=50)
    # 60 expected with a deviation of 7; five deviations on either side.
    assert counts.min() > 25
    assert counts.max() < 95


def test_without_rows_there_is_nothing() -> None:
    assert Reservoir(3).rows().shape == (0, 0)


def test_rows_are_copies() -> None:
    reservoir, rows = Reservoir(2), torch.ones(1, 3)
    reservoir.add(rows)
    rows.zero_()
    assert reservoir.rows().sum() == 3
