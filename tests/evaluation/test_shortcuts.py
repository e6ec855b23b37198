from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.evaluation.shortcuts import SHORTCUTS, shortcut_numbers


def test_numbers_follow_their_definitions() -> None:
    image = np.zeros((100, 200), np.uint8)
    image[20:60, 50:150] = 51
    image[20:60, 100:150] = 153
    numbers = shortcut_numbers(image)
    assert tuple(numbers) == SHORTCUTS
    assert numbers["pixels"] == 20000
    assert numbers["aspect"] == 2
    assert numbers["mean_grey"] == pytest.approx(0.4)
    assert numbers["contrast"] == pytest.approx(0.2)
    assert numbers["foreground_area"] == pytest.approx(0.2)


def test_depth_does_not_matter() -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 60), dtype=np.uint8)
    deep = shortcut_numbers(image.astype(np.uint16) * 257)
    assert deep == pytest.approx(shortcut_numbers(image), rel=1e-4)


def test_blurring_lowers_the_sharpness_and_size_does_not_change_it() -> None:
    image = np.random.default_rng(0).integers(50, 200, (64, 64), dtype=np.uint8)
    image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
    sharp = shortcut_numbers(image)["sharpness"]
    assert shortcut_numbers(cv2.GaussianBlur(image, (0, 0), 8))["sharpness"] < 0.5 * sharp
    larger = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    assert shortcut_numbers(larger)["sharpness"] == pytest.approx(sharp, rel=0.05)


def test_a_black_picture_has_numbers_too() -> None:
    numbers = shortcut_numbers(np.zeros((30, 30), np.uint8))
    assert all(np.isfinite(value) for value in numbers.values())
    assert numbers["foreground_area"] == 0


def test_a_marker_beside_the_body_is_counted() -> None:
    image = np.zeros((512, 400), np.uint8)
    cv2.ellipse(image, (200, 280), (110, 180), 0, 0, 360, 120, -1)
    without = shortcut_numbers(image)["markers"]
    cv2.putText(image, "L", (330, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 6)
    assert (without, shortcut_numbers(image)["markers"]) == (0, 1)
