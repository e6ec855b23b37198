from __future__ import annotations

import json

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom import RAW, Phantom, render_phantom
from anomalib_xray.preparation.steps.inversion import Inversion, Method, surroundings_are_bright, texture_is_dark

METHODS: tuple[Method, ...] = ("robust", "published")


@pytest.fixture(scope="module")
def phantoms() -> list[Phantom]:
    return [render_phantom(np.random.default_rng(seed), RAW) for seed in range(16)]


def normal(phantom: Phantom) -> np.ndarray:
    return 255 - phantom.image if phantom.inverted else phantom.image


@pytest.mark.parametrize("method", METHODS)
def test_phantoms_are_judged_right(method: Method, phantoms: list[Phantom]) -> None:
    step = Inversion(method)
    assert [bool(step.plan(phantom.image).parameters) for phantom in phantoms] == [
        phantom.inverted for phantom in phantoms
    ]
    assert all(step.plan(255 - normal(phantom)).flags == ("inverted",) for phantom in phantoms)


def test_grey_levels_as_such_have_no_say(phantoms: list[Phantom]) -> None:
    for phantom in phantoms[:8]:
        film = normal(phantom)
        lifted = (150 + film * 0.4).astype(np.uint8)
        assert not Inversion().plan(lifted).parameters
        assert Inversion().plan(255 - lifted).parameters
        assert Inversion("published").plan(lifted).parameters, "the published rule takes it for an inverted one"


def test_a_white_frame_does_not_flip_a_film(phantoms: list[Phantom]) -> None:
    film = np.pad(normal(phantoms[0]), 60, constant_values=255)
    assert not Inversion().plan(film).parameters
    assert Inversion("published").plan(film).parameters


def test_noise_on_an_empty_middle_is_no_evidence() -> None:
    rng = np.random.default_rng(3)
    y = np.linspace(0, 1, 300)[:, None]
    for _ in range(10):
        # The noise of an empty plate is less where the plate is brighter.
        plate = 20 + 3 * y + (1.2 - y) * rng.normal(0, 1, (300, 260))
        plate[:40] = 150
        assert not texture_is_dark(np.clip(plate, 0, 255).astype(np.uint8))


def test_the_published_rule_is_the_mean_of_corners_or_picture() -> None:
    image = np.zeros((200, 300), np.uint8)
    assert not surroundings_are_bright(image)
    image[:50, :50] = image[:50, -50:] = image[-50:, :50] = 255
    assert surroundings_are_bright(image), "three corners of four"
    image[:50, :50] = 0
    image[60:140] = 1
    assert not surroundings_are_bright(image), "the mean of two white corners is 127.5, not more"
    image[50:-50] = 255
    assert surroundings_are_bright(image), "the picture"


def test_16_bit_is_turned_at_its_own_maximum(phantoms: list[Phantom]) -> None:
    film = (255 - normal(phantoms[0])).astype(np.uint16) * 16
    step = Inversion()
    plan = step.plan(film)
    white = int(film.max())
    assert plan.parameters == {"white": white}
    inverted = step.apply(film, plan)
    assert inverted.dtype == np.uint16
    np.testing.assert_array_equal(inverted, white - film.astype(int))
    brighter = np.full_like(film, white + 5)
    assert step.apply(brighter, plan).max() == 0, "another picture does not wrap around"


def test_8_bit_is_turned_at_255_and_its_input_stays(phantoms: list[Phantom]) -> None:
    image = 255 - normal(phantoms[1])
    before = image.copy()
    step = Inversion()
    plan = step.plan(image)
    assert json.loads(json.dumps(dict(plan.parameters))) == {"white": 255}
    inverted = step.apply(image, plan)
    assert inverted.dtype == np.uint8
    np.testing.assert_array_equal(inverted, normal(phantoms[1]))
    np.testing.assert_array_equal(image, before)
    assert step.plan(image) == plan
    assert not step.plan(inverted).parameters, "inverting again changes nothing"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (30, 20)])
def test_pictures_without_detail_say_nothing(shape: tuple[int, int], dtype: type[np.uint8 | np.uint16]) -> None:
    for level in (0, 90, np.iinfo(dtype).max):
        image = np.full(shape, level, dtype)
        assert not texture_is_dark(image)
        plan = Inversion("published").plan(image)
        assert bool(plan.parameters) == (level > 127 or (dtype == np.uint16 and level > 0)), "its view reaches 255"


def test_unknown_methods_are_refused() -> None:
    with pytest.raises(XrayError, match="'other'; choose one of robust, published"):
        Inversion("other")  # type: ignore[arg-type]  # what a YAML file may say
