from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.scores import dissimilarity
from anomalib_xray_plugins.feature_ae.loss import FeatureLoss, feature_errors, masked_feature_loss


@pytest.fixture
def features() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn((2, 3, 6, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64))  # type: ignore[return-value]  # two of them


def test_errors_are_the_formulas(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, y = (one.numpy() for one in features)
    found = feature_errors(*features, value_range=6.0)
    np.testing.assert_allclose(found["mse"], ((x - y) ** 2).mean(1, keepdims=True))
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    np.testing.assert_allclose(found["cosine"][:, 0], (1 - cosine) / 2)
    for image in range(3):
        channels = [
            dissimilarity(*(one[image, channel][None, None] for one in features), window=5, value_range=6.0)
            for channel in range(6)
        ]
        torch.testing.assert_close(found["ssim"][image], torch.cat(channels).mean(0))


def test_equal_features_have_no_error(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    for name, error in feature_errors(features[0], features[0]).items():
        assert error.shape == (3, 1, 8, 8)
        assert float(error.abs().max()) < 1e-6, name


def test_small_maps_have_a_small_window() -> None:
    error = feature_errors(torch.rand(1, 2, 2, 2), torch.rand(1, 2, 2, 2))["ssim"]
    assert error.shape == (1, 1, 2, 2)
    assert error.isfinite().all()


@pytest.mark.parametrize("kind", ["ssim", "mse", "cosine"])
def test_places_count_by_their_foreground(kind: FeatureLoss, features: tuple[torch.Tensor, torch.Tensor]) -> None:
    weight = torch.rand(3, 1, 8, 8)
    error = feature_errors(*(one.float() for one in features))[kind]
    loss = masked_feature_loss(*features, weight, kind)
    expected = np.average(error.numpy(), weights=weight.numpy())
    assert float(loss) == pytest.approx(expected, rel=1e-5)
    assert masked_feature_loss(*features, torch.zeros_like(weight), kind) == 0
