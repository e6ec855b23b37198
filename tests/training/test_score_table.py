"""The metrics of a score table, from tables drawn at random."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from anomalib_xray.training.score_table import normal_means, score_metrics


@pytest.fixture
def table() -> pd.DataFrame:
    """60 images of 15 patients with 2 studies each; study names repeat between patients."""
    random = np.random.default_rng(0)
    patients = random.integers(0, 15, 60)
    studies = random.integers(1, 3, 60)
    abnormal = (patients + studies) % 3 == 0
    return pd.DataFrame(
        {
            "image_path": [f"{number}.png" for number in range(60)],
            "patient": [f"patient{number:02}" for number in patients],
            "study": [f"study{number}" for number in studies],
            "label": pd.array(abnormal.astype(int), dtype="Int64"),
            "pred_label": random.integers(0, 2, 60),
            "pred_score": random.normal(abnormal * 0.7, 1) * 1000,
            "mse": random.normal(abnormal * 0.3, 1),
        }
    )


def reference(table: pd.DataFrame, keys: list[str], score: str) -> tuple[float, float]:
    """AUROC and average precision of units, gathered row by row."""
    units: dict[tuple[str, ...], list[tuple[int, float]]] = {}
    for row in table.to_dict("records"):
        if not pd.isna(row["label"]):
            units.setdefault(tuple(row[key] for key in keys), []).append((row["label"], row[score]))
    labels = [int(any(label for label, _ in unit)) for unit in units.values()]
    scores = [float(np.mean([value for _, value in unit])) for unit in units.values()]
    return float(roc_auc_score(labels, scores)), float(average_precision_score(labels, scores))


def merged(table: pd.DataFrame) -> pd.DataFrame:
    """One row an original, gathered row by row: the highest of each score."""
    originals: dict[str, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        first = originals.setdefault(row["source_path"], dict(row))
        for score in ("pred_score", "mse"):
            first[score] = max(first[score], row[score])
    return pd.DataFrame(list(originals.values()))


@pytest.fixture
def crops(table: pd.DataFrame) -> pd.DataFrame:
    """The images of the table, of which every third was divided into two; the other crop has other scores."""
    random = np.random.default_rng(1)
    table = table.assign(source_path="raw/" + table["image_path"])
    second = table[::3].assign(image_path="second_" + table["image_path"][::3])
    for score in ("pred_score", "mse"):
        second[score] = table[score].std() * random.normal(size=len(second))
    return pd.concat([table, second]).sample(frac=1, random_state=0, ignore_index=True)


LEVELS = {"image": ["image_path"], "study": ["patient", "study"], "patient": ["patient"]}


def assert_equals_reference(metrics: dict[str, float], table: pd.DataFrame, levels: list[str]) -> None:
    expected = {}
    for level in levels:
        for score, suffix in (("pred_score", ""), ("mse", "_mse")):
            auroc, precision = reference(table, LEVELS[level], score)
            expected |= {f"{level}_AUROC{suffix}": auroc, f"{level}_AP{suffix}": precision}
    assert metrics == pytest.approx(expected)


def test_every_level_and_score_equals_sklearn(table: pd.DataFrame) -> None:
    assert_equals_reference(score_metrics(table), table, ["image", "study", "patient"])


def test_order_of_the_rows_does_not_matter(table: pd.DataFrame) -> None:
    assert score_metrics(table.sample(frac=1, random_state=0)) == pytest.approx(score_metrics(table))


def test_rows_without_label_are_left_out(table: pd.DataFrame) -> None:
    table.loc[::4, "label"] = pd.NA
    assert_equals_reference(score_metrics(table), table, ["image", "study", "patient"])


@pytest.mark.parametrize("missing", ["", None])
@pytest.mark.parametrize("rows", [slice(None), slice(0, 1)])
def test_without_patients_only_images_are_evaluated(table: pd.DataFrame, missing: str | None, rows: slice) -> None:
    table.loc[table.index[rows], ["patient", "study"]] = missing
    assert_equals_reference(score_metrics(table), table, ["image"])


def test_without_studies_images_and_patients_are_evaluated(table: pd.DataFrame) -> None:
    assert_equals_reference(score_metrics(table.assign(study="")), table, ["image", "patient"])


def test_crops_of_an_original_are_one_image_with_the_highest_score(crops: pd.DataFrame) -> None:
    metrics = score_metrics(crops)
    assert_equals_reference(metrics, merged(crops), ["image", "study", "patient"])
    apart = score_metrics(crops.drop(columns="source_path"))
    assert {name for name, value in metrics.items() if value != pytest.approx(apart[name])} == set(metrics)


def test_crops_without_label_are_left_out_before_merging(crops: pd.DataFrame) -> None:
    crops["label"] = crops["label"].mask(crops["patient"].isin(["patient03", "patient07"]))
    assert_equals_reference(score_metrics(crops), merged(crops[crops["label"].notna()]), ["image", "study", "patient"])


def test_images_that_are_their_own_originals_give_what_a_table_without_the_column_gives(table: pd.DataFrame) -> None:
    assert score_metrics(table.assign(source_path=table["image_path"])) == pytest.approx(score_metrics(table))


@pytest.mark.parametrize("missing", ["", None])
def test_an_image_without_a_known_original_stands_for_itself(crops: pd.DataFrame, missing: str | None) -> None:
    crops.loc[:9, "source_path"] = crops.loc[:9, "image_path"]
    expected = score_metrics(crops)
    crops.loc[:9, "source_path"] = missing
    assert score_metrics(crops) == pytest.approx(expected)


def test_a_crop_whose_score_is_not_a_number_is_not_hidden_by_the_other(crops: pd.DataFrame) -> None:
    twice = crops.index[crops["source_path"].duplicated(keep=False)]
    crops.loc[twice[0], "mse"] = math.nan
    assert math.isnan(score_metrics(crops)["image_AUROC_mse"])


@pytest.mark.parametrize("with_patients", [True, False])
def test_a_table_read_back_from_its_file_gives_the_same(table: pd.DataFrame, with_patients: bool) -> None:
    table.loc[::5, "label"] = pd.NA
    if not with_patients:
        table = table.assign(patient="", study="")
    read = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert score_metrics(read) == pytest.approx(score_metrics(table))


@pytest.mark.parametrize("label", [0, 1, None])
def test_one_class_alone_has_no_metrics(table: pd.DataFrame, label: int | None) -> None:
    assert score_metrics(table.assign(label=pd.array([label] * len(table), dtype="Int64"))) == {}


def test_a_level_with_one_class_is_left_out(table: pd.DataFrame) -> None:
    table = table.assign(patient="somebody", study=table["patient"] + table["study"])
    assert_equals_reference(score_metrics(table), table, ["image", "study"])


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_score_that_is_not_finite_has_no_metrics_and_spoils_no_other(table: pd.DataFrame, value: float) -> None:
    expected = score_metrics(table)
    table.loc[7, "mse"] = value
    metrics = score_metrics(table)
    for name, metric in metrics.items():
        assert math.isnan(metric) if name.endswith("_mse") else metric == expected[name]
    assert metrics.keys() == expected.keys()


def test_means_are_over_normal_images(table: pd.DataFrame) -> None:
    normal = [row for row in table.to_dict("records") if row["label"] == 0]
    assert normal_means(table) == {
        "normal_mean": pytest.approx(sum(row["pred_score"] for row in normal) / len(normal)),
        "normal_mean_mse": pytest.approx(sum(row["mse"] for row in normal) / len(normal)),
    }
    assert normal_means(table.assign(label=1)) == {}
    unlabelled = table.assign(label=pd.array([None] * len(table), dtype="Int64"))
    assert normal_means(unlabelled)["normal_mean_mse"] == pytest.approx(table["mse"].mean())
