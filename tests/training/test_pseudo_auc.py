"""AUCp against scikit-learn, and in a training whose data have a pool."""

from __future__ import annotations

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anomalib.engine import Engine
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader

from anomalib_xray.data import Radiographs
from anomalib_xray.data.dataset import RadiographDataset
from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.trial_task import train_and_validate
from anomalib_xray.io.write import write_png
from anomalib_xray.jobs import Task
from anomalib_xray.training.pseudo_auc import PseudoAuc, pseudo_auc
from anomalib_xray_plugins.nmf import Nmf

QUIET: dict[str, Any] = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0,
    "accelerator": "cpu", "max_epochs": 1,
}  # fmt: skip


def test_it_is_the_auroc_with_all_unlabelled_images_as_abnormal() -> None:
    random = np.random.default_rng(0)
    normal, unlabelled = random.integers(0, 9, 30), random.integers(2, 12, 20)  # with ties
    expected = roc_auc_score([0] * 30 + [1] * 20, [*normal, *unlabelled])
    assert pseudo_auc(normal, unlabelled) == pytest.approx(expected)
    assert np.isnan(pseudo_auc([0.0], [np.nan]))
    assert np.isnan(pseudo_auc([0.0], []))


def test_a_pool_that_is_partly_normal_keeps_the_ranking_of_models() -> None:
    random = np.random.default_rng(0)
    normal, abnormal = random.normal(0, 1, 200), random.normal(1, 1, 60)
    mixed = pseudo_auc(normal, [*abnormal, *normal])  # of which 60 in 260 are abnormal
    share = 60 / 260
    assert mixed == pytest.approx(share * pseudo_auc(normal, abnormal) + (1 - share) / 2)


def table(folder: Path, pool: bool) -> Radiographs:
    """Pictures of noise in all splits; nobody has labelled those of the pool."""
    random = np.random.default_rng(0)
    splits = {"train": ["normal"] * 4, "val": ["normal"] * 3 + ["abnormal"], "test": ["normal"]}
    rows = []
    for split, labels in (splits | {"pool": [""] * 4} if pool else splits).items():
        for number, label in enumerate(labels):
            write_png(folder / f"{split}{number}.png", random.integers(1, 255, (64, 64), dtype=np.uint8))
            rows.append({"image_path": f"{split}{number}.png", "label": label, "patient": split + str(number)})
            rows[-1]["split"] = split
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return Radiographs(folder / "table.csv", num_workers=0, eval_batch_size=3)


def test_a_checkpoint_can_monitor_it(tmp_path: Path) -> None:
    data = table(tmp_path, pool=True)
    best = ModelCheckpoint(tmp_path, "best", monitor="val_AUCp", mode="max", enable_version_counter=False)
    model = Nmf(image_size=64, resolution=16, components=2, augmentation=None)
    engine = Engine(default_root_dir=tmp_path, callbacks=[PseudoAuc(), best], **QUIET)
    engine.fit(model, datamodule=data)
    (written,) = tmp_path.rglob("val_scores.csv")
    validated = pd.read_csv(written)
    assert set(validated["label"]) == {0, 1}
    normal = validated.loc[validated["label"] == 0, "pred_score"]
    assert data.unlabelled_data is not None
    assert model.pre_processor
    pool = RadiographDataset(data.unlabelled_data.samples, "classification", model.pre_processor.geometry)
    scored = [
        float(model.model.eval()(model.pre_processor(batch.image)).pred_score)
        for batch in DataLoader(pool, collate_fn=pool.collate_fn)
    ]
    expected = roc_auc_score([0] * len(normal) + [1] * 4, [*normal, *scored])
    logged = engine.trainer.callback_metrics
    assert float(logged["val_AUCp"]) == pytest.approx(expected)
    named = {"mse", "mse_top_k"} & set(validated)
    assert named
    assert {f"val_AUCp_{score}" for score in named} <= set(logged)
    assert (tmp_path / "best.ckpt").is_file()


def test_a_trial_of_a_search_is_measured_by_it(tmp_path: Path) -> None:
    table(tmp_path, pool=True)
    model = {"image_size": 64, "resolution": 16, "components": 2, "augmentation": None, "score": "mse"}
    config = {
        "model": {"class_path": "anomalib_xray.models.Nmf", "init_args": model},
        "data": {
            "class_path": "anomalib_xray.data.Radiographs",
            "init_args": {"table": str(tmp_path / "table.csv"), "num_workers": 0},
        },
        "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    }
    objective = asdict(Objective("label-free", "AUCp", "mse"))
    arguments = {"config": config, "objective": objective, "seed": 42, "painted": str(tmp_path / "painted")}
    answers = io.StringIO()
    value = train_and_validate(Task(tmp_path, arguments, answers))["value"]
    (written,) = tmp_path.rglob("val_scores.csv")
    assert set(pd.read_csv(written)["label"]) == {0}
    assert 0 <= value <= 1
    assert json.loads(answers.getvalue()) == [0, value]


def test_data_without_a_pool_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    engine = Engine(default_root_dir=tmp_path, callbacks=[PseudoAuc()], **QUIET)
    with pytest.raises(XrayError, match="AUCp needs a pool of unlabelled images"):
        engine.fit(Nmf(image_size=64, resolution=16, components=2), datamodule=table(tmp_path, pool=False))
