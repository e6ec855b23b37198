from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.scores import feature_matching, feature_matching_signed

SHAPES = ((3, 4, 8, 8), (3, 16, 2, 2), (3, 5))


@pytest.fixture
def layers() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Features of three images and of their reconstructions, in layers of different sizes."""
    random = np.random.default_rng(0)
    first, second = ([torch.from_numpy(random.normal(size=shape)) for shape in SHAPES] for _ in range(2))
    return first, second


def test_layers_count_alike_whatever_their_size(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    absolute, signed = feature_matching(*layers), feature_matching_signed(*layers)
    for image in range(3):
        differences = [one[image].numpy() - other[image].numpy() for one, other in zip(*layers, strict=True)]
        assert float(absolute[image]) == pytest.approx(np.mean([np.abs(layer).mean() for layer in differences]))
        assert float(signed[image]) == pytest.approx(np.mean([layer.mean() for layer in differences]))


def test_equal_features_score_0(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    assert (feature_matching(layers[0], layers[0]) == 0).all()
    assert (feature_matching_signed(layers[0], layers[0]) == 0).all()


def test_differences_cancel_only_where_the_sign_is_kept() -> None:
    features, reconstructed = [torch.tensor([[1.0, -1.0]])], [torch.tensor([[0.0, 0.0]])]
    assert float(feature_matching(features, reconstructed)) == 1
    assert float(feature_matching_signed(features, reconstructed)) == 0
    assert float(feature_matching_signed(reconstructed, [torch.ones(1, 2)])) == -1


def test_layers_must_pair(layers: tuple[list[torch.Tensor], list[torch.Tensor]]) -> None:
    for function in (feature_matching, feature_matching_signed):
        with pytest.raises(ValueError, match="shorter"):
            function(layers[0], layers[1][:2])
