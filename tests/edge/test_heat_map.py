from __future__ import annotations

import numpy as np
import pytest

from anomalib_xray.edge.heat_map import on_original, outline_of
from anomalib_xray.preparation.pipeline import Prepared

SHAPE = (20, 30)


def view(top: int, left: int, height: int, width: int) -> Prepared:
    """A part that was cut out of the original."""
    matrix = np.array([[1.0, 0, -left], [0, 1, -top], [0, 0, 1]])
    return Prepared(np.zeros((height, width), np.uint8), (), matrix)


def even(value: float, of: Prepared) -> np.ndarray:
    return np.full(of.image.shape, value, np.float32)


def test_the_original_itself_keeps_its_map_bit_by_bit() -> None:
    heat_map = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    np.testing.assert_array_equal(on_original([heat_map], [Prepared(np.zeros(SHAPE), (), np.eye(3))], SHAPE), heat_map)


def test_a_part_lies_where_it_was_cut_out() -> None:
    part = view(5, 8, 10, 12)
    expected = np.zeros(SHAPE)
    expected[5:15, 8:20] = 3
    np.testing.assert_array_equal(on_original([even(3, part)], [part], SHAPE), expected)


@pytest.mark.parametrize(("first", "second"), [(3.0, 7.0), (7.0, 3.0), (-3.0, -7.0), (-7.0, -3.0), (2.0, -1.0)])
def test_the_larger_value_stands_where_parts_overlap(first: float, second: float) -> None:
    parts = [view(0, 0, 12, 15), view(6, 5, 14, 20)]
    merged = on_original([even(first, parts[0]), even(second, parts[1])], parts, SHAPE)
    expected = np.zeros(SHAPE)
    expected[0:12, 0:15] = first
    expected[6:20, 5:25] = second
    expected[6:12, 5:15] = max(first, second)
    np.testing.assert_array_equal(merged, expected)


def test_three_parts() -> None:
    parts = [view(0, 0, 10, 10), view(0, 5, 10, 10), view(10, 20, 10, 10)]
    merged = on_original([even(value, part) for value, part in zip((1, 5, 2), parts, strict=True)], parts, SHAPE)
    expected = np.zeros(SHAPE)
    expected[:10, :5], expected[:10, 5:15], expected[10:, 20:] = 1, 5, 2
    np.testing.assert_array_equal(merged, expected)


def test_without_map_there_is_none() -> None:
    assert on_original([None], [view(0, 0, *SHAPE)], SHAPE) is None


@pytest.mark.parametrize("scale", [1.0, 0.25, 2.0])
def test_the_outline_of_a_part_is_the_rectangle_that_was_cut_out(scale: float) -> None:
    part = view(5, 8, 10, 12)
    resized = np.array([[scale, 0, (scale - 1) / 2], [0, scale, (scale - 1) / 2], [0, 0, 1]])
    image = np.zeros((round(10 * scale), round(12 * scale)), np.uint8)
    # 10 / 4 rows are no whole number, so the picture ends a little before the rectangle.
    height, width = image.shape[0] / scale, image.shape[1] / scale
    expected = np.array([[8, 5], [8 + width, 5], [8 + width, 5 + height], [8, 5 + height]]) - 0.5
    np.testing.assert_allclose(outline_of(Prepared(image, (), resized @ part.matrix)), expected, atol=1e-9)
