"""The contract of a preparation step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.io.read import Radiograph
from anomalib_xray.phantom import PREPARED, RAW, render_phantom
from anomalib_xray.preparation.history import decode_history, encode_history
from anomalib_xray.preparation.pipeline import Pipeline, Prepared
from anomalib_xray.preparation.settings import STEP_GROUP, step_class
from anomalib_xray.preparation.step import Step

_RAW = [f"raw {number}" for number in range(2)]
_MASKED = [f"masked {number}" for number in range(2)]
_ODD = ["black", "white", "pixel", "strip", "noise"]


class StepContract:
    """Base of a test class that checks one preparation step; a subclass names the step and its settings.

    The step's distribution must be installed, so that its entry point is found. Everything runs on generated
    radiographs, without torch.

    Attributes:
        step: The step's class.
        settings: Settings as a pipeline's YAML file gives them.

    Example:
        ::

            class TestResize(StepContract):
                step = Resize
                settings = {"longest_side": 256}
    """

    step: ClassVar[type[Step]]
    settings: ClassVar[Mapping[str, Any]] = {}

    @property
    def name(self) -> str:
        """Name of the step's entry point."""
        named = [entry.name for entry in entry_points(group=STEP_GROUP) if entry.value.endswith(self.step.__name__)]
        return next(name for name in named if step_class(name) is self.step)

    def pipeline(self) -> Pipeline:
        """A pipeline of this step alone, newly made."""
        return Pipeline([{self.name: dict(self.settings)}])

    def prepared(self, image: Radiograph) -> list[Prepared]:
        """Prepares a picture by the step alone."""
        return self.pipeline().prepare(image, "train/image1.png")

    def test_its_settings_have_descriptions(self) -> None:
        """A user learns what a setting does from the class's docstring."""
        named = self.pipeline().steps[0]
        documented = self.step.__doc__ or ""
        assert [setting for setting in named.settings if f"{setting}:" not in documented] == []

    def test_its_settings_are_json(self) -> None:
        """They are part of the record's key."""
        json.dumps(self.pipeline().steps[0].settings)

    @pytest.mark.parametrize("picture", [*_RAW, *_MASKED, *_ODD])
    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    def test_a_picture_stays_a_picture(self, picture: str, depth: str) -> None:
        """Two dimensions, no side of 0, the same depth; and the original is left alone."""
        image = _of_depth(_pictures()[picture], depth)
        before = image.copy()
        image.setflags(write=False)
        for prepared in self.prepared(image):
            assert prepared.image.ndim == 2
            assert prepared.image.size > 0
            assert prepared.image.dtype == image.dtype
        np.testing.assert_array_equal(image, before)

    @pytest.mark.parametrize("picture", [*_RAW, *_MASKED])
    def test_the_same_picture_gives_the_same_result(self, picture: str) -> None:
        """A plan depends on the picture and the settings alone, whatever was looked at before."""
        image = _pictures()[picture]
        first = self.prepared(image)
        self.prepared(_pictures()["noise"])
        second = self.prepared(image)
        assert _encoded(first) == _encoded(second)
        for one, other in zip(first, second, strict=True):
            np.testing.assert_array_equal(one.image, other.image)

    @pytest.mark.parametrize("picture", [*_RAW, *_MASKED])
    def test_a_record_replays_to_the_same_pixels(self, picture: str) -> None:
        """All that the step needs is in its plan, and the plan survives its record."""
        image = _pictures()[picture]
        for prepared in self.prepared(image):
            history = decode_history(json.loads(json.dumps(encode_history(prepared.history))))
            again = self.pipeline().replay(image, history)
            np.testing.assert_array_equal(again.image, prepared.image)
            np.testing.assert_array_equal(again.matrix, prepared.matrix)

    @pytest.mark.parametrize("picture", _MASKED)
    @pytest.mark.parametrize("depth", ["uint8", "uint16"])
    def test_the_background_of_a_masked_picture_stays(self, picture: str, depth: str) -> None:
        """Pixels that came from background are exactly 0."""
        image = _of_depth(_pictures()[picture], depth)
        for prepared in self.prepared(image):
            assert (prepared.image[_surely_background(image, prepared)] == 0).all()

    @pytest.mark.parametrize("picture", [*_RAW, *_MASKED])
    def test_its_matrix_tells_how_pixels_move(self, picture: str) -> None:
        """Heat maps are led back by it. Grey levels may change, even turn into their opposites."""
        image = _pictures()[picture]
        for prepared in self.prepared(image):
            size = (prepared.image.shape[1], prepared.image.shape[0])
            moved = cv2.warpPerspective(image, prepared.matrix, size, flags=cv2.INTER_LINEAR)
            shown = prepared.image > 0
            assert abs(np.corrcoef(moved[shown], prepared.image[shown])[0, 1]) > 0.8

    def test_flags_are_words(self) -> None:
        """They stand in one cell of the manifest, with spaces between them."""
        for image in _pictures().values():
            for prepared in self.prepared(image):
                for flag in prepared.flags:
                    assert flag.isidentifier()
                    assert flag == flag.lower()


@cache
def _pictures() -> dict[str, NDArray[np.uint8]]:
    """Raw and prepared phantoms, and pictures that show nothing."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 150), dtype=np.uint8)
    return {
        **{name: render_phantom(np.random.default_rng(n), RAW).image for n, name in enumerate(_RAW)},
        **{name: render_phantom(np.random.default_rng(n), PREPARED).image for n, name in enumerate(_MASKED)},
        "black": np.zeros((40, 30), np.uint8),
        "white": np.full((40, 30), 255, np.uint8),
        "pixel": np.full((1, 1), 7, np.uint8),
        "strip": np.arange(1, 201, dtype=np.uint8).reshape(200, 1),
        "noise": noise,
    }


def _of_depth(image: NDArray[np.uint8], depth: str) -> Radiograph:
    return image.copy() if depth == "uint8" else image.astype(np.uint16) * np.uint16(16)


def _encoded(pictures: list[Prepared]) -> list[object]:
    return [encode_history(prepared.history) for prepared in pictures]


def _surely_background(image: Radiograph, prepared: Prepared) -> NDArray[np.bool_]:
    """Pixels (h, w) of a prepared picture with nothing but background of the original around them."""
    size = (prepared.image.shape[1], prepared.image.shape[0])
    foreground = (image > 0).astype(np.uint8) * np.uint8(255)
    moved = cv2.warpPerspective(foreground, prepared.matrix, size, flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.dilate(moved, np.ones((7, 7), np.uint8)) == 0)
