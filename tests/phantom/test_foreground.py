from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.foreground import rough_foreground
from anomalib_xray.phantom.scene import SceneOptions, render_phantom


@pytest.mark.parametrize("seed", range(4))
def test_the_hand_of_a_raw_phantom_is_found(seed: int) -> None:
    phantom = render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, marker=1.0))
    found = rough_foreground(phantom.image)
    overlap = (found & phantom.foreground).sum() / (found | phantom.foreground).sum()
    assert overlap > 0.8


def test_holes_are_filled_and_small_parts_dropped() -> None:
    image = np.zeros((200, 200), np.uint8)
    image[40:160, 40:160] = 150
    image[90:110, 90:110] = 0
    image[5:15, 5:15] = 255
    found = rough_foreground(image)
    assert found[100, 100]
    assert not found[10, 10]


def test_unusable_images_are_refused() -> None:
    with pytest.raises(XrayError, match="all equal"):
        rough_foreground(np.full((20, 20), 7, np.uint8))
    with pytest.raises(XrayError, match="grey 8-bit"):
        rough_foreground(np.zeros((20, 20, 3), np.uint8))
