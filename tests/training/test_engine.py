"""anomalib's engine with models of this project: one tiny training, and what follows it."""

from __future__ import annotations

import logging
import pickle
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from anomalib.data import Folder, PredictDataset
from anomalib.engine import Engine
from anomalib.models import AnomalibModule, get_model
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from torch.utils.data import DataLoader

import anomalib_xray.models
from anomalib_xray.data import Mura, Phantom, RadiographFolder
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.plugins import setting_names
from anomalib_xray.training.engine import READ_OUT_SETTINGS, TRAINING_SETTINGS

PATIENTS = 12


@dataclass(frozen=True)
class Trained:
    """A training and what it left."""

    results: Path
    phantoms: Path

    @property
    def runs(self) -> Path:
        return self.results / "Cae" / "XR_HAND"

    @property
    def checkpoint(self) -> Path:
        return self.runs / "latest" / "weights" / "lightning" / "model.ckpt"

    def data(self) -> Phantom:
        return Phantom(self.phantoms, patients=PATIENTS, num_workers=0)


def engine(results: Path, **settings: Any) -> Engine:
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    return Engine(default_root_dir=results, **quiet, **settings)


def cae(image_size: int = 64, **settings: Any) -> AnomalibModule:
    return get_model(
        "cae", **{"image_size": image_size, "width": 4, "latent_channels": 4, "visualizer": False, **settings}
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    root = tmp_path_factory.mktemp("trained")
    run = Trained(root / "results", root / "hands")
    engine(run.results, max_epochs=1).train(cae(), datamodule=run.data())
    return run


def scores_of(folder: Path, name: str = "predictions.csv", column: str = "mse") -> dict[str, float]:
    table = pd.read_csv(folder / name)
    return {Path(path).name: score for path, score in zip(table["image_path"], table[column], strict=True)}


def expected_mse(trained: Trained, file: Path) -> float:
    """The score of one file by the torch module alone, from what our reader reads."""
    model: Any = type(cae()).load_from_checkpoint(trained.checkpoint, map_location="cpu").eval()
    unit = torch.from_numpy(to_unit_interval(read_radiograph(file))).expand(1, 3, -1, -1)
    with torch.no_grad():
        return float(model.model(model.pre_processor(unit)).scores["mse"])


# records


def test_a_test_keeps_what_the_training_wrote_and_has_a_version_of_its_own(trained: Trained) -> None:
    before = (trained.runs / "v0" / "scores.csv").read_bytes()
    versions = set(trained.runs.iterdir())
    # A setting that only a training needs may differ.
    engine(trained.results).test(cae(learning_rate=0.5), datamodule=trained.data(), ckpt_path=trained.checkpoint)
    (made,) = set(trained.runs.iterdir()) - versions
    assert made.name == f"v{len(versions) - 1}"  # "latest" is one of them
    assert (trained.runs / "v0" / "scores.csv").read_bytes() == before
    assert (trained.runs / "latest").resolve().name == "v0"
    table, other = (pd.read_csv(folder / "scores.csv") for folder in (made, trained.runs / "v0"))
    pd.testing.assert_frame_equal(table, other, rtol=1e-5)


def test_a_validation_has_a_version_of_its_own(trained: Trained) -> None:
    before = (trained.runs / "v0" / "val_scores.csv").read_bytes()
    versions = set(trained.runs.iterdir())
    engine(trained.results).validate(cae(), datamodule=trained.data(), ckpt_path=trained.checkpoint)
    (made,) = set(trained.runs.iterdir()) - versions
    assert (made / "val_scores.csv").is_file()
    assert not (trained.results / "val_scores.csv").exists()
    assert (trained.runs / "v0" / "val_scores.csv").read_bytes() == before


# checkpoints


@pytest.mark.parametrize("verb", ["test", "predict", "validate", "fit"])
def test_settings_that_contradict_the_checkpoint_are_named(trained: Trained, verb: str) -> None:
    versions = set(trained.runs.iterdir())
    with pytest.raises(XrayError) as caught:
        getattr(engine(trained.results), verb)(
            cae(128, width=8, score="l1"), datamodule=trained.data(), ckpt_path=trained.checkpoint
        )
    message = str(caught.value)
    assert "image_size 64, not 128" in message
    command = shlex.split(message[message.index("--model.") :])
    assert sorted(command) == ["--model.image_size=64", '--model.score="mse_top_k"', "--model.width=4"]
    assert "\n" not in message
    assert set(trained.runs.iterdir()) == versions


def test_another_read_out_leaves_the_thresholds_out_and_says_so(
    trained: Trained, caplog: pytest.LogCaptureFixture
) -> None:
    versions = set(trained.runs.iterdir())
    with caplog.at_level(logging.WARNING):
        engine(trained.results).test(cae(score="l1"), datamodule=trained.data(), ckpt_path=trained.checkpoint)
    assert "another read-out (score 'mse_top_k', not 'l1')" in caplog.text
    (made,) = set(trained.runs.iterdir()) - versions
    table = pd.read_csv(made / "scores.csv")
    assert table["pred_label"].isna().all()
    assert table["pred_score"].tolist() == pytest.approx(table["l1"].tolist())
    assert pd.read_csv(trained.runs / "v0" / "scores.csv")["pred_label"].notna().all()


def test_an_export_says_that_the_checkpoints_settings_stand(
    trained: Trained, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        engine(trained.results).export(cae(128), "torch", tmp_path, ckpt_path=trained.checkpoint)
    assert "is exported with its own settings: image_size 64, not 128." in caplog.text
    exported = torch.load(tmp_path / "weights" / "torch" / "model.pt", weights_only=False)["model"]
    assert exported.hparams["image_size"] == 64


@pytest.mark.parametrize("kind", ["missing", "text", "weights", "other model"])
def test_a_checkpoint_that_is_none_or_of_another_model_is_one_sentence(
    trained: Trained, tmp_path: Path, kind: str
) -> None:
    path, model, expected = tmp_path / "some.ckpt", cae(), "no checkpoint of a model"
    if kind == "missing":
        expected = "is no file"
    elif kind == "text":
        path.write_text("nothing")
    elif kind == "weights":
        torch.save({"state_dict": {}}, path)
    else:
        path, model, expected = trained.checkpoint, get_model("nmf", image_size=64), "of the model Cae.* describes Nmf"
    with pytest.raises(XrayError, match=expected) as caught:
        engine(trained.results).test(model, datamodule=trained.data(), ckpt_path=path)
    assert "\n" not in str(caught.value)


def test_settings_that_may_differ_are_settings_of_models() -> None:
    models = [getattr(anomalib_xray.models, name) for name in anomalib_xray.models.__all__]
    settings = set().union(*map(setting_names, models))
    assert settings >= TRAINING_SETTINGS
    assert settings >= READ_OUT_SETTINGS
    assert not TRAINING_SETTINGS & READ_OUT_SETTINGS


# data


@pytest.mark.parametrize("verb", ["fit", "train", "validate", "test"])
def test_without_data_there_is_one_sentence(tmp_path: Path, verb: str) -> None:
    with pytest.raises(XrayError, match=f"^Cae has no data to {verb} on.*configs/data/phantom.yaml") as caught:
        getattr(engine(tmp_path), verb)(cae())
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_missing_data_leave_no_folder_behind(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"^MURA v1\.1 is not at"):
        engine(tmp_path / "results").train(cae(), datamodule=Mura(tmp_path / "nowhere"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["validate", "test", "predict", "export"])
def test_the_command_without_a_checkpoint_is_refused(
    trained: Trained, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/anomalib", verb])
    more = {"export_type": "onnx"} if verb == "export" else {"datamodule": trained.data()}
    with pytest.raises(XrayError, match=f"^anomalib {verb} has no checkpoint"):
        getattr(engine(trained.results), verb)(cae(), **more)


def test_an_unknown_kind_of_export_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"export_type is 'onix'; choose one of .*onnx"):
        engine(tmp_path).export(cae(), "onix")


def test_models_of_others_are_treated_as_before(tmp_path: Path) -> None:
    model = get_model("padim", backbone="resnet18", layers=["layer1"], pre_trained=False, n_features=9)
    with pytest.raises(FileNotFoundError):
        engine(tmp_path).predict(model, data_path=tmp_path / "nowhere")


# pictures


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same film in 8 and 16 bits and as DICOM, one of them in a folder of its own."""
    root = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[:96, :80]
    film = np.where((x - 40) ** 2 + (y - 48) ** 2 < 600, 3000 + 8 * y, 0).astype(np.uint16)
    (root / "below").mkdir()
    cv2.imwrite(str(root / "eight.png"), np.rint(film * (255 / film.max())).astype(np.uint8))
    cv2.imwrite(str(root / "below" / "sixteen.png"), film)
    dicom = Dataset()
    dicom.file_meta = FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dicom.file_meta.MediaStorageSOPClassUID = dicom.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dicom.file_meta.MediaStorageSOPInstanceUID = dicom.SOPInstanceUID = generate_uid()
    dicom.Rows, dicom.Columns = film.shape
    dicom.SamplesPerPixel, dicom.PhotometricInterpretation, dicom.PixelRepresentation = 1, "MONOCHROME2", 0
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit = 16, 12, 11
    dicom.PixelData = film.tobytes()
    dicom.save_as(root / "twelve.dcm", enforce_file_format=True)
    return root


ROUTES = {
    "path": lambda folder: {"data_path": folder},
    "data set": lambda folder: {"dataset": RadiographFolder(folder)},
    "loader": lambda folder: {
        "dataloaders": DataLoader(RadiographFolder(folder), collate_fn=RadiographFolder.collate_fn.fget(None))
    },
}


@pytest.mark.parametrize("route", ROUTES)
def test_every_route_gives_a_file_the_same_score(trained: Trained, pictures: Path, tmp_path: Path, route: str) -> None:
    engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, **ROUTES[route](pictures))
    found = scores_of(tmp_path / "Cae" / "v0")
    expected = {file.name: expected_mse(trained, file) for file in pictures.rglob("*.*")}
    assert found == pytest.approx(expected, rel=1e-4)
    assert found["sixteen.png"] == pytest.approx(found["eight.png"], rel=0.01)
    assert found["twelve.dcm"] == pytest.approx(found["eight.png"], rel=0.01)


def test_a_single_file_has_its_score(trained: Trained, pictures: Path, tmp_path: Path) -> None:
    engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, data_path=pictures / "twelve.dcm")
    assert list(scores_of(tmp_path / "Cae" / "v0")) == ["twelve.dcm"]


def test_a_data_set_of_anomalibs_reads_as_ours(trained: Trained, pictures: Path, tmp_path: Path) -> None:
    file = pictures / "below" / "sixteen.png"
    engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, dataset=PredictDataset(file))
    assert scores_of(tmp_path / "Cae" / "v0")["sixteen.png"] == pytest.approx(expected_mse(trained, file), rel=1e-4)
    with pytest.raises(XrayError, match=r"leaves out 1 radiographs, the first is .*twelve\.dcm"):
        engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, dataset=PredictDataset(pictures))


def test_a_folder_of_anomalibs_reads_as_ours_in_batches_of_mixed_sizes(trained: Trained, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, sizes in {"good": [(60, 40), (50, 90)], "bad": [(70, 30), (40, 40)]}.items():
        (tmp_path / kind).mkdir()
        for number, size in enumerate(sizes):
            picture = rng.integers(100, 3000, size).astype(np.uint16)
            cv2.imwrite(str(tmp_path / kind / f"{kind}{number}.png"), picture)
    data = Folder(
        "own", root=tmp_path, normal_dir="good", abnormal_dir="bad", normal_test_dir="good",
        val_split_mode="same_as_test", test_split_mode="from_dir", num_workers=0, train_batch_size=2, eval_batch_size=4,
    )  # fmt: skip
    engine(tmp_path).test(cae(), datamodule=data, ckpt_path=trained.checkpoint)
    found = scores_of(tmp_path / "Cae" / "own" / "v0", "scores.csv")
    expected = {file.name: expected_mse(trained, file) for file in tmp_path.rglob("*.png")}
    assert found == pytest.approx(expected, rel=1e-4)
    # A reading process that is not forked gets the data set by its pickle.
    item = pickle.loads(pickle.dumps(data.test_data))[0]
    torch.testing.assert_close(item.image, data.test_data[0].image)
    assert item.image.max() < 1.01
    assert item.image.mean() < 0.9  # white by anomalib's reader


def test_what_cannot_be_read_is_counted_and_ends_nothing(
    trained: Trained, pictures: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes((pictures / "eight.png").read_bytes()[:99])
    (folder / "b.png").write_bytes((pictures / "eight.png").read_bytes())
    with caplog.at_level(logging.WARNING):
        engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, data_path=folder)
    assert list(scores_of(tmp_path / "Cae" / "v0")) == ["b.png"]
    failed = pd.read_csv(tmp_path / "Cae" / "v0" / "failed.csv")
    assert failed["image_path"].tolist() == [str(folder / "a.png")]
    assert "damaged" in failed["error"][0]
    assert "1 files could not be read" in caplog.text
    (folder / "b.png").unlink()
    with pytest.raises(XrayError, match="None of 1 files can be read"):
        engine(tmp_path).predict(cae(), ckpt_path=trained.checkpoint, data_path=folder)


@pytest.mark.parametrize(("make", "expected"), [(True, "holds no PNG"), (False, "does not exist")])
def test_an_empty_or_missing_folder_is_one_sentence(tmp_path: Path, make: bool, expected: str) -> None:
    if make:
        (tmp_path / "folder").mkdir()
    with pytest.raises(XrayError, match=expected):
        engine(tmp_path).predict(cae(), data_path=tmp_path / "folder")
