from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray_plugins.dual_distribution.refinement import Refiner, focal_loss, paint_anomalies


def test_refiner_has_the_published_number_of_parameters() -> None:
    assert sum(weight.numel() for weight in Refiner(2).parameters()) == 152_834


def test_refiner_gives_probabilities() -> None:
    probabilities = Refiner(1, 4).eval()(torch.rand(2, 1, 8, 8))
    assert probabilities.shape == (2, 2, 8, 8)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 8, 8))


@pytest.mark.parametrize(("side", "count"), [(64, 200), (256, 30)])
def test_squares_blend_another_image_in(side: int, count: int) -> None:
    torch.manual_seed(0)
    image, others = (0.1 + 0.9 * torch.rand(count, 1, side, side) for _ in range(2))
    painted, target = paint_anomalies(image, others, torch.Generator().manual_seed(0))
    changed = target.amax((1, 2, 3)) > 0
    assert 0.3 < changed.float().mean() < 0.7
    assert torch.equal(painted[target == 0], image[target == 0])
    sides, weights = [], []
    for number in changed.nonzero().flatten():
        inside = target[number, 0] > 0
        rows, columns = inside.any(1).nonzero().flatten(), inside.any(0).nonzero().flatten()
        assert inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        sides.append(max(len(rows), len(columns)))
        weight = ((painted - image)[number, 0] / (others - image)[number, 0])[inside]
        weights.append(weight.median().item())
        torch.testing.assert_close(
            painted[number, 0][inside], image[number, 0][inside].lerp(others[number, 0][inside], weights[-1])
        )
    assert min(sides) >= 2 * round(0.05 * side) - 1 - round(0.05 * side)  # a corner may cut a part off
    assert max(sides) <= 2 * round(0.2 * side) - 1
    assert max(sides) > 0.3 * side
    assert 0.3 < np.mean(weights) < 0.7
    assert max(weights) < 1


def test_only_the_foreground_is_painted_and_only_what_changed_is_a_target() -> None:
    torch.manual_seed(0)
    shape = torch.zeros(100, 1, 64, 64)
    shape[:50, :, 10:50, 12:30] = 1  # the other image's foreground lies elsewhere
    shape[50:, :, 20:60, 20:60] = 1
    image = (0.1 + 0.9 * torch.rand(100, 1, 64, 64)) * shape
    others = image.roll(50, 0)
    others[:, :, 30:34] = image[:, :, 30:34]  # the same in both: blending changes nothing
    painted, target = paint_anomalies(image, others, torch.Generator().manual_seed(0))
    assert torch.equal(target > 0, painted != image)
    assert target.sum() > 0
    assert torch.equal(painted > 0, image > 0)
    assert painted[image > 0].min() >= 1 / 255
    assert not target[:, :, 30:34].any()


def test_painting_repeats_with_its_source() -> None:
    image, others = torch.rand(8, 1, 64, 64), torch.rand(8, 1, 64, 64)
    first, second = (paint_anomalies(image, others, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


def test_focal_loss_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    probabilities = torch.randn(2, 2, 4, 4).softmax(1)
    target = (torch.rand(2, 1, 4, 4) < 0.5).float()
    p = np.where(target[:, 0].numpy() > 0, probabilities[:, 1].numpy(), probabilities[:, 0].numpy())
    expected = -((1 - p) ** 2 * np.log(p)).mean()
    assert focal_loss(probabilities, target).item() == pytest.approx(expected, rel=1e-3)
    certain = torch.cat([1 - target, target], 1)
    assert 0 <= focal_loss(certain, target).item() < 1e-6
    assert torch.isfinite(focal_loss(1 - certain, target))
