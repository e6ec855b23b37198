from __future__ import annotations

import json
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom import render_phantom
from anomalib_xray.preparation.steps.clahe import Clahe


@pytest.fixture(scope="module")
def hand() -> np.ndarray:
    """A prepared hand: background 0."""
    return render_phantom(np.random.default_rng(3)).image


def test_8_bit_is_opencvs_with_the_background_kept(hand: np.ndarray) -> None:
    before = hand.copy()
    step = Clahe(2.0, 4)
    plan = step.plan(hand)
    equalised = step.apply(hand, plan)
    expected = cv2.createCLAHE(2.0, (4, 4)).apply(hand)
    foreground = hand > 0
    np.testing.assert_array_equal(equalised[foreground], np.maximum(expected[foreground], 1))
    np.testing.assert_array_equal(equalised > 0, foreground)
    np.testing.assert_array_equal(hand, before)
    assert json.loads(json.dumps(dict(plan.parameters))) == {"clip_limit": 2.0, "tiles": 4}


def test_16_bit_is_equalised_like_8_bit(hand: np.ndarray) -> None:
    step = Clahe()
    grain = np.random.default_rng(0).integers(0, 256, hand.shape)
    deep = np.where(hand > 0, hand.astype(int) * 256 + grain, 0).astype(np.uint16)
    equalised = step.apply(deep, step.plan(deep))
    assert equalised.dtype == np.uint16
    np.testing.assert_array_equal(equalised > 0, hand > 0)
    shallow = step.apply(hand, step.plan(hand))
    assert np.abs(equalised / 257 - shallow.astype(float)).mean() < 3
    assert np.abs(hand.astype(float) - shallow).mean() > 10, "the figure above means something"


def test_16_bit_keeps_more_than_256_levels() -> None:
    ramp = np.linspace(1, 65535, 400 * 300).reshape(400, 300).astype(np.uint16)
    step = Clahe()
    assert len(np.unique(step.apply(ramp, step.plan(ramp)))) > 500


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (30, 20)])
def test_tiny_and_constant_pictures_keep_their_background(
    shape: tuple[int, int], dtype: type[np.uint8 | np.uint16]
) -> None:
    step = Clahe()
    for level in (0, 100, np.iinfo(dtype).max):
        image = np.full(shape, level, dtype)
        equalised = step.apply(image, step.plan(image))
        assert equalised.shape == shape
        assert equalised.dtype == dtype
        assert ((equalised > 0) == (level > 0)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_limit": 0}, "clip_limit is 0"),
        ({"clip_limit": float("nan")}, "clip_limit is nan"),
        ({"tiles": 0}, "tiles is 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Clahe(**settings)
