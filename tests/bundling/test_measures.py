from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.bundling.images import PreparedSample
from anomalib_xray.bundling.normal_scores import NormalValues, score_all
from anomalib_xray.bundling.precisions import why_rejected
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.training.export import map_difference, measure_parity, score_differences


@pytest.fixture
def radiographs(tmp_path: Path) -> list[PreparedSample]:
    """Three radiographs, normal, abnormal and unknown, the second of two views."""
    for number, level in enumerate((10, 20, 30, 40)):
        write_png(tmp_path / f"{number}.png", np.full((4, 4), level, np.uint8))
    views = [(0,), (1, 2), (3,)]
    return [
        PreparedSample(tmp_path / f"{name}.png", label, views=tuple(tmp_path / f"{view}.png" for view in of_image))
        for name, label, of_image in zip("abc", (0, 1, -1), views, strict=True)
    ]


def run(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    level = float(picture.max()) * 255
    anomaly_map = np.zeros((2, 2), np.float32)
    anomaly_map[0, 0] = level
    return np.array([level, -level]), anomaly_map


def everything(_: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.ones(size, bool)


def test_a_map_of_exactly_0_on_the_foreground_counts() -> None:
    values = NormalValues()
    values.add_map(np.array([[0, 0, 0, 8]], np.float32), np.array([[False, True, True, True]]))
    assert values.pixel_threshold(0.5) == 0


def test_a_radiograph_scores_as_its_worst_view_and_abnormal_ones_say_nothing_of_normal(
    radiographs: list[PreparedSample],
) -> None:
    scores, normal = score_all(run, radiographs, "test", everything)
    np.testing.assert_allclose(scores, [[10, -10], [30, -20], [40, -40]], rtol=1e-6)
    np.testing.assert_allclose(np.stack(normal.scores), [[10, -10], [40, -40]], rtol=1e-6)
    assert normal.limits == pytest.approx((0, 40))
    assert normal.pixel_threshold(1.0) == pytest.approx(40)
    quantiles = normal.quantiles()
    assert quantiles.shape == (2, 101)
    np.testing.assert_allclose(quantiles[0], np.linspace(10, 40, 101), rtol=1e-6)
    np.testing.assert_allclose(normal.threshold(0.95), [38.5, -11.5], rtol=1e-6)


def test_every_picture_counts_with_as_many_pixels() -> None:
    values = NormalValues()
    anomaly_map = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    values.add_map(anomaly_map, anomaly_map > 0)
    values.add_map(np.array([[0, 5]], np.float32), np.array([[False, True]]))
    assert [len(pixels) for pixels in values.pixels] == [1024, 1]
    assert values.pixels[0][[0, -1]] == pytest.approx([1 / 9999, 1])
    assert NormalValues().pixel_threshold(0.5) is None


def test_what_is_not_finite_is_refused(radiographs: list[PreparedSample]) -> None:
    def broken(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        return picture.reshape(-1)[:1] * np.nan, None

    with pytest.raises(XrayError, match=r"no finite score or map for .*a\.png"):
        score_all(broken, radiographs, "test")


def test_differences_are_relative() -> None:
    expected = np.array([[1.0, 0.001], [2.0, 4.0], [4.0, -2.0]])
    found = expected + np.array([[0.01, 0.002], [0.0, 0.0], [0.02, 0.0]])
    # 0.001 is small beside the median of the magnitudes, 2, which then is the scale.
    np.testing.assert_allclose(score_differences(expected, found), [0.01 / 2, 0.002 / 2])
    found = expected + np.array([[0.0, 0.0], [0.0, 0.0], [0.2, 0.0]])
    np.testing.assert_allclose(score_differences(expected, found), [0.2 / 4, 0])
    assert map_difference(np.array([[1.0, -4.0]], np.float32), np.array([[1.5, -4.0]], np.float32)) == 0.125


def test_parity_names_the_score_that_differs(radiographs: list[PreparedSample]) -> None:
    def other(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        scores, anomaly_map = run(picture)
        return scores * [1, 1.01], anomaly_map

    pictures = [picture for radiograph in radiographs for picture in radiograph.read()]
    parity = measure_parity(run, {"same": run, "other": other}, pictures, ["first", "second"])
    same, different = parity["same"], parity["other"]
    assert (same.images, same.passed, same.map) == (4, True, 0)
    assert different.scores["first"] == 0
    assert different.score == different.scores["second"] == pytest.approx(0.01)
    assert not different.passed


@pytest.mark.parametrize(
    ("auroc", "quantised", "reason"),
    [
        (0.9, 0.9, None),
        (0.9, 0.8951, None),
        (0.9, 0.95, None),
        (0.9, 0.894, "AUROC falls from 0.9000 to 0.8940"),
        (None, None, "Without normal and abnormal validation images"),
    ],
)
def test_half_a_point_of_auroc_may_be_lost(auroc: float | None, quantised: float | None, reason: str | None) -> None:
    found = why_rejected(auroc, quantised)
    assert (found is None) == (reason is None)
    if reason is not None and found is not None:
        assert reason in found
        assert "FP16 is kept" in found
