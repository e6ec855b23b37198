from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray_plugins.deep_one_class.lightning_model import compactness, descriptiveness


@pytest.mark.parametrize("number", [2, 5])
def test_compactness_is_the_distance_from_the_mean_of_the_others(number: int) -> None:
    features = np.random.default_rng(0).normal(size=(number, 7))
    apart = 0.0
    for i in range(number):
        others = np.mean([features[j] for j in range(number) if j != i], axis=0)
        apart += float(((features[i] - others) ** 2).sum())
    np.testing.assert_allclose(compactness(torch.from_numpy(features)).item(), apart / (number * 7))


def test_compactness_of_a_single_image_is_0_and_has_a_gradient_of_0() -> None:
    features = torch.rand(1, 3, requires_grad=True)
    loss = compactness(features)
    loss.backward()
    assert loss == 0
    assert features.grad is not None
    assert torch.equal(features.grad, torch.zeros(1, 3))


def cross_entropy(logits: np.ndarray, labels: list[int]) -> float:
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return float(-np.mean([np.log(share[label]) for share, label in zip(shares, labels, strict=True)]))


def test_descriptiveness_looks_at_the_reference_classes_alone() -> None:
    target, reference = np.random.default_rng(1).normal(size=(2, 4, 3))
    labels = [0, 2, 1, 2]
    found = descriptiveness(torch.from_numpy(target), torch.from_numpy(reference), torch.tensor(labels), 3)
    np.testing.assert_allclose(found.item(), cross_entropy(reference, labels))


def test_single_reference_class_is_told_from_the_target() -> None:
    target, reference = np.random.default_rng(1).normal(size=(2, 4, 2))
    found = descriptiveness(
        torch.from_numpy(target), torch.from_numpy(reference), torch.zeros(4, dtype=torch.long), classes=1
    )
    expected = cross_entropy(np.concatenate([reference, target]), [0] * 4 + [1] * 4)
    np.testing.assert_allclose(found.item(), expected)
