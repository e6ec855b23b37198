from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anomalib_xray.phantom.attenuation import (
    Film,
    Placement,
    bone_attenuation,
    bone_texture,
    expose,
    sample_film,
    tissue_attenuation,
    tissue_mask,
)
from anomalib_xray.phantom.hand import Bone, Hand, SoftSegment

PLACEMENT = Placement(scale=100, degrees=0, offset=(100, 180), mirrored=False)
SHAPE = (220, 200)


def hand_of(*bones: Bone) -> Hand:
    tissue = (SoftSegment((0, 0), (0, -1), (0.4, 0.3)),)
    return Hand(bones, (), tissue, np.array([[0, 0], [0.1, 0], [0.1, -0.1]]), "L")


SHAFT = Bone("shaft", (0.0, 0.0), (0.0, -1.4), (0.3, 0.2, 0.3), cortex=0.04)


def test_placement_turns_mirrors_scales_and_moves() -> None:
    assert PLACEMENT.points([(1.0, 0.0)]) == pytest.approx(np.array([[200.0, 180.0]]))
    turned = dataclasses.replace(PLACEMENT, degrees=90)
    assert turned.points([(1.0, 0.0)]) == pytest.approx(np.array([[100.0, 280.0]]))
    mirrored = dataclasses.replace(PLACEMENT, mirrored=True)
    assert mirrored.points([(1.0, 0.0)]) == pytest.approx(np.array([[0.0, 180.0]]))


def test_a_shaft_is_a_tube_of_dense_cortex_around_thin_medulla() -> None:
    plane = bone_attenuation(hand_of(SHAFT), PLACEMENT, SHAPE, np.zeros((256, 256), np.float32))
    row = plane[180 - 70]
    wall, middle = row[100 - 9 : 100 - 5].max(), row[99:101].mean()
    assert wall > 1.1 * middle > 0
    assert (row[:85] == 0).all()
    assert (row[115:] == 0).all()
    assert row[80:120] == pytest.approx(row[80:120][::-1], abs=1e-3)


def test_overlapping_bones_add_up() -> None:
    texture = np.zeros((256, 256), np.float32)
    once = bone_attenuation(hand_of(SHAFT), PLACEMENT, SHAPE, texture)
    twice = bone_attenuation(hand_of(SHAFT, SHAFT), PLACEMENT, SHAPE, texture)
    assert twice == pytest.approx(2 * once, rel=1e-5)


def test_a_growth_plate_is_a_gap_across_the_bone() -> None:
    texture = np.zeros((256, 256), np.float32)
    closed = bone_attenuation(hand_of(SHAFT), PLACEMENT, SHAPE, texture)
    grown = dataclasses.replace(SHAFT, growth_plate=0.5)
    open_ = bone_attenuation(hand_of(grown), PLACEMENT, SHAPE, texture)
    assert open_[180 - 70, 100] < 0.5 * closed[180 - 70, 100]
    assert open_[180 - 40, 100] == pytest.approx(closed[180 - 40, 100], rel=0.01)


def test_bones_outside_the_picture_are_left_out() -> None:
    away = dataclasses.replace(PLACEMENT, offset=(5000, 5000))
    assert not bone_attenuation(hand_of(SHAFT), away, SHAPE, bone_texture(np.random.default_rng(0))).any()


def test_tissue_covers_the_bones_and_is_thicker_inside_than_at_the_skin() -> None:
    hand = hand_of(SHAFT)
    mask = tissue_mask(hand, PLACEMENT, SHAPE)
    assert mask[130, 100]
    assert not mask[130, 30]
    tissue = tissue_attenuation(mask, PLACEMENT, np.zeros(SHAPE, np.float32))
    assert (tissue[~mask] == 0).all()
    edge = int(np.nonzero(mask[130])[0][0])
    assert 0 < tissue[130, edge] < 0.5 * tissue[130, 100]


def test_texture_has_mean_zero_and_unit_spread() -> None:
    texture = bone_texture(np.random.default_rng(1))
    assert texture.shape == (256, 256)
    assert abs(texture.mean()) < 0.1
    assert texture.std() == pytest.approx(1, rel=1e-4)


CLEAN = Film(1.0, 10, 250, photons=1e12, scatter=0, vignette=0, vignette_centre=(0.5, 0.5))


def test_the_response_follows_the_formula() -> None:
    attenuation = np.full((40, 40), 0.7, np.float32)
    grey = expose(attenuation, CLEAN, np.random.default_rng(0))
    assert grey == pytest.approx(np.full((40, 40), np.rint(10 + 240 * (1 - np.exp(-0.7)))))


def test_dense_matter_is_noisier_as_fewer_photons_are_left() -> None:
    noisy = dataclasses.replace(CLEAN, photons=2000)
    attenuation = np.zeros((200, 100), np.float32)
    attenuation[100:] = 1.5
    grey = expose(attenuation, noisy, np.random.default_rng(0)).astype(float)
    # The response is flatter where it is bright; the noise in the attenuation is what grows with exp(A / 2).
    spread = [np.std(-np.log(1 - (part - 10) / 240)) for part in (np.maximum(grey[5:90], 10), grey[110:195])]
    assert spread[1] > 1.5 * spread[0]


def test_vignetting_darkens_the_corners() -> None:
    dim = dataclasses.replace(CLEAN, vignette=0.3)
    grey = expose(np.full((101, 101), 1.0, np.float32), dim, np.random.default_rng(0))
    assert grey[0, 0] == pytest.approx(grey[50, 50] * 0.7, abs=1)


def test_prepared_films_have_a_dark_ground() -> None:
    blacks = [sample_film(np.random.default_rng(seed), prepared=True).black for seed in range(30)]
    assert max(blacks) <= 12
    assert max(sample_film(np.random.default_rng(seed), prepared=False).black for seed in range(30)) > 25
