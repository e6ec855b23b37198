"""The pipelines that the project brings along, on phantoms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.phantom import RAW, render_phantom
from anomalib_xray.preparation.mapping import to_prepared
from anomalib_xray.preparation.pipeline import Pipeline

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "preparation").glob("*.yaml"))
BODY_PARTS = {"chest", "elbow", "finger", "forearm", "humerus", "shoulder", "wrist"}
MASKING = {"elbow", "finger", "forearm", "full", "full_128", "hand", "humerus", "upright", "wrist"}


def test_every_pipeline_and_body_part_is_there() -> None:
    assert {path.stem for path in CONFIGS} == BODY_PARTS | {
        *("raw", "crop", "hand", "full", "full_128", "upright", "recognise", "chest_square")
    }


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_pipelines_keep_their_promises(path: Path) -> None:
    pipeline = Pipeline.load(path)
    phantom = render_phantom(np.random.default_rng(5), RAW)
    for image in (phantom.image, phantom.image.astype(np.uint16) * 16):
        for prepared in pipeline.prepare(image):
            assert prepared.image.dtype == image.dtype
            assert max(prepared.image.shape) <= 512
            again = pipeline.replay(image, prepared.history)
            np.testing.assert_array_equal(again.image, prepared.image)
            if path.stem in MASKING:
                true = to_prepared(phantom.foreground, prepared.matrix, prepared.image.shape)  # type: ignore[arg-type]
                found = prepared.image > 0
                assert (true & found).sum() / (true | found).sum() > 0.8


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 30), np.uint8),
        np.full((40, 30), 255, np.uint8),
        np.full((1, 1), 7, np.uint8),
        np.full((300, 3), 1000, np.uint16),
        np.random.default_rng(0).integers(0, 256, (200, 150), dtype=np.uint8),
    ],
    ids=["black", "white", "pixel", "strip", "noise"],
)
def test_pipelines_let_odd_pictures_pass(path: Path, image: np.ndarray) -> None:
    for prepared in Pipeline.load(path).prepare(image):
        assert prepared.image.size > 0
        assert prepared.image.dtype == image.dtype
