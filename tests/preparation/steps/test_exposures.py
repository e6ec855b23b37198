from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.io.read import read_radiograph
from anomalib_xray.preparation.steps.exposures import Exposures

ARMS = Path(__file__).parents[4] / "shared" / "data" / "fracatlas_arms"


def plate(level: int = 25) -> np.ndarray:
    return np.random.default_rng(0).normal(level, 2, (450, 370)).clip(1, 255).astype(np.uint8)


def with_arm(image: np.ndarray, start: tuple[int, int], end: tuple[int, int]) -> np.ndarray:
    """A picture with a bent limb of soft tissue and two bones that are richer in detail."""
    image = image.copy()
    along = np.subtract(end, start)
    across = np.array([along[1], -along[0]]) / np.hypot(*along)
    middle = np.add(start, end) / 2 + 0.06 * np.hypot(*along) * across
    for aside, width, level in ((0, 66, 80), (-14, 16, 175), (-14, 6, 120), (14, 16, 175), (14, 6, 120)):
        places = np.rint(np.array([start, middle, end]) + aside * across).astype(np.int32)
        cv2.polylines(image, [places], isClosed=False, color=level, thickness=width)
    grain = np.random.default_rng(1).normal(0, 4, image.shape)
    return np.where(image > 60, (image + grain).clip(1, 250), image).astype(np.uint8)


def wedge(image: np.ndarray, level: int = 245) -> np.ndarray:
    cv2.fillPoly(image, [np.array([[176, 0], [196, 0], [188, 330]])], level)
    return image


def stripe(image: np.ndarray, level: int) -> np.ndarray:
    cv2.line(image, (180, 0), (192, 449), level, 5)
    return image


def step(image: np.ndarray) -> np.ndarray:
    image[:, 186:] += 9
    return image


TWO_ARMS = with_arm(with_arm(plate(), (90, 0), (80, 330)), (285, 0), (300, 350))
DIVIDED = {
    "wedge": wedge(TWO_ARMS.copy()),
    "black stripe": stripe(TWO_ARMS.copy(), 2),
    "grey stripe": stripe(TWO_ARMS.copy(), 45),
    "step": step(TWO_ARMS.copy()),
    "limb up to the wedge": wedge(with_arm(with_arm(plate(), (60, 0), (170, 230)), (285, 0), (300, 350))),
}
WHOLE = {
    "no divider": TWO_ARMS,
    "one arm": with_arm(plate(), (180, 0), (190, 330)),
    "one arm beside a wedge": wedge(with_arm(plate(), (285, 0), (300, 350))),
    "an arm across a stripe": stripe(with_arm(plate(), (0, 200), (369, 230)), 2),
    "an arm across a step": step(with_arm(plate(), (0, 200), (369, 230))),
    "an arm from border to border": with_arm(plate(), (180, 0), (190, 449)),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", DIVIDED)
def test_each_exposure_becomes_a_picture(name: str, *, turned: bool) -> None:
    image = np.ascontiguousarray(DIVIDED[name].T) if turned else DIVIDED[name]
    found = Exposures()
    plan = found.plan(image)
    assert plan.flags == ("two_exposures",)
    parts = found.parts(plan)
    assert len(parts) == 2
    for part, place in zip(parts, ((80, 60), (285, 60)), strict=True):
        picture = found.apply(image, part)
        place = place[::-1] if turned else place
        x, y, _ = (found.matrix(part) @ [*place, 1]).round().astype(int)
        assert picture[y, x] == image[place[1], place[0]]
        assert picture.dtype == image.dtype


@pytest.mark.parametrize("name", WHOLE)
def test_nothing_else_is_divided(name: str) -> None:
    assert not Exposures().plan(WHOLE[name]).parameters


def test_a_divider_is_recorded_and_left_out() -> None:
    image = DIVIDED["wedge"]
    plan = Exposures().plan(image)
    ((x0, y0, x1, y1),) = plan.parameters["dividers"]
    assert (y0, y1) == pytest.approx((0, 449), abs=2)
    assert (x0 + x1) / 2 == pytest.approx(187, abs=5)
    for part in Exposures().parts(plan):
        assert (Exposures().apply(image, part) > 200).mean() < 0.003


def test_a_large_picture_of_16_bit_is_divided_alike() -> None:
    small = DIVIDED["wedge"]
    large = cv2.resize(small, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST).astype(np.uint16) * 200
    boxes = [
        [part.parameters["exposures"][0]["box"] for part in Exposures().parts(Exposures().plan(image))]
        for image in (small, large)
    ]
    assert np.abs(np.multiply(boxes[0], 3) - boxes[1]).max() <= 12


@pytest.mark.parametrize("shape", [(1, 1), (5, 400), (40, 40)])
def test_tiny_pictures_pass(shape: tuple[int, int]) -> None:
    assert not Exposures().plan(np.full(shape, 7, np.uint8)).parameters


@pytest.mark.skipif(not ARMS.is_dir(), reason=f"the radiographs of {ARMS} are not here")
def test_real_plates() -> None:
    with (ARMS / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    single = [row["image_path"] for row in rows if row["multiscan"] != "1"][::40]
    several = [f"images/IMG000{number}.jpg" for number in (2388, 2576, 2189, 2242, 2177)]
    found = [bool(Exposures().plan(read_radiograph(ARMS / name)).parameters) for name in single + several]
    assert found == [False] * len(single) + [True] * len(several)
