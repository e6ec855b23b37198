"""Radiographs for the tests, and the promise that every transform keeps on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch


def _draw_hand(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    tissue = 60 + 50 * np.cos(2 * x) * np.cos(y)
    bones = 80 * (np.sin(9 * x + seed) > 0.6)
    noisy = tissue + bones + random.normal(0, 6, (height, width))
    inside = x**2 + y**2 < 0.8
    return np.where(inside, noisy.clip(1, 255), 0).astype(np.uint8)


@pytest.fixture(scope="session")
def draw_hand() -> Callable[..., npt.NDArray[np.uint8]]:
    """Draws an ellipse of soft tissue with bright bones and noise on background, uint8 (H, W), foreground >= 1."""
    return _draw_hand


@pytest.fixture(scope="session")
def hand_image() -> Callable[..., torch.Tensor]:
    """Draws the same as a float image (3, H, W) in [0, 1]."""

    def draw(height: int, width: int, seed: int = 0) -> torch.Tensor:
        return torch.from_numpy(_draw_hand(height, width, seed)).float().div(255).repeat(3, 1, 1)

    return draw


@pytest.fixture(scope="session")
def assert_foreground_promise() -> Callable[[torch.Tensor], None]:
    """Checks that every pixel is background (exactly 0) or foreground (one grey level to 1)."""

    def check(image: torch.Tensor) -> None:
        foreground = image[image != 0]
        assert not torch.isnan(image).any()
        assert (foreground >= 1 / 255).all()
        assert (foreground <= 1).all()

    return check
