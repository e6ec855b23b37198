from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.components import masked_mse_loss


def test_pixels_of_the_whole_batch_count_alike() -> None:
    random = np.random.default_rng(0)
    image, reconstruction = random.random((2, 3, 1, 5, 4))
    mask = (random.random((3, 1, 5, 4)) < 0.5).astype(float)
    mask[2] = 0
    expected = ((image - reconstruction)[mask > 0] ** 2).mean()
    loss = masked_mse_loss(*map(torch.from_numpy, (reconstruction, image, mask)))
    assert float(loss) == pytest.approx(expected)


def test_background_gets_no_gradient_and_an_empty_batch_no_loss() -> None:
    image = torch.rand(1, 1, 4, 4)
    reconstruction = torch.rand(1, 1, 4, 4, requires_grad=True)
    mask = torch.zeros(1, 1, 4, 4)
    assert masked_mse_loss(reconstruction, image, mask) == 0
    mask[..., :2] = 1
    masked_mse_loss(reconstruction, image, mask).backward()
    assert (reconstruction.grad[..., 2:] == 0).all()
    assert (reconstruction.grad[..., :2] != 0).all()
