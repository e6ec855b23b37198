from __future__ import annotations

import pytest
import torch

from anomalib_xray_plugins.dual_distribution.lightning_model import in_this_step, shuffled_batches


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4, 2]), (8, [4, 4]), (3, [3]), (1, [1])])
def test_a_pass_has_every_image_once(count: int, sizes: list[int]) -> None:
    batches = shuffled_batches(count, 4, 7)
    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


@pytest.mark.parametrize(("count", "sizes"), [(10, [4, 4]), (8, [4, 4]), (3, [3])])
def test_a_smaller_last_batch_can_be_left_out(count: int, sizes: list[int]) -> None:
    assert [len(batch) for batch in shuffled_batches(count, 4, 7, drop_last=True)] == sizes


def test_the_seed_decides_the_order() -> None:
    first, same, other = (torch.cat(shuffled_batches(50, 8, seed)) for seed in (3, 3, 4))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("steps", "batches"), [(5, 5), (5, 12), (5, 3), (1, 4), (4, 0)])
def test_batches_are_spread_over_the_steps(steps: int, batches: int) -> None:
    shares = [in_this_step(step, steps, batches) for step in range(steps)]
    assert [number for share in shares for number in share] == list(range(batches))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
