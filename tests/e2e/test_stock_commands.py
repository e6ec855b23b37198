"""The main job through the real commands, on phantoms, with the project's own configurations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from anomalib_xray.io.read import read_radiograph
from anomalib_xray.phantom import write_phantoms

CONFIGS = Path(__file__).parents[2] / "configs"

Run = Callable[..., str]

SMALL = """\
default_root_dir: results
model: {init_args: {image_size: 64, width: 8, references: 1024}}
data: {init_args: {num_workers: 0}}
trainer: {accelerator: cpu, max_epochs: 1, enable_progress_bar: false}
"""


@pytest.mark.slow
def test_train_test_predict_export_and_score_without_torch(tmp_path: Path, run: Run) -> None:
    """The α-GAN on a tree that lies where its own configuration looks for MURA."""
    radiographs = tmp_path / "datasets" / "MURA-v1.1"
    write_phantoms(radiographs, patients=24, seed=42, prepared=True, positive_share=0.4)
    (tmp_path / "small.yaml").write_text(SMALL)
    options: list[str | Path] = ["--config", CONFIGS / "alphagan.yaml", "--config", "small.yaml"]
    run(tmp_path, ["anomalib", "train", *options])
    (latest,) = (tmp_path / "results").glob("*/XR_HAND/latest")
    checkpoint = latest / "weights" / "lightning" / "model.ckpt"

    trained = pd.read_csv(latest / "scores.csv")
    kept = {name: (latest / name).read_bytes() for name in ("config.yaml", "scores.csv")}
    run(tmp_path, ["anomalib", "test", *options, "--ckpt_path", checkpoint])
    tested = pd.read_csv(latest.parent / "v1" / "scores.csv")
    pd.testing.assert_frame_equal(tested, trained, rtol=1e-4)
    assert {name: (latest / name).read_bytes() for name in kept} == kept
    assert 0 <= roc_auc_score(tested["label"], tested["mse_top_k"]) <= 1
    assert len(list((latest / "images").rglob("*.png"))) == len(tested)

    folder = radiographs / "valid"
    predict = ["--ckpt_path", checkpoint, "--data", folder, "--return_predictions", "false"]
    run(tmp_path, ["anomalib", "predict", *options, *predict])
    (predictions,) = (tmp_path / "results").rglob("predictions.csv")
    predicted = pd.read_csv(predictions).set_index("image_path")["pred_score"]

    export = ["--ckpt_path", checkpoint, "--export_type", "openvino", "--export_root", tmp_path / "exported"]
    run(tmp_path, ["anomalib", "export", *options, *export])
    bundle = tmp_path / "exported" / "weights" / "openvino"
    (parity,) = json.loads((bundle / "bundle.json").read_text())["precisions"]["fp32"]["parity"].values()
    assert parity["passed"], parity
    assert parity["images"] > 10

    printed = run(tmp_path, ["anomalib-xray", "predict", "--bundle", bundle, folder, "--out", "scored"])
    assert "Not a medical device" in printed
    scored = pd.read_csv(tmp_path / "scored" / "scores.csv").set_index("path")["score"]
    assert len(scored) == len(predicted)
    for path, score in scored.items():
        assert score == pytest.approx(predicted[str((tmp_path / str(path)).resolve())], rel=1e-3), path
    overlay = next((tmp_path / "scored").rglob("*_overlay.png"))
    assert np.ptp(read_radiograph(overlay)) > 0


@pytest.mark.slow
def test_without_mura_the_command_says_in_one_sentence_what_to_do(tmp_path: Path, run: Run) -> None:
    printed = run(tmp_path, ["anomalib", "train", "--config", CONFIGS / "alphagan.yaml"], status=2)
    assert "Traceback" not in printed
    sentence = printed.splitlines()[-1]
    assert sentence.startswith("error: MURA v1.1 is not at")
    phantoms = CONFIGS / "data" / "phantom.yaml"
    assert sentence.endswith(f": anomalib train --config {CONFIGS / 'alphagan.yaml'} --config {phantoms}")
