from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from anomalib_xray.errors import XrayError
from anomalib_xray.explain.lrp import check_conservation, plain_copy, relevance
from anomalib_xray.models import AlphaGan, Bigan, Dcgan, FAnoGan
from anomalib_xray.networks.attention import SelfAttention

SMALL: dict[str, Any] = {"image_size": 64, "width": 8, "latent_size": 16}
DCGAN: dict[str, Any] = {**SMALL, "discriminator_width": 4, "references": 64}


class Logit(nn.Module):
    """Layers whose output is a logit an image."""

    layers: Any

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.layers(image).flatten()
        return logits


class Residual(nn.Module):
    """A sum outside of any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = image + self.inner(image)
        return found


def epsilon_rule(
    inputs: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64], above: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``R_j = sum_k x_j w_kj / (z_k + eps sign z_k) R_k``, epsilon 0.05, for one image."""
    outputs = weight @ inputs + bias
    outputs += np.where(outputs < 0, -0.05, 0.05)
    return np.array([(inputs[j] * weight[:, j] / outputs * above).sum() for j in range(len(inputs))])


def numbers(value: Tensor) -> NDArray[np.float64]:
    return value.detach().double().numpy()


def test_relevance_is_that_of_the_epsilon_rule() -> None:
    torch.manual_seed(0)
    first, second = nn.Linear(16, 5), nn.Linear(5, 1)
    network = Logit(nn.Flatten(), first, nn.LeakyReLU(0.1), second)
    image = torch.randn(2, 1, 4, 4)
    found = relevance(network, network, image, epsilon=0.05)
    for index in range(2):
        pixels = numbers(image[index]).ravel()
        before = numbers(first.weight) @ pixels + numbers(first.bias)
        hidden = np.where(before > 0, before, 0.1 * before)
        logit = numbers(second.weight) @ hidden + numbers(second.bias)
        above = epsilon_rule(hidden, numbers(second.weight), numbers(second.bias), -logit)
        expected = epsilon_rule(pixels, numbers(first.weight), numbers(first.bias), above)
        np.testing.assert_allclose(numbers(found.pixels[index]).ravel(), expected, rtol=1e-4, atol=1e-6)
        assert float(found.logit[index]) == pytest.approx(logit.item(), rel=1e-5)
    assert (found.elsewhere == 0).all()


def test_without_epsilon_it_is_gradient_times_input_in_a_piecewise_linear_network() -> None:
    """Ancona et al. 2018 (1711.06104), proposition 1."""
    torch.manual_seed(0)
    convolutions = [spectral_norm(nn.Conv2d(1, 4, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True), nn.Conv2d(4, 3, 3)]
    network = Logit(
        *convolutions, nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3, 1)
    )
    network.eval()
    image = torch.randn(3, 1, 16, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image).sum(), image)
    plain = plain_copy(network)
    with torch.inference_mode():
        found = relevance(plain, plain, image.detach().clone(), epsilon=1e-12)
    torch.testing.assert_close(found.pixels, -(image * gradient).detach(), rtol=1e-3, atol=1e-5)


def test_self_attention_counts_as_given() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, pooling=2)
    nn.init.constant_(attention.gamma, 0.7)
    network = Logit(nn.Conv2d(1, 8, 1), attention, nn.Conv2d(8, 1, 4))
    image = torch.randn(1, 1, 4, 4)
    found = relevance(network, network, image)
    features = network.layers[0](image).detach()
    weights = attention.weights(features).detach()[0]
    # What each place takes from each key, and each key's channel from the place that it was pooled from.
    pixels = image.clone().requires_grad_(True)
    inputs = network.layers[0](pixels)
    value = nn.functional.max_pool2d(attention.value(inputs), 2).flatten(2)[0]
    mixed = torch.stack([(weights[place] * value).sum(1) for place in range(16)], dim=1)
    logit = network.layers[2](0.7 * mixed.reshape(1, 8, 4, 4) + inputs).sum()
    assert float(found.logit) == pytest.approx(logit.item(), rel=1e-4)
    (gradient,) = torch.autograd.grad(logit, pixels)
    torch.testing.assert_close(found.pixels, -(image * gradient), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("model", "settings"), [(AlphaGan, SMALL), (Bigan, SMALL), (Dcgan, DCGAN)])
def test_nothing_is_lost_where_no_layer_has_a_bias(model: Any, settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    network: Any = plain_copy(model(**settings).model)
    discriminator = network.discriminator
    for name, weight in discriminator.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        if name.endswith("gamma"):
            nn.init.constant_(weight, 0.5)
    image = torch.rand(2, 1, 64, 64) * 2 - 1
    if hasattr(discriminator, "minibatch"):
        discriminator.train()
        discriminator(image.flip(3), remember=True)
        discriminator.eval()
    found = relevance(discriminator, network.discriminator_logit, image)
    total = found.pixels.sum((1, 2, 3)) + found.elsewhere
    torch.testing.assert_close(total, -found.logit, rtol=1e-2, atol=1e-4)
    assert (found.elsewhere != 0).all()  # of the code, or of the closeness to other images


def test_biases_keep_what_falls_to_them() -> None:
    network = Logit(nn.Flatten(), nn.Linear(4, 1))
    nn.init.ones_(network.layers[1].weight)
    nn.init.constant_(network.layers[1].bias, 2.0)
    found = relevance(network, network, torch.ones(1, 1, 2, 2))
    assert float(found.logit) == 6
    torch.testing.assert_close(found.pixels, torch.full((1, 1, 2, 2), -1.0))


def test_networks_without_a_rule_are_refused() -> None:
    image = torch.rand(1, 1, 8, 8)
    normalised = Logit(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(72, 1))
    with pytest.raises(XrayError, match=r"no rule for GroupNorm \(the discriminator's layer layers\.1\)"):
        check_conservation(normalised, normalised, image)
    residual = Logit(Residual(), nn.Flatten(), nn.Linear(64, 1))
    before = {name: value.clone() for name, value in residual.state_dict().items()}
    with pytest.raises(XrayError, match="sums or products outside of its layers"):
        check_conservation(residual, residual, image)
    torch.testing.assert_close(residual.state_dict(), before)
    critic: Any = plain_copy(FAnoGan(**SMALL).model)
    with pytest.raises(XrayError, match="no rule for GroupNorm"):
        check_conservation(critic.discriminator, critic.discriminator_logit, torch.rand(1, 1, 64, 64))


def test_the_network_is_left_without_hooks() -> None:
    network = Logit(nn.Flatten(), nn.Linear(64, 1))
    relevance(network, network, torch.rand(1, 1, 8, 8))
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())


def test_a_plain_copy_computes_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(spectral_norm(nn.Conv2d(1, 4, 3)), nn.BatchNorm2d(4), nn.LeakyReLU(0.1, inplace=True)),
        nn.Sequential(nn.ConvTranspose2d(4, 2, 3), nn.BatchNorm2d(2)),
        nn.Flatten(),
        nn.Sequential(spectral_norm(nn.Linear(128, 3)), nn.BatchNorm1d(3)),
    )
    for _ in range(3):
        network(torch.randn(8, 1, 8, 8) * 2 + 1)  # so that means and spectral norms are not the initial ones
    network.train()
    names = set(network.state_dict())
    copy = plain_copy(network)
    assert network.training
    assert any(is_parametrized(layer) for layer in network.modules())
    assert set(network.state_dict()) == names
    assert not any(
        is_parametrized(layer) or isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in copy.modules()
    )
    assert not any(getattr(layer, "inplace", False) for layer in copy.modules())
    image = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(copy(image), network.eval()(image), rtol=1e-4, atol=1e-5)
