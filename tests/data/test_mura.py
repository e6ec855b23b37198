from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.data import Mura
from anomalib_xray.data.splits import paper_split
from anomalib_xray.errors import XrayError

from .conftest import Prepare

ABNORMAL_HANDS = {f"patient{number:05}": number <= 6 for number in range(1, 16)}


def splits_of(datamodule: Mura) -> dict[str, str]:
    return dict(zip(datamodule.samples["patient"], datamodule.samples["split"], strict=True))


@pytest.mark.parametrize("index", ["folders", "csv"])
def test_split_is_the_recipe_over_patients(mura_root: Path, index: Any) -> None:
    datamodule = Mura(mura_root, index=index, split_seed=7)
    assert splits_of(datamodule) == paper_split(ABNORMAL_HANDS, 7)
    assert datamodule.name == "XR_HAND"


def test_several_parts_are_split_together_so_that_nobody_crosses(mura_root: Path) -> None:
    datamodule = Mura(mura_root, body_parts=["hand", "wrist"])
    both = ABNORMAL_HANDS | {"patient00014": True}  # healthy hand, broken wrist
    assert splits_of(datamodule) == paper_split(both, 42)
    assert datamodule.name == "MURA-v1.1"
    assert datamodule.name in Path(datamodule.samples["image_path"][0]).parts


def test_setup_twice_gives_the_same_datasets(mura_root: Path) -> None:
    datamodule = Mura(mura_root)
    datamodule.setup()
    before = {split: getattr(datamodule, f"{split}_data").samples for split in ("train", "val", "test")}
    datamodule.setup()
    for split, samples in before.items():
        assert getattr(datamodule, f"{split}_data").samples.equals(samples)
        assert set(samples["split"]) == {split}


def test_holdout_is_the_official_valid_part_and_the_test_patients_stay_away(mura_root: Path) -> None:
    stock, holdout = Mura(mura_root).samples, Mura(mura_root, test_on="holdout").samples
    assert set(holdout[holdout["split"] == "test"]["patient"]) == {"patient11185", "patient11186"}
    for split in ("train", "val"):
        assert list(holdout[holdout["split"] == split]["image_path"]) == list(
            stock[stock["split"] == split]["image_path"]
        )


@pytest.mark.parametrize("test_on", ["test", "holdout"])
def test_raw_and_prepared_runs_have_the_same_patients_in_the_same_splits(
    mura_root: Path, prepare: Prepare, test_on: Any
) -> None:
    # Patient 1 loses the abnormal study, patient 15 everything: a recipe applied afterwards would split anew.
    hands = mura_root / "train" / "XR_HAND"
    lost = [*(hands / "patient00001/study1_positive").glob("image*.png"), *(hands / "patient00015").rglob("*.png")]
    failed = {path.relative_to(mura_root).as_posix() for path in lost}
    doubled = [f"train/XR_HAND/patient{number:05}/study1_positive/image1.png" for number in (2, 3, 4)]
    prepared = prepare(mura_root, two_hands=doubled, failed=failed)
    raw = Mura(mura_root, test_on=test_on)
    cleaned = Mura(mura_root, test_on=test_on, prepared_root=prepared)
    expected = splits_of(raw)
    assert splits_of(cleaned) == {patient: split for patient, split in expected.items() if patient != "patient00015"}

    originals = raw.samples.set_index("source")
    kept = originals[~originals.index.isin([str(mura_root / name) for name in failed])]
    assert set(cleaned.samples["source"]) == set(kept.index)
    assert list(cleaned.samples["split"]) == [originals["split"][source] for source in cleaned.samples["source"]]
    crops = cleaned.samples["source"].value_counts()
    twice = {str(mura_root / name) for name in doubled} & set(kept.index)
    assert set(crops.index[crops == 2]) == twice
    assert twice
    assert {row.study for row in cleaned.samples.itertuples()} == set(kept["study"])


def test_body_parts_that_were_not_prepared_matter_only_where_asked_for(mura_root: Path, prepare: Prepare) -> None:
    prepared = prepare(mura_root)
    manifest = prepared / "manifest.csv"
    manifest.write_text("".join(line for line in manifest.open(encoding="utf-8") if "XR_WRIST" not in line))
    assert len(Mura(mura_root, prepared_root=prepared).samples) == len(Mura(mura_root).samples)
    with pytest.raises(XrayError, match=r"^2 of \d+ radiographs .* the first is train/XR_WRIST/patient00002"):
        Mura(mura_root, body_parts=["hand", "wrist"], prepared_root=prepared).setup()


def test_missing_mura_says_where_it_comes_from_and_what_runs_instead(tmp_path: Path) -> None:
    with pytest.raises(XrayError) as error:
        Mura(tmp_path / "nowhere").setup()
    message = str(error.value)
    assert "datasets/mura/README.md says where the data come from" in message
    assert "configs/data/phantom.yaml" in message
    assert "\n" not in message
