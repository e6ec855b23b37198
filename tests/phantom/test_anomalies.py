from __future__ import annotations

import functools

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anomalies import PAINTED_KINDS, changed_region, paint_anomaly
from anomalib_xray.phantom.exposure import PREPARED, SceneOptions
from anomalib_xray.phantom.scene import render_phantom


@functools.cache
def radiograph(seed: int, prepared: bool = True) -> tuple[np.ndarray, np.ndarray]:
    options = PREPARED if prepared else SceneOptions(prepared=False)
    phantom = render_phantom(np.random.default_rng(seed), options)
    return phantom.image, phantom.foreground


@pytest.mark.parametrize("prepared", [True, False])
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", PAINTED_KINDS)
def test_painters_change_the_picture_there_and_only_there(kind: str, seed: int, prepared: bool) -> None:
    image, foreground = radiograph(seed, prepared)
    before = image.copy()
    painted, mask = paint_anomaly(image, foreground, kind, np.random.default_rng(seed))
    assert (image == before).all(), "the given picture must stay as it is"
    assert mask.any()
    assert not (mask & ~foreground).any()
    difference = cv2.absdiff(painted, image)
    assert (difference[~mask] < 6).all()
    assert difference[mask].mean() > 6
    assert (painted[~foreground] == image[~foreground]).all()
    assert painted[foreground].min() >= 1


@pytest.mark.parametrize("kind", PAINTED_KINDS)
def test_the_same_state_paints_the_same(kind: str) -> None:
    image, foreground = radiograph(3)
    first = paint_anomaly(image, foreground, kind, np.random.default_rng(5))
    second = paint_anomaly(image, foreground, kind, np.random.default_rng(5))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()


@pytest.mark.parametrize("kind", ["plate", "screw", "ring", "mass"])
def test_metal_and_masses_are_brighter(kind: str) -> None:
    image, foreground = radiograph(4)
    painted, mask = paint_anomaly(image, foreground, kind, np.random.default_rng(0))
    assert painted[mask].mean() > image[mask].mean() + 10


@pytest.mark.parametrize("kind", ["fracture", "lysis"])
def test_bone_loss_is_darker(kind: str) -> None:
    image, foreground = radiograph(4)
    painted, mask = paint_anomaly(image, foreground, kind, np.random.default_rng(0))
    assert painted[mask].mean() < image[mask].mean() - 5


@pytest.mark.parametrize("kind", ["plate", "ring", "mass", "lysis"])
def test_large_kinds_survive_a_quarter_of_the_size(kind: str) -> None:
    image, foreground = radiograph(6)
    painted, _ = paint_anomaly(image, foreground, kind, np.random.default_rng(2))
    size = (image.shape[1] // 4, image.shape[0] // 4)
    small = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in (image, painted)]
    assert cv2.absdiff(*small).max() >= 12


def test_small_radiographs_can_be_painted() -> None:
    image, foreground = radiograph(1)
    size = (image.shape[1] // 2, image.shape[0] // 2)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    inside = cv2.resize(foreground.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    for kind in PAINTED_KINDS:
        assert paint_anomaly(small, inside, kind, np.random.default_rng(0))[1].any()


def test_a_picture_without_a_place_is_refused() -> None:
    image = np.full((200, 200), 50, np.uint8)
    with pytest.raises(XrayError, match="No plausible place for the anomaly 'plate'"):
        paint_anomaly(image, np.ones((200, 200), np.bool_), "plate", np.random.default_rng(0))


def test_wrong_arguments_are_refused() -> None:
    image, foreground = radiograph(1)
    rng = np.random.default_rng(0)
    with pytest.raises(XrayError, match="'missing_phalanx': choose one of fracture"):
        paint_anomaly(image, foreground, "missing_phalanx", rng)
    with pytest.raises(XrayError, match="same shape"):
        paint_anomaly(image, foreground[:-1], "mass", rng)
    with pytest.raises(XrayError, match="boolean"):
        paint_anomaly(image, foreground.astype(np.uint8), "mass", rng)


def test_changed_region_closes_gaps_and_ignores_noise() -> None:
    before = np.full((170, 170), 100, np.uint8)
    after = before.copy()
    after[50:60, 50:60] = 120
    after[55, 55] = 100
    after[5, 5] = 103
    region = changed_region(before, after)
    assert region[55, 55]
    assert region.sum() == 100
