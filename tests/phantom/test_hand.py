from __future__ import annotations

import math

import pytest

from anomalib_xray.phantom.hand import Bone, step


def test_step_counts_degrees_from_up_towards_the_thumb() -> None:
    assert step((1.0, 2.0), 0, 3) == pytest.approx((1, -1))
    assert step((1.0, 2.0), 90, 3) == pytest.approx((4, 2))
    assert step((0.0, 0.0), 180, 1) == pytest.approx((0, 1))


def test_length_is_the_distance_between_the_ends() -> None:
    assert Bone("any", (1, 1), (4, 5), (1, 1, 1), 0.1).length == math.sqrt(9 + 16)
