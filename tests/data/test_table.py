from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.data.table import (
    COLUMNS,
    check_samples,
    has_masks,
    label_index,
    samples_table,
    split_by_recipe,
    train_on_normal,
)
from anomalib_xray.errors import XrayError


@pytest.fixture
def samples(tmp_path: Path) -> pd.DataFrame:
    """Two normal training images; a normal and an abnormal one each for val and test."""
    rows = [("a", 0, "train"), ("b", 0, "train"), ("c", 0, "val"), ("d", 1, "val"), ("e", 0, "test"), ("f", 1, "test")]
    for patient, _, _ in rows:
        (tmp_path / f"{patient}.png").touch()
    images = pd.DataFrame(rows, columns=["patient", "label_index", "split"])
    images["image_path"] = [str(tmp_path / f"{patient}.png") for patient in images["patient"]]
    return samples_table(images.assign(study=images["patient"]))


@pytest.mark.parametrize(
    ("written", "index"),
    [
        *((value, 0) for value in ("0", "normal", "Negative", "0.0", "False")),
        *((value, 1) for value in ("1", "ABNORMAL", " positive ", "1.0", "True")),
        *((value, -1) for value in ("", "unknown", "-1.0", "nan")),
    ],
)
def test_labels_as_people_write_them(written: str, index: int) -> None:
    assert label_index(written, "somewhere") == index


def test_unknown_label_value_names_place_and_value() -> None:
    with pytest.raises(XrayError, match=r"line 7 of t\.csv has the label 'fracture'"):
        label_index("fracture", "line 7 of t.csv")


def test_table_has_all_columns_sorted_by_path() -> None:
    images = pd.DataFrame(
        {
            "image_path": ["/b", "/a", "/c"],
            "patient": ["1", "2", "3"],
            "study": ["1", "2", "3"],
            "label_index": [1, 0, -1],
        }
    )
    table = samples_table(images)
    assert list(table.columns) == COLUMNS
    assert list(table["image_path"]) == ["/a", "/b", "/c"]
    assert list(table["source"]) == ["/a", "/b", "/c"]
    assert list(table["label"]) == ["normal", "abnormal", "unknown"]
    assert not has_masks(table)


def test_recipe_keeps_the_images_of_a_patient_together_and_unlabelled_patients_train() -> None:
    patients = [name for name in "abcdefgh" for _ in range(2)]
    labels = [0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, -1]  # a, b, c abnormal; d to g normal; h not fully labelled
    images = pd.DataFrame(
        {"image_path": [f"/{i:02}" for i in range(16)], "patient": patients, "study": patients, "label_index": labels}
    )
    table = split_by_recipe(samples_table(images), seed=42)
    split_of = table.groupby("patient")["split"].unique()
    assert all(len(splits) == 1 for splits in split_of)
    assert split_of["h"][0] == "train"
    assert "train" not in {split_of[patient][0] for patient in "abc"}


def test_only_normal_images_train_and_the_rest_is_counted(
    samples: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = samples.assign(label_index=[1, 0, 0, 1, 0, 1])
    with caplog.at_level(logging.INFO):
        kept = train_on_normal(mixed)
    assert list(kept["patient"]) == list("bcdef")
    assert "1 images that are not labelled normal" in caplog.text


def test_good_table_passes(samples: pd.DataFrame) -> None:
    check_samples(samples, "set")


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("split", 1, "training", "the split 'training'"),
        ("patient", 1, "d", "patient d is in train and val"),
        ("label_index", 2, -1, "1 images of unknown label in val or test, the first is .*c.png"),
        ("image_path", 1, "/nowhere/g.png", "1 files that do not exist, the first is /nowhere/g.png"),
        ("mask_path", 3, "/nowhere/d.png", "1 of 2 abnormal images have none, the first is .*f.png"),
    ],
)
def test_bad_table_is_refused_with_the_row(
    samples: pd.DataFrame, column: str, row: int, value: object, message: str
) -> None:
    samples.loc[row, column] = value
    with pytest.raises(XrayError, match=message):
        check_samples(samples, "set")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_empty_split_is_named(samples: pd.DataFrame, split: str) -> None:
    with pytest.raises(XrayError, match=f"no image for the split {split}"):
        check_samples(samples[samples["split"] != split], "set")


def test_image_listed_twice_is_named(samples: pd.DataFrame) -> None:
    with pytest.raises(XrayError, match=r"lists .*a\.png twice"):
        check_samples(pd.concat([samples, samples[:1]]), "set")


def test_missing_mask_file_is_named(samples: pd.DataFrame) -> None:
    masked = samples.assign(mask_path=["", "", "", "/nowhere/d.png", "", "/nowhere/f.png"])
    assert has_masks(masked)
    with pytest.raises(XrayError, match=r"2 files that do not exist, the first is /nowhere/d\.png"):
        check_samples(masked, "set")


def test_an_original_shows_its_anomaly_on_one_of_its_pictures_or_is_named(
    samples: pd.DataFrame, tmp_path: Path
) -> None:
    other_hand = samples.iloc[[5]].assign(image_path=str(tmp_path / "g.png"))
    (tmp_path / "g.png").touch()
    mask = str(tmp_path / "a.png")
    crops = pd.concat([samples.assign(mask_path=["", "", "", mask, "", mask]), other_hand], ignore_index=True)
    check_samples(crops, "set")
    crops.loc[5, "mask_path"] = ""
    with pytest.raises(XrayError, match=r"1 of 2 abnormal images have none, the first is .*f\.png"):
        check_samples(crops, "set")
