from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray_plugins.f_ano_gan.lightning_model import encoder_loss

RNG = np.random.default_rng(0)
IMAGE, RECONSTRUCTION = torch.from_numpy(RNG.uniform(-1, 1, (2, 3, 1, 4, 4)))
FEATURES, RECONSTRUCTED = torch.from_numpy(RNG.normal(0, 2, (2, 3, 7)))
MASK = torch.from_numpy(RNG.random((3, 1, 4, 4)) < 0.5).double()


def loss(mask: torch.Tensor, weight: float) -> float:
    return float(encoder_loss(IMAGE, RECONSTRUCTION, mask, FEATURES, RECONSTRUCTED, weight))


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_on_raw_images_it_is_the_published_loss(weight: float) -> None:
    pixels = np.mean((IMAGE.numpy() - RECONSTRUCTION.numpy()) ** 2)
    features = np.mean((FEATURES.numpy() - RECONSTRUCTED.numpy()) ** 2)
    assert loss(torch.ones_like(MASK), weight) == pytest.approx(pixels + weight * features)


def test_pixels_of_the_background_do_not_count() -> None:
    inside = MASK.numpy() > 0
    pixels = np.mean((IMAGE.numpy() - RECONSTRUCTION.numpy())[inside] ** 2)
    assert loss(MASK, 0.0) == pytest.approx(pixels)
    assert loss(torch.zeros_like(MASK), 0.0) == 0
