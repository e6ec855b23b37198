from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from anomalib_xray.bundling.pipeline_copy import copy_pipeline
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import render_phantom
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.segmentation.network import SHIPPED_MODEL


def test_a_model_of_a_step_comes_along_and_the_pixels_are_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "models").mkdir(parents=True)
    for ending in (".xml", ".bin"):
        shutil.copyfile(SHIPPED_MODEL.with_suffix(ending), (source / "models" / "mine").with_suffix(ending))
    (source / "pipeline.yaml").write_text(
        "steps:\n  - foreground: {method: network, model: models/mine.xml}\n  - resize: {longest_side: 128}\n"
    )
    pipeline = Pipeline.load(source / "pipeline.yaml")
    image = render_phantom(np.random.default_rng(1)).image
    expected = pipeline.prepare(image)[0].image

    path = copy_pipeline(pipeline, tmp_path / "bundle")
    shutil.rmtree(source)
    steps = yaml.safe_load(path.read_text())["steps"]
    assert steps[0]["foreground"]["model"] == "1_foreground/mine.xml"
    assert (tmp_path / "bundle" / "1_foreground" / "mine.bin").is_file()
    # Defaults stand there too, so that a later version prepares alike.
    assert {"method", "model_output"} <= steps[0]["foreground"].keys()
    np.testing.assert_array_equal(Pipeline.load(path).prepare(image)[0].image, expected)


def test_masks_of_known_images_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "masks" / "a.png", np.ones((4, 4), np.uint8))
    pipeline = Pipeline([{"foreground": {"method": "masks", "masks": str(tmp_path / "masks")}}])
    with pytest.raises(XrayError, match="belongs to known images"):
        copy_pipeline(pipeline, tmp_path / "bundle")
