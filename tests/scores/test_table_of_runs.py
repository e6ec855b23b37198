"""The score table that runs of anomalib leave behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, Padim, get_model
from lightning.pytorch import Trainer
from sklearn.metrics import average_precision_score, roc_auc_score
from torch.utils.data import DataLoader

import anomalib_xray.models  # noqa: F401  # makes the plugins known to anomalib
from anomalib_xray.data import Phantom
from anomalib_xray.scores import RECONSTRUCTION_SCORES
from anomalib_xray.training.post_processor import XrayPostProcessor
from anomalib_xray.training.score_table import ScoreTable, score_metrics

PATIENTS = 12
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "hands"
    Phantom(root, patients=PATIENTS).prepare_data()
    return root


def datamodule(root: Path, **arguments: Any) -> Phantom:
    return Phantom(root, patients=PATIENTS, num_workers=0, **arguments)


def tiny_cae(**arguments: Any) -> AnomalibModule:
    return get_model("cae", image_size=64, width=4, latent_channels=8, **arguments)


@dataclass
class Run:
    engine: Engine
    model: AnomalibModule
    data: Phantom
    metrics: dict[str, float]
    validation: dict[str, float]

    @property
    def folder(self) -> Path:
        return Path(self.engine.trainer.default_root_dir)

    def scores(self) -> pd.DataFrame:
        return pd.read_csv(self.folder / "scores.csv")


@pytest.fixture(scope="module")
def run(phantoms: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A CAE trained for one epoch, after the sanity check, and tested."""
    model = tiny_cae(post_processor=XrayPostProcessor(image_quantile=0.6, image_sensitivity=0.55))
    data = datamodule(phantoms)
    engine = Engine(default_root_dir=tmp_path_factory.mktemp("run"), max_epochs=1, num_sanity_val_steps=1, **QUIET)
    engine.fit(model, datamodule=data)
    validation = {name: float(value) for name, value in engine.trainer.callback_metrics.items()}
    metrics = dict(engine.test(model, datamodule=data)[0])
    return Run(engine, model, data, metrics, validation)


@torch.no_grad()
def raw_scores(model: AnomalibModule, images: Iterator[torch.Tensor]) -> list[dict[str, float]]:
    """Scores each image on its own, past anomalib's steps and callbacks."""
    model.eval()
    outputs = [model.model(model.pre_processor(image.as_subclass(torch.Tensor)[None])) for image in images]
    return [{name: float(score) for name, score in output.scores.items()} for output in outputs]


def test_scores_csv_has_a_row_an_image_with_its_identity(run: Run) -> None:
    scores, samples = run.scores(), run.data.test_data.samples.sort_values("image_path")
    assert scores.columns.tolist() == [
        "image_path",
        "source_path",
        "patient",
        "study",
        "label",
        "pred_label",
        "pred_score",
        *RECONSTRUCTION_SCORES,
    ]
    assert scores["image_path"].tolist() == samples["image_path"].tolist()
    assert scores["source_path"].tolist() == samples["source"].tolist()
    assert scores["patient"].tolist() == samples["patient"].tolist()
    assert scores["study"].tolist() == samples["study"].tolist()
    assert scores["label"].tolist() == samples["label_index"].tolist()


def test_scores_are_raw_ones(run: Run) -> None:
    scores = run.scores()
    images = {item.image_path: item.image for item in run.data.test_data}
    expected = pd.DataFrame(raw_scores(run.model, (images[path] for path in scores["image_path"])))
    for name in RECONSTRUCTION_SCORES:
        np.testing.assert_allclose(scores[name], expected[name], rtol=1e-4)
    assert scores["pred_score"].equals(scores["mse_top_k"])


def test_decisions_are_those_that_the_pictures_and_the_f1_score_show(run: Run) -> None:
    scores = run.scores()
    predictions = run.engine.predict(run.model, datamodule=run.data)
    decisions = {
        path: int(label)
        for batch in predictions
        for path, label in zip(batch.image_path, batch.pred_label, strict=True)
    }
    assert len(set(scores["pred_label"])) == 2
    assert scores["pred_label"].tolist() == [decisions[path] for path in scores["image_path"]]


def test_logged_metrics_equal_sklearn_on_the_file(run: Run) -> None:
    scores = run.scores()
    for level, keys in {"image": ["image_path"], "study": ["patient", "study"], "patient": ["patient"]}.items():
        for score in ("pred_score", *RECONSTRUCTION_SCORES):
            units = scores.groupby(keys).agg({"label": "max", score: "mean"})
            suffix = "" if score == "pred_score" else f"_{score}"
            auroc = roc_auc_score(units["label"], units[score])
            precision = average_precision_score(units["label"], units[score])
            assert run.metrics[f"{level}_AUROC{suffix}"] == pytest.approx(auroc, abs=1e-6)
            assert run.metrics[f"{level}_AP{suffix}"] == pytest.approx(precision, abs=1e-6)


def test_validation_logs_the_same_metrics_with_a_prefix(run: Run) -> None:
    means = {"normal_mean", *(f"normal_mean_{score}" for score in RECONSTRUCTION_SCORES)}
    expected = {f"val_{name}" for name in {*score_metrics(run.scores()), *means}}
    assert {name for name in run.validation if name.startswith("val_")} == expected
    assert not any("normal_mean" in name for name in run.metrics)
    # The table is written again by what runs after the training, with the same weights.
    validated = pd.read_csv(run.folder / "val_scores.csv")
    normal = validated[validated["label"] == 0]
    assert 0 < len(normal) < len(validated)
    assert run.validation["val_normal_mean_mse"] == pytest.approx(normal["mse"].mean(), rel=1e-4)
    assert run.validation["val_normal_mean"] == pytest.approx(normal["pred_score"].mean(), rel=1e-4)


def test_a_second_run_replaces_the_table(run: Run) -> None:
    before = run.scores()
    run.engine.test(run.model, datamodule=run.data)
    pd.testing.assert_frame_equal(run.scores(), before)


def test_a_score_table_among_the_users_callbacks_too_changes_nothing(run: Run, tmp_path: Path) -> None:
    trainer = Trainer(default_root_dir=tmp_path, callbacks=[ScoreTable()], **QUIET)
    metrics = trainer.test(run.model, run.data, verbose=False)[0]
    assert metrics["image_AUROC"] == pytest.approx(run.metrics["image_AUROC"])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "scores.csv"), run.scores())


def test_prediction_of_a_folder_writes_predictions(run: Run, tmp_path: Path) -> None:
    scores = run.scores()
    folder = tmp_path / "new"
    for number, path in enumerate(scores["image_path"][:3]):
        (folder / f"patient{number}").mkdir(parents=True)
        cv2.imwrite(str(folder / f"patient{number}" / "image1.png"), cv2.imread(path))
    run.engine.predict(run.model, data_path=folder)
    predictions = pd.read_csv(run.folder / "predictions.csv")
    assert predictions.columns.tolist() == scores.columns.tolist()
    assert predictions["image_path"].tolist() == [str(folder / f"patient{n}" / "image1.png") for n in range(3)]
    assert predictions["source_path"].tolist() == predictions["image_path"].tolist()
    assert predictions[["patient", "study", "label"]].isna().all(axis=None)
    for name in ("pred_label", "pred_score", *RECONSTRUCTION_SCORES):
        np.testing.assert_allclose(predictions[name], scores[name][:3], rtol=1e-4)
    pictures = {path.relative_to(run.folder / "images") for path in (run.folder / "images").glob("patient?/*.png")}
    assert pictures == {Path(f"patient{number}/image1.png") for number in range(3)}


def test_pictures_of_a_test_keep_the_folders_of_the_data_set(run: Run, phantoms: Path) -> None:
    expected = [Path(path).relative_to(phantoms) for path in run.scores()["image_path"]]
    assert [path for path in expected if not (run.folder / "images" / path).is_file()] == []


def test_without_a_validation_set_there_is_no_decision(run: Run, tmp_path: Path) -> None:
    model = tiny_cae(visualizer=False, evaluator=False)
    loader = DataLoader(run.data.test_data, batch_size=4, collate_fn=run.data.test_data.collate_fn)
    Trainer(default_root_dir=tmp_path, **QUIET).test(model, loader, verbose=False)
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["pred_label"].isna().all()
    assert scores["pred_score"].notna().all()
    assert scores["patient"].notna().all()


def test_training_without_validation_batches_logs_no_score(phantoms: Path, tmp_path: Path) -> None:
    trainer = Trainer(
        default_root_dir=tmp_path,
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=0,
        enable_checkpointing=False,
        **QUIET,
    )
    trainer.fit(tiny_cae(), datamodule(phantoms))
    assert [name for name in trainer.callback_metrics if name.startswith("val_")] == []


def test_limited_validation_is_evaluated_on_the_images_that_were_seen(phantoms: Path, tmp_path: Path) -> None:
    data, model = datamodule(phantoms, eval_batch_size=1), tiny_cae()
    trainer = Trainer(default_root_dir=tmp_path, limit_val_batches=1, **QUIET)
    # One image has one class, and one class has no AUROC.
    assert "val_image_AUROC" not in trainer.validate(model, data, verbose=False)[0]
    assert len(pd.read_csv(tmp_path / "val_scores.csv")) == 1
    assert not (tmp_path / "scores.csv").exists()


def test_the_last_validation_leaves_its_own_table(run: Run) -> None:
    validated, samples = pd.read_csv(run.folder / "val_scores.csv"), run.data.val_data.samples.sort_values("image_path")
    assert validated.columns.tolist() == run.scores().columns.tolist()
    assert validated["image_path"].tolist() == samples["image_path"].tolist()
    assert validated["label"].tolist() == samples["label_index"].tolist()
    images = {item.image_path: item.image for item in run.data.val_data}
    expected = pd.DataFrame(raw_scores(run.model, (images[path] for path in validated["image_path"])))
    np.testing.assert_allclose(validated["mse"], expected["mse"], rtol=1e-4)


def test_the_sanity_check_leaves_nothing(tmp_path: Path) -> None:
    table = ScoreTable()
    batch = ImageBatch(
        image=torch.rand(2, 3, 8, 8),
        image_path=["a.png", "b.png"],
        gt_label=torch.tensor([0, 1]),
        pred_score=torch.tensor([0.1, 0.2]),
    )
    logged: dict[str, float] = {}
    module: Any = SimpleNamespace(log_dict=logged.update)
    for sanity_checking in (True, False):
        trainer: Any = SimpleNamespace(sanity_checking=sanity_checking, val_dataloaders=None, default_root_dir=tmp_path)
        table.on_validation_epoch_start(trainer, module)
        table.on_validation_batch_end(trainer, module, batch, batch, 0)
        table.on_validation_epoch_end(trainer, module)
        assert bool(logged) != sanity_checking
        assert (tmp_path / "val_scores.csv").exists() != sanity_checking
    assert logged == {"val_image_AUROC": 1.0, "val_image_AP": 1.0, "val_normal_mean": pytest.approx(0.1)}


def test_a_model_of_anomalib_gets_a_table_through_the_callbacks(phantoms: Path, tmp_path: Path) -> None:
    model = Padim(
        backbone="resnet18",
        layers=["layer1"],
        pre_trained=False,
        n_features=8,
        pre_processor=Padim.configure_pre_processor((32, 32)),
        visualizer=False,
    )
    data = datamodule(phantoms, image_size=32)
    engine = Engine(default_root_dir=tmp_path, callbacks=[ScoreTable()], max_epochs=1, **QUIET)
    engine.fit(model, datamodule=data)
    metrics = engine.test(model, datamodule=data)[0]
    scores = pd.read_csv(Path(engine.trainer.default_root_dir) / "scores.csv")
    assert scores.columns[-1] == "pred_score"
    assert len(scores) == len(data.test_data)
    assert scores["patient"].notna().all()
    with torch.no_grad():
        item = data.test_data[0]
        raw = model.eval().model(model.pre_processor(item.image.as_subclass(torch.Tensor)[None])).pred_score
    assert float(scores.set_index("image_path")["pred_score"][item.image_path]) == pytest.approx(float(raw), rel=1e-3)
    # The evaluator of anomalib's models logs its own image_AUROC, of normalised scores.
    assert metrics["image_AUROC_raw"] == pytest.approx(score_metrics(scores)["image_AUROC"], abs=1e-6)
    assert metrics["image_AUROC"] != metrics["image_AUROC_raw"]
    assert metrics["patient_AUROC"] == pytest.approx(score_metrics(scores)["patient_AUROC"], abs=1e-6)


@pytest.fixture
def two_hands(phantoms: Path, tmp_path: Path) -> Path:
    """The phantoms as a preparation leaves them that found a second hand, the mirrored one, in every other picture."""
    rows = []
    for number, sample in enumerate(datamodule(phantoms).samples.itertuples()):
        source = Path(sample.image_path).relative_to(phantoms)
        for part in range(1, 2 + number % 2):
            image = source.with_name(f"{source.stem}_part{part}.png")
            mask = Path("masks") / image if sample.mask_path else None
            for original, file in ((sample.image_path, image), (sample.mask_path, mask)):
                if file is not None:
                    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
                    picture = cv2.imread(original, cv2.IMREAD_GRAYSCALE)
                    cv2.imwrite(str(tmp_path / file), picture if part == 1 else cv2.flip(picture, 1))
            rows.append({"source_path": source.as_posix(), "image_path": image.as_posix(), "mask_path": mask or ""})
    pd.DataFrame(rows).assign(flags="", error="").to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def test_hands_of_one_picture_are_merged_in_the_metrics_and_apart_in_the_table(
    phantoms: Path, two_hands: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("two_hands")
    data = datamodule(phantoms, prepared_root=two_hands)
    metrics = Trainer(default_root_dir=folder, **QUIET).test(tiny_cae(visualizer=False), data, verbose=False)[0]
    scores = pd.read_csv(folder / "scores.csv")
    raw = datamodule(phantoms).samples
    assert len(scores) > scores["source_path"].nunique()
    assert set(scores["source_path"]) == set(raw.loc[raw["split"] == "test", "image_path"])
    for score in ("pred_score", *RECONSTRUCTION_SCORES):
        suffix = "" if score == "pred_score" else f"_{score}"
        images = scores.groupby("source_path").agg(label=("label", "first"), score=(score, "max"))
        images["patient"] = scores.groupby("source_path")["patient"].first()
        patients = images.groupby("patient").agg(label=("label", "max"), score=("score", "mean"))
        for level, units in (("image", images), ("patient", patients)):
            auroc = roc_auc_score(units["label"], units["score"])
            assert metrics[f"{level}_AUROC{suffix}"] == pytest.approx(auroc, abs=1e-6)
