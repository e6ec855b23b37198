from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from anomalib_xray.components import NoiseKind, input_noise


def upsampled(grid: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Linear interpolation along both axes, with the corners on the corners."""
    places = np.linspace(0, len(grid) - 1, side)
    rows = np.stack([np.interp(places, np.arange(len(grid)), column) for column in grid.T], 1)
    return np.stack([np.interp(places, np.arange(grid.shape[1]), row) for row in rows])


def test_coarse_noise_is_a_moved_grid_of_16_by_16_points() -> None:
    torch.manual_seed(3)
    noise = input_noise(torch.ones(2, 1, 64, 64, dtype=torch.float64), 0.2)
    torch.manual_seed(3)
    grid = torch.randn(2, 1, 16, 16, dtype=torch.float64).numpy()
    down, right = (int(torch.randint(64, ())) for _ in range(2))
    for found, points in zip(noise[:, 0].numpy(), grid[:, 0], strict=True):
        np.testing.assert_allclose(found, np.roll(0.2 * upsampled(points, 64), (down, right), (0, 1)), atol=1e-12)


@pytest.mark.parametrize("kind", ["coarse", "pixel"])
def test_noise_lies_in_the_foreground_and_has_the_deviation(kind: NoiseKind) -> None:
    torch.manual_seed(0)
    mask = torch.ones(64, 1, 32, 32)
    mask[..., :9] = 0
    noise = input_noise(mask, 0.3, kind)
    assert noise.shape == mask.shape
    assert (noise[..., :9] == 0).all()
    inside = noise[..., 9:]
    assert abs(float(inside.mean())) < 0.02
    # between the points of the grid, coarse noise is an average of up to four independent ones
    expected = {"pixel": (0.295, 0.305), "coarse": (0.15, 0.3)}[kind]
    assert expected[0] < float(inside.std()) < expected[1]


def test_neighbours_share_coarse_noise_only() -> None:
    torch.manual_seed(0)
    mask = torch.ones(8, 1, 128, 128)
    for kind, (low, high) in {"coarse": (0.9, 1.0), "pixel": (-0.1, 0.1)}.items():
        noise = input_noise(mask, 1.0, kind).numpy()  # type: ignore[arg-type]  # mypy takes the key for any text
        correlation = np.corrcoef(noise[..., :-1].ravel(), noise[..., 1:].ravel())[0, 1]
        assert low < correlation < high, kind
