from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.explain.run import Stage, is_sane, randomisation_test, randomise, similarity, weighted_layers
from anomalib_xray.networks.grad_cam import grad_cam_map


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 4, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 1, 16), nn.Flatten(0))


def images(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(1, 1, 32, 32, generator=generator).repeat(1, 3, 1, 1) * 0.9 + 0.1 for _ in range(count)]


def edges(_: nn.Module, image: Tensor) -> Tensor:
    """A map that looks like an explanation and knows no network."""
    return image[:, 0].diff(dim=2, prepend=image[:, 0, :, :1]).abs()


def explained(judge: nn.Module, image: Tensor) -> Tensor:
    layer = judge.get_submodule("0")
    return grad_cam_map(judge, layer, image[:, :1])[:, 0]


def test_an_explanation_that_knows_no_network_is_found_out() -> None:
    judge = network()
    stages = list(randomisation_test(judge, judge, edges, images(2)))
    assert [stage.layer for stage in stages] == ["2", "0"]
    assert all(stage.spearman == pytest.approx(1) and stage.ssim == pytest.approx(1) for stage in stages)
    assert not is_sane(stages)
    assert not is_sane([Stage("0", 0.9, 0.0)])


def test_an_explanation_of_the_network_changes_with_it() -> None:
    judge = network()
    stages = list(randomisation_test(judge, judge, explained, images(4)))
    assert is_sane(stages)
    assert stages[-1].ssim < 0.9


def test_layers_are_randomised_from_the_top() -> None:
    judge = network()
    before = {name: value.clone() for name, value in judge.state_dict().items()}
    changed = []
    for _ in randomisation_test(judge, judge, edges, images(1)):
        changed.append({name for name, value in judge.state_dict().items() if not torch.equal(value, before[name])})
    assert changed == [{"2.weight", "2.bias"}, set(before)]


def test_random_weights_have_the_magnitude_of_those_before() -> None:
    layer = nn.Linear(200, 200)
    nn.init.constant_(layer.weight, 3.0)
    randomise(layer, torch.Generator().manual_seed(0))
    assert float(layer.weight.square().mean().sqrt()) == pytest.approx(3, rel=0.05)
    assert float(layer.weight.mean()) == pytest.approx(0, abs=0.1)
    assert [name for name, _ in weighted_layers(network())] == ["0", "2"]


def test_similarity_is_that_of_the_foreground() -> None:
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.rand(1, 32, 32, generator=generator) for _ in range(2))
    image = images(1)[0]
    image[..., :8] = 0
    ranks = [heat[0, :, 8:].flatten().argsort().argsort().numpy() for heat in (one, other)]
    correlation, structure = similarity(one, other, image)
    assert correlation == pytest.approx(np.corrcoef(ranks[0], ranks[1])[0, 1], abs=1e-5)
    assert structure < 0.5
    assert similarity(one, 2 * one, image) == pytest.approx((1, 1), abs=1e-4)
    assert similarity(one, torch.zeros_like(one), image)[0] == 0
    assert similarity(one, other, torch.zeros_like(image))[0] == 0
