from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.feature_memory import FeatureMemory


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def memory_of(features: torch.Tensor, mask: torch.Tensor, references: int = 5000) -> FeatureMemory:
    memory = FeatureMemory(features.shape[1], references)
    memory.store(features, mask, generator())
    return memory


def test_distance_is_that_of_the_closest_whitened_feature() -> None:
    torch.manual_seed(0)
    stored, mask = torch.randn(3, 4, 8, 8) * torch.tensor([1.0, 5.0, 0.3, 2.0])[:, None, None], torch.ones(3, 1, 8, 8)
    memory = memory_of(stored, mask)
    query = torch.randn(2, 4, 8, 8)
    found = memory(query, torch.ones(2, 1, 8, 8))

    flat = stored.permute(0, 2, 3, 1).reshape(-1, 4).numpy().astype(np.float64)
    vectors = query.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    differences = (vectors[:, None] - flat[None]) / flat.std(0)
    expected = (differences**2).mean(2).min(1).reshape(2, 1, 8, 8)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_what_was_seen_is_not_far() -> None:
    torch.manual_seed(0)
    stored = torch.randn(1, 4, 8, 8)
    memory = memory_of(stored, torch.ones(1, 1, 8, 8))
    ones = torch.ones(1, 1, 8, 8)
    assert memory(stored, ones).max() < 1e-5
    # Wherever it was seen.
    assert memory(stored.flip(2, 3), ones).max() < 1e-5
    assert memory(stored + 3, ones).mean() > 1


def test_background_is_neither_stored_nor_compared() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(1, 4, 8, 8), torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    memory = memory_of(features, mask, references=16)
    inside = features[0, :, 2:6, 2:6].flatten(1).T
    restored = memory.references / memory.scale
    assert torch.allclose(torch.sort(restored[:, 0]).values, torch.sort(inside[:, 0]).values, atol=1e-5)

    query = features.clone()
    query[..., 2:6, 2:6] += 2
    distance = memory(query, mask)
    assert (distance[mask == 0] == 0).all()
    elsewhere = query.clone()
    elsewhere[..., :2, :] = 1000.0
    assert torch.equal(memory(elsewhere, mask), distance)


def test_a_small_memory_holds_a_random_choice_that_can_be_repeated() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(4, 4, 8, 8), torch.ones(4, 1, 8, 8)
    first, second = (memory_of(features, mask, references=10) for _ in range(2))
    assert torch.equal(first.references, second.references)
    assert len(torch.unique(first.references, dim=0)) == 10
    assert len(torch.unique(memory_of(features, mask, references=1000).references, dim=0)) == 4 * 64


def test_an_empty_memory_and_an_image_without_foreground_give_zeros() -> None:
    memory = FeatureMemory(4, 8)
    ones = torch.ones(1, 1, 8, 8)
    assert (memory(torch.randn(1, 4, 8, 8), ones) == 0).all()
    memory.store(torch.randn(1, 4, 8, 8), ones * 0, generator())
    assert memory.filled == 0
    memory.store(torch.randn(1, 4, 8, 8), ones, generator())
    assert memory.filled == 1
    assert (memory(torch.randn(1, 4, 8, 8), ones * 0) == 0).all()


def test_a_channel_that_never_varies_does_not_outweigh_the_others() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 8, 8)
    features[:, 2] = 1.0
    memory = memory_of(features, torch.ones(2, 1, 8, 8))
    features[:, 2] += 1e-4
    assert memory(features, torch.ones(2, 1, 8, 8)).max() < 1e-3


def test_a_memory_without_features_is_refused() -> None:
    with pytest.raises(XrayError, match="references is 0"):
        FeatureMemory(4, 0)
