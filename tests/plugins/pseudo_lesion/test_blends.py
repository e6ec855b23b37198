from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from anomalib_xray_plugins.pseudo_lesion.blends import BLENDS, blend, label_of_difference

Array = NDArray[np.float64]
SIDE = 14


def windows(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two pictures, two patches and regions of odd shapes, none of them at the border."""
    generator = torch.Generator().manual_seed(seed)
    own, patch = torch.rand(2, 2, SIDE, SIDE, generator=generator, dtype=torch.float64)
    region = torch.rand(2, SIDE, SIDE, generator=generator) < 0.8
    region[:, [0, -1]] = region[:, :, [0, -1]] = False
    return own, patch, region


def edited(own: Array, kept: Array | None, patch: Array, region: NDArray[np.bool_]) -> Array:
    """Equation 7 of Perez et al. 2003, and its mixed gradients, written down pixel by pixel and solved directly."""
    pixels = {place: number for number, place in enumerate(zip(*np.nonzero(region), strict=True))}
    matrix, right = lil_matrix((len(pixels), len(pixels))), np.zeros(len(pixels))
    for (y, x), number in pixels.items():
        for place in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            matrix[number, number] += 1
            step = patch[y, x] - patch[place]
            if kept is not None and abs(kept[y, x] - kept[place]) > abs(step):
                step = kept[y, x] - kept[place]
            right[number] += step
            if place in pixels:
                matrix[number, pixels[place]] -= 1
            else:
                right[number] += own[place]
    result = own.copy()
    result[region] = spsolve(matrix.tocsr(), right)
    return result


@pytest.mark.parametrize("mixed", [False, True])
def test_blending_solves_the_poisson_equation(mixed: bool) -> None:
    own, patch, region = windows(0)
    kept = 0.5 * own if mixed else None
    found = blend(own, kept, patch, region)
    for index in range(2):
        reference = edited(
            own[index].numpy(), kept[index].numpy() if kept is not None else None, patch[index].numpy(),
            region[index].numpy(),
        )  # fmt: skip
        np.testing.assert_allclose(found[index].numpy(), reference, atol=1e-3)
    assert torch.equal(found[~region], own[~region])


def test_blending_a_picture_with_itself_and_a_constant_changes_nothing() -> None:
    own, _, region = windows(1)
    torch.testing.assert_close(blend(own, None, own + 0.3, region), own, rtol=0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.99])
def test_interpolated_patches_are_the_published_ones(weight: float) -> None:
    own, patch, region = windows(2)
    alpha = 0.05 + 0.9 * weight
    found, label = BLENDS["foreign_patch"](own, patch, region, torch.full((2, 1, 1), weight, dtype=own.dtype))
    expected = np.where(region, (1 - alpha) * own + alpha * patch, own)
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(label, alpha * region.numpy())
    found, label = BLENDS["poisson"](own, patch, region, torch.full((2, 1, 1), weight, dtype=own.dtype))
    expected = edited(own[0].numpy(), (1 - alpha) * own[0].numpy(), alpha * patch[0].numpy(), region[0].numpy())
    np.testing.assert_allclose(found[0], expected, atol=1e-3)
    np.testing.assert_allclose(label, alpha * region.numpy())


def test_pasted_patches_replace_with_another_brightness() -> None:
    own, patch, region = windows(3)
    weight = torch.tensor([0.0, 0.75], dtype=own.dtype).view(2, 1, 1)
    found, label = BLENDS["cut_paste"](own, patch, region, weight)
    factor = np.array([0.9, 1.05]).reshape(2, 1, 1)
    np.testing.assert_allclose(found, np.where(region, patch * factor, own))
    assert torch.equal(label, region.double())


def test_labels_follow_the_difference_in_grey_levels() -> None:
    own = torch.full((1, 9, 9), 0.5)
    levels = torch.tensor([0.0, 1.0, 4.0, 8.0, 60.0])
    region = torch.ones_like(own, dtype=torch.bool)
    region[:, :, 0] = False
    labels = torch.stack([label_of_difference(own, own - level / 255, region)[0, 4, 4] for level in levels])
    published = 1 / (1 + np.exp(-(levels.numpy() - 4) / 2))
    np.testing.assert_allclose(labels, (published - published[0]) / (1 - published[0]), atol=1e-5)
    assert label_of_difference(own, own + 1, region)[0, 4, 0] == 0
    for task in ("natural", "deform"):
        _, label = BLENDS[task](own, own, region, torch.zeros(1, 1, 1))
        assert label.max() == 0
