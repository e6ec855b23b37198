from __future__ import annotations

import torch
from torch.utils.data import DataLoader

from anomalib_xray.data.sampler import EpochSampler


def batches(sampler: EpochSampler) -> tuple[list[int], float]:
    """Order of an epoch, and a random number drawn while it runs."""
    loader = DataLoader(range(20), batch_size=None, sampler=sampler, generator=sampler.source)
    return list(loader), float(torch.rand(()))


def epochs(count: int, seed: int) -> list[tuple[list[int], float]]:
    sampler = EpochSampler(range(20), seed)
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(batches(sampler))
    return found


def test_every_epoch_has_an_order_and_a_chance_of_its_own() -> None:
    found = epochs(3, seed=1)
    assert len({tuple(order) for order, _ in found}) == 3
    assert len({number for _, number in found}) == 3
    assert all(sorted(order) == list(range(20)) for order, _ in found)


def test_a_seed_repeats_and_another_does_not() -> None:
    assert epochs(2, seed=1) == epochs(2, seed=1)
    assert epochs(1, seed=1) != epochs(1, seed=9)


def test_a_resumed_training_goes_on_as_if_it_had_never_stopped() -> None:
    torch.manual_seed(1)  # what building the model again does
    resumed = EpochSampler(range(20), seed=1, epoch=2)
    assert batches(resumed) == epochs(3, seed=1)[2]


def test_being_told_the_epoch_twice_changes_nothing() -> None:
    sampler = EpochSampler(range(20), seed=1, epoch=2)
    torch.rand(())  # the first batch was already fetched
    state = torch.get_rng_state()
    sampler.set_epoch(2)
    assert torch.equal(torch.get_rng_state(), state)
