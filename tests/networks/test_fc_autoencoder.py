from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.networks.fc_autoencoder import (
    FcAutoencoder,
    Reconstruction,
    VectorNorm,
    fc_autoencoder_loss,
    squared_error,
)
from anomalib_xray.networks.memory import Memory


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_settings_have_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        assert parameters(FcAutoencoder()) == 4_487_248  # 4.487 M
        assert parameters(FcAutoencoder(uncertainty=True)) == 4_487_248 + 16 * 16
        assert parameters(FcAutoencoder(memory=Memory(25, 16))) == 4_487_248 + 25 * 16


@pytest.mark.parametrize("side", [64, 128, 256, 512])
def test_every_image_size_ends_at_four_pixels(side: int) -> None:
    with torch.device("meta"):
        network = FcAutoencoder(side, width=2, hidden=8, latent_size=3).eval()
        image = torch.empty(2, 1, side, side)
        maps = network.encoder[: side.bit_length() - 3](image)
        assert maps.shape == (2, 8, 4, 4)
        assert network.encoder(image).shape == (2, 3)
        made = network(image)
    assert made.image.shape == image.shape
    assert made.log_variance is None
    assert made.weights is None


def test_the_output_is_linear() -> None:
    torch.manual_seed(0)
    network = FcAutoencoder(64, 2, 8, 3).eval()
    image = torch.rand(2, 1, 64, 64)
    before = network(image).image
    with torch.no_grad():
        network.decoder[-1].weight *= -100
    torch.testing.assert_close(network(image).image, -100 * before)
    assert before.abs().max() > 0


def test_variance_and_weights_come_with_the_reconstruction() -> None:
    torch.manual_seed(0)
    network = FcAutoencoder(64, 2, 8, 3, uncertainty=True, memory=Memory(5, 3))
    made = network(torch.rand(2, 1, 64, 64))
    assert made.log_variance is not None
    assert made.log_variance.shape == (2, 1, 64, 64)
    assert made.weights is not None
    assert made.weights.shape == (2, 5)
    with torch.no_grad():
        network.decoder[-1].weight *= 1e6
    made = network(torch.rand(2, 1, 64, 64))
    assert made.log_variance is not None
    assert made.log_variance.abs().max() == 10


def test_one_vector_trains_by_running_statistics() -> None:
    norm = VectorNorm(3)
    several = torch.randn(8, 3)
    torch.testing.assert_close(norm(several), torch.nn.BatchNorm1d(3)(several))
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    before = mean.clone()
    one = torch.randn(1, 3)
    np.testing.assert_allclose(
        norm(one).detach().numpy(), ((one - mean) / (variance + 1e-5).sqrt()).numpy(), rtol=1e-5, atol=1e-6
    )
    assert torch.equal(mean, before)


def test_loss_of_a_plain_network_is_the_error_of_pixels_that_count() -> None:
    torch.manual_seed(0)
    image, made = torch.rand(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    mask = (torch.rand(2, 1, 4, 4) < 0.5).float()
    expected = ((image - made) ** 2).numpy()[mask.numpy() > 0].mean()
    np.testing.assert_allclose(
        fc_autoencoder_loss(Reconstruction(made, None, None), image, mask).item(), expected, rtol=1e-5
    )
    assert fc_autoencoder_loss(Reconstruction(made, None, None), image, torch.zeros_like(mask)) == 0


def test_loss_with_uncertainty_and_memory() -> None:
    torch.manual_seed(0)
    image, made, log_variance = (torch.randn(2, 1, 4, 4) for _ in range(3))
    weights = torch.rand(2, 5).softmax(1)
    loss = fc_autoencoder_loss(Reconstruction(made, log_variance, weights), image, torch.ones_like(image), 0.3)
    x, y, s, w = (tensor.numpy() for tensor in (image, made, log_variance, weights))
    error = np.exp(-s) * (x - y) ** 2
    expected = error.mean() + s.mean() + 0.3 * -(w * np.log(w)).sum(1).mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    np.testing.assert_allclose(squared_error(Reconstruction(made, log_variance, None), image).numpy(), error, rtol=1e-5)
