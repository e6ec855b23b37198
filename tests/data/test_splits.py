from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.data.splits import LABELLED, check_patients, draw_labelled, paper_split
from anomalib_xray.errors import XrayError

MURA_STUDIES = Path(__file__).parents[2].parent / "shared" / "reference" / "mura_studies.csv"


def made_up_patients(abnormal: int, normal: int) -> dict[str, bool]:
    return {f"patient{number:05}": number < abnormal for number in range(abnormal + normal)}


def recipe(patients: Mapping[str, bool], seed: int) -> dict[str, set[str]]:
    """The published recipe for an even number of abnormal patients, as its text puts it."""
    a = np.array(sorted(p for p in patients if patients[p]))
    n = np.array(sorted(p for p in patients if not patients[p]))
    r = np.random.RandomState(seed)
    a, n = r.permutation(a), r.permutation(n)
    half = len(a) // 2
    return {
        "val": {*a[:half], *n[:half]},
        "test": {*a[half:], *n[half : 2 * half]},
        "train": {*n[2 * half :]},
    }


@pytest.mark.parametrize("seed", [0, 42])
def test_split_is_the_recipe(seed: int) -> None:
    patients = made_up_patients(abnormal=16, normal=41)
    splits = paper_split(patients, seed)
    for split, expected in recipe(patients, seed).items():
        assert {patient for patient, its_split in splits.items() if its_split == split} == expected


@pytest.mark.skipif(not MURA_STUDIES.is_file(), reason="the table of MURA's studies is not beside the repository")
def test_mura_hands_give_the_published_counts() -> None:
    studies = pd.read_csv(MURA_STUDIES, dtype={"patient": str})
    hands = studies[(studies["split"] == "train") & (studies["body_part"] == "HAND")]
    patients = {str(patient): bool(label) for patient, label in hands.groupby("patient")["label"].max().items()}
    split = hands["patient"].map(paper_split(patients))
    images = hands.groupby(split)["images"].sum()
    positive = hands[hands["label"] == 1].groupby(split)["images"].sum()
    assert images.to_dict() == {"train": 2554, "val": 1494, "test": 1495}
    assert positive.to_dict() == {"val": 738, "test": 746}


def test_a_share_of_the_normal_patients_trains() -> None:
    patients = made_up_patients(abnormal=16, normal=40)
    splits = paper_split(patients, 1, train_share=0.7)
    train, val, test = (
        [patients[patient] for patient, its_split in splits.items() if its_split == split]
        for split in ("train", "val", "test")
    )
    assert (train.count(False), train.count(True)) == (28, 0)
    assert (val.count(False), val.count(True)) == (test.count(False), test.count(True)) == (6, 8)


@pytest.mark.parametrize("share", [0.0, 1.0, 0.99, -1.0])
def test_a_share_leaves_patients_to_train_and_to_hold_out(share: float) -> None:
    with pytest.raises(XrayError, match=r"^train_share is .*; of 40 normal patients"):
        paper_split(made_up_patients(abnormal=16, normal=40), train_share=share)


def test_the_order_of_the_patients_does_not_matter_and_the_seed_does() -> None:
    patients = made_up_patients(6, 20)
    backwards = dict(reversed(patients.items()))
    assert paper_split(patients) == paper_split(backwards)
    assert paper_split(patients, 1) != paper_split(patients, 2)


def test_forms_of_one_id_are_one_patient() -> None:
    patients = made_up_patients(abnormal=6, normal=20)
    padded = {f"{patient} ": label for patient, label in patients.items()}
    splits = paper_split({**patients, **padded})
    assert {patient: split for patient, split in splits.items() if patient in patients} == paper_split(patients)
    assert all(splits[patient] == splits[f"{patient} "] for patient in patients)
    with pytest.raises(XrayError, match="patient p3 is in train and val"):
        check_patients(pd.DataFrame({"patient": ["p3", "p3 "], "split": ["train", "val"]}))


def test_every_patient_has_one_split_and_nobody_abnormal_trains() -> None:
    patients = made_up_patients(7, 20)
    splits = paper_split(patients)
    assert splits.keys() == patients.keys()
    assert not any(patients[patient] for patient, split in splits.items() if split == "train")
    for split, size in (("val", 3), ("test", 4)):
        members = [patients[patient] for patient in splits if splits[patient] == split]
        assert (members.count(True), members.count(False)) == (size, size)


def test_with_fewer_normal_than_abnormal_patients_half_of_the_normal_ones_train() -> None:
    patients = made_up_patients(12, 10)
    splits = paper_split(patients)
    normal = [splits[patient] for patient, abnormal in patients.items() if not abnormal]
    assert sorted(normal) == ["test"] * 3 + ["train"] * 5 + ["val"] * 2


@pytest.mark.parametrize(("abnormal", "normal"), [(1, 20), (20, 1), (0, 0)])
def test_too_few_patients_are_refused_with_their_numbers(abnormal: int, normal: int) -> None:
    with pytest.raises(XrayError, match=f"{abnormal} abnormal and {normal} normal patients"):
        paper_split(made_up_patients(abnormal, normal))


def test_a_patient_in_two_splits_is_named() -> None:
    table = pd.DataFrame({"patient": ["a", "b", "b", "c"], "split": ["val", "test", "train", "val"]})
    with pytest.raises(XrayError, match="patient b is in train and test"):
        check_patients(table)
    check_patients(table[table["split"] != "train"])


def split_table(**patients: tuple[str, str]) -> pd.DataFrame:
    """A table from each patient's split and the labels of their images."""
    rows = [(patient, split, int(label)) for patient, (split, labels) in patients.items() for label in labels]
    return pd.DataFrame(rows, columns=["patient", "split", "label_index"])


SPLIT = split_table(
    **{f"n{number}": ("train", "00") for number in range(9)},
    **{f"v{number}": ("val", "001" if number < 6 else "00") for number in range(12)},
    **{f"t{number}": ("test", "01" if number < 6 else "0") for number in range(12)},
)


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 1), (0.25, 3), (0.4, 5)])
def test_a_share_of_the_abnormal_patients_trains_with_labels(share: float, count: int) -> None:
    drawn = draw_labelled(SPLIT, share, seed=42)
    labelled = drawn[drawn["split"] == LABELLED]
    assert labelled["patient"].nunique() == count
    assert (labelled["label_index"] == 1).all()
    check_patients(drawn)
    # Nothing else changes: the test, above all; nor do other images of these patients stay.
    pd.testing.assert_frame_equal(
        drawn[drawn["split"] != LABELLED].reset_index(drop=True),
        SPLIT[~SPLIT["patient"].isin(labelled["patient"])].reset_index(drop=True),
    )
    assert (drawn.query("split == 'val'")["label_index"] == 1).any()


def test_labelled_patients_follow_from_the_seed_and_a_larger_share_holds_a_smaller() -> None:
    def patients(share: float, seed: int) -> set[str]:
        drawn = draw_labelled(SPLIT, share, seed)
        return set(drawn.loc[drawn["split"] == LABELLED, "patient"])

    assert patients(0.25, 1) == patients(0.25, 1)
    assert len({frozenset(patients(0.25, seed)) for seed in range(8)}) > 1
    assert patients(0.1, 3) < patients(0.25, 3) < patients(0.4, 3)


def test_abnormal_patients_who_do_not_validate_are_labelled_first() -> None:
    table = pd.concat([SPLIT, split_table(ill=("train", "01"), other=("spare", "1"))], ignore_index=True)
    drawn = draw_labelled(table, 2 / 14, seed=0)
    assert set(drawn.loc[drawn["split"] == LABELLED, "patient"]) == {"ill", "other"}
    assert drawn.query("patient == 'ill'")["label_index"].tolist() == [1]


def test_validation_keeps_an_abnormal_patient() -> None:
    with pytest.raises(XrayError, match=r"labelled_abnormal is 0\.5, which is 6 of 12 abnormal .* can spare only 5"):
        draw_labelled(SPLIT, 0.5, seed=0)
