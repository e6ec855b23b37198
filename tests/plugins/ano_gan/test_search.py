from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from anomalib_xray_plugins.ano_gan.search import CodeSearch, Found, frozen

MIXTURE = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
"""A linear generator of 4 x 4 images from codes of length 6."""


def generate(code: torch.Tensor) -> torch.Tensor:
    return (code @ MIXTURE.to(code.dtype)).view(-1, 1, 4, 4)


def features(image: torch.Tensor) -> torch.Tensor:
    return image.square()[..., :2]


def found_for(image: torch.Tensor, steps: int, starts: torch.Tensor | None = None, weight: float = 0.1) -> Found:
    search = CodeSearch(generate, features, 0.05, weight)
    starts = torch.zeros(1, 6) if starts is None else starts
    return search(image, torch.ones_like(image), features(image), starts.to(image.dtype), steps)


def test_search_is_adam_on_the_published_loss() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 1, 4, 4).double()
    mask = (torch.rand(1, 1, 4, 4) > 0.3).double()
    start = torch.full((1, 6), 0.5).double()
    weight, rate, steps = 0.3, 0.05, 7
    found = CodeSearch(generate, features, rate, weight)(image, mask, features(image), start, steps)

    mixture, x, m = MIXTURE.double().numpy(), image.flatten().numpy(), mask.flatten().numpy()
    first_columns = np.zeros((4, 4), bool)
    first_columns[:, :2] = True
    f = first_columns.flatten()
    code, mean, square = np.full(6, 0.5), np.zeros(6), np.zeros(6)
    for step in range(1, steps + 1):
        g = code @ mixture
        by_pixel = (1 - weight) * np.sign(g - x) * m / m.sum() + weight * np.sign(g**2 - x**2) * 2 * g * f / f.sum()
        gradient = mixture @ by_pixel
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        code = code - rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    g = code @ mixture
    residual, feature = (np.abs(x - g) * m).sum() / m.sum(), np.abs(x**2 - g**2)[f].mean()
    np.testing.assert_allclose(found.code[0].numpy(), code, rtol=1e-9)
    np.testing.assert_allclose(found.image.flatten().numpy(), g, rtol=1e-9)
    assert found.residual.item() == pytest.approx(residual)
    assert found.feature.item() == pytest.approx(feature)
    assert found.loss.item() == pytest.approx((1 - weight) * residual + weight * feature)


def test_what_can_be_generated_is_found() -> None:
    torch.manual_seed(0)
    image = generate(torch.rand(5, 6))
    at_first, found = found_for(image, 0), found_for(image, 300)
    assert (found.residual < 0.15 * at_first.residual).all()
    strange = found_for(image + torch.tensor([3.0, -3.0]).repeat(2), 300)
    assert (strange.residual > found.residual).all()


def test_each_image_is_searched_for_on_its_own() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 1, 4, 4)
    together = found_for(images, 20)
    for index in range(4):
        alone = found_for(images[index : index + 1], 20)
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[index])


def test_the_best_of_several_starts_is_kept_for_each_image() -> None:
    torch.manual_seed(0)
    starts = torch.randn(3, 6)
    images = generate(starts.repeat(2, 1) + 0.1 * torch.randn(6, 6))
    found = found_for(images, 5, starts)
    single = [found_for(images, 5, starts[index : index + 1]) for index in range(3)]
    losses = torch.stack([one.loss for one in single])
    best = losses.argmin(0)
    assert best.tolist() == [0, 1, 2, 0, 1, 2]
    assert torch.equal(found.loss, losses.amin(0))
    for index, which in enumerate(best):
        for kept, candidate in zip(found, single[int(which)], strict=True):
            assert torch.equal(kept[index], candidate[index])


def test_inference_mode_makes_no_difference() -> None:
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(6, 16)).eval()
    image = torch.rand(2, 1, 4, 4)

    def search() -> torch.Tensor:
        with frozen(layer):
            found = CodeSearch(lambda code: layer(code).view(-1, 1, 4, 4), features, 0.05)(
                image * 1, torch.ones_like(image), features(image * 1), torch.zeros(1, 6), 5
            )
        return found.loss

    expected = search()
    with torch.inference_mode():
        assert torch.equal(search(), expected)
    with torch.no_grad():
        assert torch.equal(search(), expected)


def test_frozen_networks_get_no_gradients_and_are_handed_back() -> None:
    layer = nn.Sequential(spectral_norm(nn.Linear(3, 3)), nn.Linear(3, 3)).eval()
    layer[1].bias.requires_grad_(False)
    before = {name: weight.requires_grad for name, weight in layer.named_parameters()}
    assert len(set(before.values())) == 2
    with frozen(layer):
        assert not any(weight.requires_grad for weight in layer.parameters())
        first = layer[0].weight
        assert layer[0].weight is first  # not computed again
    assert {name: weight.requires_grad for name, weight in layer.named_parameters()} == before
    with pytest.raises(ZeroDivisionError), frozen(layer):
        _ = 1 / 0
    assert {name: weight.requires_grad for name, weight in layer.named_parameters()} == before
