"""A distribution of somebody else joins by its entry points alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png

DISTRIBUTION = Path(__file__).parents[1] / "third_party" / "anomalib-xray-example"

TRAIN = """\
model:
  class_path: anomalib_xray.models.MeanImage
data:
  class_path: anomalib_xray.data.Phantom
  init_args: {patients: 12, num_workers: 0}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false}
"""


@pytest.fixture(scope="module")
def example(install: Callable[[Path], Any]) -> Any:
    return install(DISTRIBUTION)


@pytest.mark.slow
def test_plugins_lists_what_works_and_why_the_rest_does_not(example: Any) -> None:
    printed = example.run(["anomalib-xray", "plugins"], status=1)
    lines = {line.split()[1]: line for line in printed.splitlines() if line.startswith(("│", "|"))}
    assert lines["MeanImage"].split()[-2] == "ok"
    assert "anomalib-xray-example 1.2.3" in lines["MeanImage"]
    assert "anomalib-xray-example 1.2.3" in lines["Broken"]
    assert "ModuleNotFoundError" in lines["Broken"]
    assert "a_package_that_is_not_installed" in printed
    for own in ("Cae", "AlphaGan"):
        assert lines[own].split()[-2] == "ok"


@pytest.mark.slow
def test_stock_command_trains_it(example: Any) -> None:
    (example.source / "train.yaml").write_text(TRAIN)
    printed = example.run(["anomalib", "train", "--config", "train.yaml"])
    assert "The model plugin Broken could not be loaded: ModuleNotFoundError" in printed
    run = example.source / "results" / "MeanImage" / "XR_HAND" / "latest"
    assert (run / "weights" / "lightning" / "model.ckpt").is_file()
    scores = pd.read_csv(run / "scores.csv")
    assert {"mse", "l1"} <= set(scores.columns)
    assert set(scores["label"]) == {0, 1}
    assert (scores["pred_score"] == scores["mse"]).all()
    assert scores["mse"].gt(0).all()


@pytest.mark.slow
def test_prepare_finds_its_step(example: Any) -> None:
    write_png(example.source / "raw" / "a.png", np.arange(1, 101, dtype=np.uint8).reshape(10, 10))
    (example.source / "gamma.yaml").write_text("steps:\n  - gamma: {middle: 0.2}\n")
    example.run(["anomalib-xray", "prepare", "--config", "gamma.yaml", "--root", "raw", "--out", "prepared"])
    assert read_radiograph(example.source / "prepared" / "a.png").mean() < 40  # it was 50.5


@pytest.mark.slow
def test_its_step_keeps_the_contract(example: Any) -> None:
    (example.source / "test_gamma.py").write_text(
        "from anomalib_xray.testing import StepContract\n"
        "from anomalib_xray_example.gamma import Gamma\n\n\n"
        "class TestGamma(StepContract):\n"
        "    step = Gamma\n"
    )
    assert " passed" in example.run(["pytest", "-q", "test_gamma.py"])
