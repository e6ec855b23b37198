from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.data.mura import Mura
from anomalib_xray.data.pool import UnlabelledPool, draw_pool, without_labels
from anomalib_xray.data.splits import take_images
from anomalib_xray.data.table import samples_table
from anomalib_xray.errors import XrayError


def samples(**patients: tuple[str, str]) -> pd.DataFrame:
    """A table from each patient's split and labels, such as ``a=("train", "001")`` for three images."""
    rows = [
        {"image_path": f"/{patient}/{number}.png", "patient": patient, "study": patient, "label_index": int(label)}
        | {"split": split}
        for patient, (split, labels) in patients.items()
        for number, label in enumerate(labels)
    ]
    return samples_table(pd.DataFrame(rows))


TABLE = samples(
    **{f"n{number}": ("train", "00") for number in range(20)},
    **{f"a{number}": ("train", "11") for number in range(10)},
    mixed=("train", "01"),
    **{f"v{number}": ("val", "01"[number % 2] * 2) for number in range(10)},
    **{f"t{number}": ("test", "01"[number % 2] * 2) for number in range(10)},
)


def patients(table: pd.DataFrame, split: str) -> set[str]:
    return set(table.loc[table["split"] == split, "patient"])


@pytest.mark.parametrize(("size", "rate", "abnormal"), [(10, 0.0, 0), (10, 0.6, 6), (7, 0.5, 4), (10, 1.0, 10)])
def test_pool_has_its_size_and_its_rate(size: int, rate: float, abnormal: int) -> None:
    drawn = draw_pool(TABLE, UnlabelledPool(size, rate)).query("split == 'pool'")
    assert len(drawn) == size
    assert drawn["label_index"].sum() == abnormal


@pytest.mark.parametrize("seed", range(20))
def test_nobody_of_the_pool_trains_validates_or_tests(seed: int) -> None:
    drawn = draw_pool(TABLE, UnlabelledPool(9, 0.5, reserve=0.4, seed=seed))
    for split in ("train", "val", "test"):
        assert not patients(drawn, "pool") & patients(drawn, split)
    held_out = ["val", "test"]
    without = draw_pool(TABLE, UnlabelledPool(9, 0.5, seed=seed))
    assert without[without["split"].isin(held_out)].image_path.tolist() == (
        TABLE[TABLE["split"].isin(held_out)].image_path.tolist()
    ), "without a reserve validation and test stay as they are"


def test_normal_images_of_abnormal_patients_are_not_drawn_as_normal() -> None:
    few = samples(mixed=("train", "00001"), normal=("train", "00"), v=("val", "01"), t=("test", "01"))
    drawn = draw_pool(few, UnlabelledPool(3, 1 / 3))
    assert drawn.query("split == 'pool'").image_path.tolist() == ["/mixed/4.png", "/normal/0.png", "/normal/1.png"]
    with pytest.raises(XrayError, match="needs 3 normal ones, but only 2"):
        draw_pool(few, UnlabelledPool(4, 0.25))


def test_nobody_whose_id_is_padded_is_in_the_pool_and_in_a_split() -> None:
    table = samples(**{f"p{number}": ("train", "0") for number in range(8)})
    padded = table.assign(patient=table["patient"] + " ", image_path=table["image_path"] + "2")
    drawn = draw_pool(pd.concat([table, padded], ignore_index=True), UnlabelledPool(3, 0.0))
    assert not patients(drawn, "pool") & patients(drawn, "train")


def test_the_seed_decides() -> None:
    def of(seed: int) -> list[str]:
        drawn = draw_pool(TABLE, UnlabelledPool(9, 0.5, seed=seed))
        return drawn.query("split == 'pool'").image_path.tolist()

    assert of(1) == of(1) != of(2)


def test_spare_patients_come_before_those_who_train() -> None:
    spare = samples(s=("spare", "00"), n=("train", "00"), a=("spare", "1"), v=("val", "01"), t=("test", "01"))
    drawn = draw_pool(spare, UnlabelledPool(3, 1 / 3))
    assert patients(drawn, "pool") == {"s", "a"}
    assert patients(drawn, "train") == {"n"}


def test_reserve_takes_a_share_of_the_abnormal_patients_of_both_held_out_splits() -> None:
    healthy = TABLE[~TABLE["patient"].str.startswith("a") & (TABLE["patient"] != "mixed")]
    with pytest.raises(XrayError, match=r"needs 4 abnormal ones, but only 0 .* raise its reserve"):
        draw_pool(healthy, UnlabelledPool(8, 0.5))
    drawn = draw_pool(healthy, UnlabelledPool(8, 0.5, reserve=0.4))
    assert len([name for name in patients(drawn, "val") if int(name[1]) % 2]) == 3
    assert len([name for name in patients(drawn, "test") if int(name[1]) % 2]) == 3
    assert drawn.query("split == 'pool' and label_index == 1").patient.str[0].isin(["v", "t"]).all()


def test_images_are_taken_patient_by_patient() -> None:
    taken = take_images(TABLE.query("split == 'train' and label_index == 0"), 7, np.random.default_rng(0))
    counts = TABLE.loc[taken].patient.value_counts()
    assert sorted(counts) in ([1, 2, 2, 2], [1, 1, 1, 2, 2]), "all of a patient's images, but for the last one's"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": 5, "anomaly_rate": 1.1}, "anomaly_rate is 1.1"),
        ({"size": 5, "reserve": -0.1}, "reserve is -0.1"),
    ],
)
def test_impossible_pools_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        UnlabelledPool(**settings)  # type: ignore[arg-type]  # size is whole in each case


def test_labels_and_masks_are_withheld() -> None:
    hidden = without_labels(TABLE.assign(mask_path="/mask.png"))
    assert set(hidden["label_index"]) == {-1}
    assert set(hidden["label"]) == {"unknown"}
    assert set(hidden["mask_path"]) == {""}


def test_no_label_of_the_pool_reaches_a_batch(mura_root: Path) -> None:
    datamodule = Mura(mura_root, num_workers=0, image_size=16, pool=UnlabelledPool(4, 0.5, reserve=0.4))
    datamodule.setup()
    assert datamodule.unlabelled_data is not None
    batch = datamodule.unlabelled_data.collate_fn(list(datamodule.unlabelled_data))
    assert len(batch.image) == 4
    assert batch.gt_label is None
    assert batch.gt_mask is None
    assert set(datamodule.unlabelled_data.samples["label_index"]) == {-1}
    assert datamodule.samples.query("split == 'pool'").label_index.sum() == 2, "the table knows the rate"
    others = {
        path for split in ("train", "val", "test") for path in getattr(datamodule, f"{split}_data").samples.image_path
    }
    assert not others & set(datamodule.unlabelled_data.samples.image_path)


def test_without_a_pool_nothing_is_unlabelled_and_splits_are_as_ever(mura_root: Path) -> None:
    datamodule = Mura(mura_root, num_workers=0)
    datamodule.setup()
    assert datamodule.unlabelled_data is None
