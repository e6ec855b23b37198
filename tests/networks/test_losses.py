from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.networks.losses import ReconstructionLoss, masked_mse_loss, masked_reconstruction_loss
from anomalib_xray.scores import dissimilarity


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


@pytest.mark.parametrize("kind", ["bce", "mse", "l1", "smooth_l1"])
def test_error_of_choice_is_averaged_over_the_foreground(kind: ReconstructionLoss) -> None:
    random = np.random.default_rng(0)
    image, reconstruction = random.random((2, 3, 1, 5, 4)).astype(np.float32)
    mask = (random.random((3, 1, 5, 4)) < 0.5).astype(np.float32)
    difference = np.abs(image - reconstruction)
    errors = {
        "bce": -(image * np.log(reconstruction) + (1 - image) * np.log(1 - reconstruction)),
        "mse": difference**2,
        "l1": difference,
        "smooth_l1": difference**2 / 2,
    }
    loss = masked_reconstruction_loss(*map(torch.from_numpy, (reconstruction, image, mask)), kind)
    assert float(loss) == pytest.approx(errors[kind][mask > 0].mean(), rel=1e-5)


def test_structural_loss_is_the_mean_of_what_similarity_lacks_to_1() -> None:
    random = np.random.default_rng(0)
    image, reconstruction = random.random((2, 2, 1, 24, 24)).astype(np.float32)
    mask = (random.random((2, 1, 24, 24)) < 0.5).astype(np.float32)
    loss = masked_reconstruction_loss(*map(torch.from_numpy, (reconstruction, image, mask)), "ssim")
    # the score is half of it; test_structural.py compares it with the published formula
    lacking = 2 * dissimilarity(torch.from_numpy(image), torch.from_numpy(reconstruction)).numpy()
    assert float(loss) == pytest.approx(lacking[mask > 0].mean(), rel=1e-5)


def test_structural_loss_leads_to_the_image() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 16, 16)
    reconstruction = torch.full_like(image, 0.5).requires_grad_()
    optimizer = torch.optim.Adam([reconstruction], lr=0.02)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = masked_reconstruction_loss(reconstruction, image, torch.ones_like(image), "ssim")
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 0.8
    assert losses[-1] < 0.1
    assert float((reconstruction - image).abs().mean()) < 0.1


def test_cross_entropy_is_finite_in_half_precision_where_a_reconstruction_is_exactly_0_or_1() -> None:
    image = torch.rand(1, 1, 4, 4)
    reconstruction = torch.ones(1, 1, 4, 4, dtype=torch.bfloat16)
    reconstruction[..., :2] = 0
    reconstruction.requires_grad_(True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = masked_reconstruction_loss(reconstruction, image, torch.ones_like(image), "bce")
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert reconstruction.grad is not None
    assert reconstruction.grad.isfinite().all()
