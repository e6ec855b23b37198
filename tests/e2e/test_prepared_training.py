"""What the preparation wrote is what a training reads, with the commands of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.training.checkpoint import load_model

CONFIGS = Path(__file__).parents[2] / "configs"

PIPELINE = "steps: [inversion, {foreground: {method: flat}}, hands, {resize: {longest_side: 64}}]"
SMALL = """\
default_root_dir: results
model: {init_args: {image_size: 64, width: 8}}
data:
  init_args: {root: raw, prepared: false, prepared_root: prepared, patients: 12, positive_share: 0.4, num_workers: 0}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false}
"""


@pytest.mark.slow
def test_raw_films_are_prepared_and_trained_on(tmp_path: Path, run: Callable[..., str]) -> None:
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "small.yaml").write_text(SMALL)
    run(tmp_path, ["anomalib-xray", "phantom", "--out", "raw", "--patients", "12", "--prepared", "false"])
    prepare = ["prepare", "--config", "pipeline.yaml", "--root", "raw", "--out", "prepared"]
    run(tmp_path, ["anomalib-xray", *prepare, "--masks", "ground_truth/anomaly", "--workers", "1"])
    configs = [CONFIGS / "cae.yaml", CONFIGS / "data" / "phantom.yaml", "small.yaml"]
    run(tmp_path, ["anomalib", "train", *(part for config in configs for part in ("--config", config))])

    (table,) = (tmp_path / "results").glob("*/XR_HAND/latest/scores.csv")
    scores = pd.read_csv(table)
    assert len(scores) > scores["source_path"].nunique()  # a picture of two hands became two
    assert all(Path(path).is_relative_to(tmp_path / "prepared") for path in scores["image_path"])
    assert all(Path(path).is_relative_to(tmp_path / "raw") for path in scores["source_path"])
    assert (scores.groupby("source_path")["label"].nunique() == 1).all()
    assert len(list((table.parent / "images").rglob("*.png"))) == len(scores)

    # So that a bundle of it prepares radiographs in the same way.
    remembered = load_model(table.parent / "weights" / "lightning" / "model.ckpt").training_preparation
    assert remembered is not None
    assert [next(iter(step)) for step in remembered["pipeline"]["steps"]] == [
        "inversion",
        "foreground",
        "hands",
        "resize",
    ]
