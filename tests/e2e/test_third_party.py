"""A distribution of somebody else joins by its entry points alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

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
