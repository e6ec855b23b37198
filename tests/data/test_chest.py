"""The datamodules of chests, on generated pictures in their layouts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from anomalib_xray.data import ChestFolder, RsnaPneumonia, SplitSizes, UnlabelledPool, VinBigData
from anomalib_xray.data.chest import ChestDataModule
from anomalib_xray.errors import XrayError

from .conftest import WritePicture

SIZES = SplitSizes(train=4, val_normal=2, val_abnormal=1, test_normal=2, test_abnormal=2)
CHEST = Path(__file__).parents[3] / "shared" / "data" / "chest"


@pytest.fixture
def rsna(tmp_path: Path, write_picture: WritePicture) -> Path:
    """12 normal images, 7 with one or two opacities, 3 abnormal in another way."""
    rows = []
    for number in range(22):
        kind = "Normal" if number < 12 else "Lung Opacity" if number < 19 else "No Lung Opacity / Not Normal"
        write_picture(tmp_path / "stage_2_train_images" / f"image{number:02}.png")
        rows += [f"image{number:02},{kind}"] * (2 if number % 5 == 4 else 1)
    (tmp_path / "stage_2_detailed_class_info.csv").write_text("\n".join(["patientId,class", *rows]))
    return tmp_path


@pytest.fixture
def vinbigdata(tmp_path: Path, write_picture: WritePicture) -> Path:
    """12 images of which no reader reported anything, 7 of which one did."""
    rows = []
    for number in range(19):
        write_picture(tmp_path / "train_png_512" / f"image{number:02}.png")
        findings = ["No finding"] * 3 if number < 12 else ["No finding", "Nodule/Mass", "No finding"]
        rows += [f"image{number:02},{finding},R{reader}" for reader, finding in enumerate(findings)]
    (tmp_path / "train.csv").write_text("\n".join(["image_id,class_name,rad_id", *rows]))
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path, write_picture: WritePicture) -> Path:
    names = [f"normal/IM-{number:04}-0001" for number in range(12)]
    names += [f"bacterial/person{number // 2}_bacteria_{number}" for number in range(8)]
    for name in names:
        write_picture(tmp_path / f"{name}.png")
    return tmp_path


@pytest.fixture(params=["rsna", "vinbigdata", "folders"])
def build(request: pytest.FixtureRequest) -> Callable[..., ChestDataModule]:
    kinds: dict[str, type[ChestDataModule]] = {
        "rsna": RsnaPneumonia, "vinbigdata": VinBigData, "folders": ChestFolder,
    }  # fmt: skip
    root = request.getfixturevalue(request.param)

    def make(**settings: Any) -> ChestDataModule:
        return kinds[request.param](root, **{"sizes": SIZES, "num_workers": 0, **settings})

    return make


def counts(datamodule: ChestDataModule) -> dict[tuple[str, str], int]:
    return {key: int(count) for key, count in datamodule.samples.groupby(["split", "label"]).size().items()}


def test_splits_have_their_sizes_and_share_no_patient(build: Callable[..., ChestDataModule]) -> None:
    datamodule = build(pool=UnlabelledPool(5, 0.4))
    assert counts(datamodule) == {
        ("train", "normal"): 4, ("val", "normal"): 2, ("val", "abnormal"): 1, ("test", "normal"): 2,
        ("test", "abnormal"): 2, ("pool", "normal"): 3, ("pool", "abnormal"): 2,
    }  # fmt: skip
    assert datamodule.samples.groupby("patient")["split"].nunique().max() == 1


def test_sizes_may_be_a_mapping_as_in_a_configuration(build: Callable[..., ChestDataModule]) -> None:
    sizes = {"train": 4, "val_normal": 2, "val_abnormal": 1, "test_normal": 2, "test_abnormal": 2}
    assert build(sizes=sizes).sizes == SIZES


def test_the_split_seed_decides_and_the_pool_does_not(build: Callable[..., ChestDataModule]) -> None:
    def split(**settings: Any) -> list[tuple[str, str]]:
        samples = build(**settings).samples.query("split != 'pool'")
        return list(zip(samples.image_path, samples.split, strict=True))

    assert split() == split() == split(pool=UnlabelledPool(5, 0.4)) == split(pool=UnlabelledPool(4, 0.0, seed=1))
    assert split() != split(split_seed=1)


def test_too_large_a_size_is_refused_with_what_is_there(build: Callable[..., ChestDataModule]) -> None:
    with pytest.raises(XrayError, match=r"has no 40 normal images for train .*, only 8; lower the sizes"):
        build(sizes=SplitSizes(40, 2, 1, 2, 2)).samples  # noqa: B018  # the property reads the data set
    with pytest.raises(XrayError, match="needs 9 normal ones, but only 4"):
        build(pool=UnlabelledPool(9, 0.0)).samples  # noqa: B018  # as above


def test_missing_data_sets_say_where_to_get_them(tmp_path: Path) -> None:
    for kind in (RsnaPneumonia, VinBigData, ChestFolder):
        with pytest.raises(XrayError, match=r"datasets/\w+/README.md"):
            kind(tmp_path / "nowhere").samples  # noqa: B018  # the property reads the data set


def test_images_of_the_third_class_and_repeated_rows_are_not_counted(rsna: Path) -> None:
    images = RsnaPneumonia(rsna).list_images()
    assert len(images) == 19
    assert images["label_index"].sum() == 7


def test_one_reader_makes_an_image_abnormal(vinbigdata: Path) -> None:
    images = VinBigData(vinbigdata).list_images().set_index("patient")
    assert images.loc["image11", "label_index"] == 0
    assert images.loc["image12", "label_index"] == 1


@pytest.mark.parametrize("spelling", ["No Finding", "no  finding", "NO FINDING\u200b"])
def test_no_finding_is_read_however_it_is_written(
    vinbigdata: Path, caplog: pytest.LogCaptureFixture, spelling: str
) -> None:
    expected = VinBigData(vinbigdata).list_images()
    table = vinbigdata / "train.csv"
    rows = table.read_text().replace("No finding", spelling) + "\nimage00,,R4\nimage13,nan,R4\nimage99,,R1"
    table.write_text(rows, encoding="utf-8")
    pd.testing.assert_frame_equal(VinBigData(vinbigdata).list_images(), expected)
    assert "whose class_name is empty or unknown: 3 (first line 59, '')" in caplog.text


def test_classes_are_read_however_written_and_unknown_ones_counted(
    rsna: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = RsnaPneumonia(rsna).list_images()
    table = rsna / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text().upper().replace("IMAGE", "image").replace("PATIENTID,CLASS", "patientId,class"))
    with table.open("a") as file:
        file.write("\nimage97,\nimage98,Opacity")
    pd.testing.assert_frame_equal(RsnaPneumonia(rsna).list_images(), expected)
    assert "whose class is empty or unknown: 2 (first line 28, '')" in caplog.text


@pytest.mark.parametrize("other", ["Lung Opacity", "No Lung Opacity / Not Normal"])
def test_classes_that_contradict_each_other_are_refused(rsna: Path, other: str) -> None:
    table = rsna / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text() + f"\nimage00,{other}\n")
    with pytest.raises(XrayError, match=r"lines 2 and 28 of .* contradict each other about image00"):
        RsnaPneumonia(rsna).list_images()


def test_a_picture_that_the_table_lists_must_be_there(rsna: Path) -> None:
    (rsna / "stage_2_train_images" / "image03.png").unlink()
    with pytest.raises(XrayError, match="lists 1 pictures that are not there, the first is image03"):
        RsnaPneumonia(rsna).list_images()
    (rsna / "stage_2_train_images" / "image04.png").rename(rsna / "stage_2_train_images" / "image03.png")
    table = rsna / "stage_2_detailed_class_info.csv"
    table.write_text(table.read_text().replace("image03", "IMAGE03.dcm").replace("image04", "image05"))
    with pytest.raises(XrayError, match=r"the first is IMAGE03.dcm, but .*image03.png is there"):
        RsnaPneumonia(rsna).list_images()


def test_a_table_without_its_columns_is_refused(vinbigdata: Path) -> None:
    (vinbigdata / "train.csv").write_text("image,label\na,b\n")
    with pytest.raises(XrayError, match="has no column image_id, class_name"):
        VinBigData(vinbigdata).list_images()


def test_patients_come_from_file_names(folders: Path) -> None:
    images = ChestFolder(folders).list_images()
    assert images["patient"].nunique() == 12 + 4
    (folders / "normal/IM-0001-0001.png").rename(folders / "normal/im-0000-0002.PNG")
    (folders / "bacterial/person0_bacteria_1.png").rename(folders / "bacterial/PERSON0_BACTERIA_1.png")
    assert ChestFolder(folders).list_images()["patient"].nunique() == 11 + 4
    by_file = ChestFolder(folders, patient_pattern="no such name").list_images()
    assert by_file["patient"].nunique() == 20
    with pytest.raises(XrayError, match="no regular expression"):
        ChestFolder(folders, patient_pattern="(")


def test_debris_of_macos_and_other_places_hold_no_pictures(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = ChestFolder(folders).list_images()
    for name in ("normal/._IM-0001-0001.png", "bacterial/__MACOSX/._a.png", "__MACOSX/._IM-0001.png"):
        (folders / name).parent.mkdir(exist_ok=True)
        (folders / name).write_bytes(bytes.fromhex("0005160700020000") + b"Mac OS X" + bytes(100))
    (folders / "normal" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folders / "normal" / "more").mkdir()
    (folders / "normal" / "more" / "a.png").write_bytes(b"")
    pd.testing.assert_frame_equal(ChestFolder(folders).list_images(), clean)
    assert "hidden files: 1" in caplog.text
    assert "do not lie directly in a sub-folder: 1" in caplog.text


def test_linked_folders_of_findings_are_read(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("linked")
    for name in ("normal", "bacterial"):
        (root / name).symlink_to(folders / name)
    assert ChestFolder(root).list_images()["label_index"].tolist() == ChestFolder(folders).list_images()[
        "label_index"
    ].tolist()  # fmt: skip


def test_ids_of_tables_are_those_of_files_however_padded(rsna: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = RsnaPneumonia(rsna).list_images()
    table = rsna / "stage_2_detailed_class_info.csv"
    text = table.read_text().replace("image", " image").replace(",", " ;").replace("\n", "\r\n")
    text = text.replace("patientId", "patientId ") + "\r\n;Normal\r\n;\r\n"
    table.write_text(text, encoding="utf-8-sig", newline="")
    (rsna / "stage_2_train_images" / "image00.png").rename(rsna / "stage_2_train_images" / "image00")
    (rsna / "stage_2_train_images" / "._image01.png").write_bytes(b"")
    found = RsnaPneumonia(rsna).list_images()
    assert found["patient"].tolist() == expected["patient"].tolist()
    assert Path(found["image_path"][0]).name == "image00"
    assert "passed over rows without patientId: 1 (first line 28)" in caplog.text


def write_lists(root: Path, **changes: Any) -> Path:
    lists: dict[str, Any] = {
        "train": {
            "0": [f"image{number:02}.png" for number in range(4)],
            "unlabeled": {
                "0": [f"image{number:02}.png" for number in range(4, 10)],
                "1": [f"image{number:02}.png" for number in range(12, 17)],
            },
        },
        "test": {"0": ["image10.png", "image11.png"], "1": ["image17.png", "image18.png"]},
    }
    (root / "data.json").write_text(json.dumps({**lists, **changes}))
    return root / "data.json"


def test_published_lists_are_taken_as_they_are(rsna: Path) -> None:
    lists = write_lists(rsna)
    datamodule = RsnaPneumonia(rsna, SIZES, partition=lists, pool=UnlabelledPool(5, 0.6), num_workers=0)
    names = datamodule.samples["image_path"].map(lambda path: Path(path).stem.removeprefix("image"))
    found = {split: sorted(rows) for split, rows in names.groupby(datamodule.samples["split"])}
    assert found == {
        "train": ["00", "01", "02", "03"],
        "pool": ["04", "05", "12", "13", "14"],  # the first ones of the lists
        "val": ["08", "09", "16"],  # the last ones
        "test": ["10", "11", "17", "18"],
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test": {"0": []}}, r"KeyError: '1'.*test\.1"),
        ({"test": {"0": ["image99.png"], "1": ["image17.png"]}}, "lists 1 images that are not there, .*image99"),
        ({"test": {"0": ["image18.png"], "1": ["image17.png"]}}, "contradicts the labels of 1 images"),
    ],
)
def test_lists_that_do_not_fit_are_refused(rsna: Path, changes: dict[str, Any], message: str) -> None:
    datamodule = RsnaPneumonia(rsna, SIZES, partition=write_lists(rsna, **changes))
    with pytest.raises(XrayError, match=message):
        datamodule.samples  # noqa: B018  # the property reads the data set


def test_lists_shorter_than_pool_and_validation_are_refused(rsna: Path) -> None:
    datamodule = RsnaPneumonia(rsna, SIZES, partition=write_lists(rsna), pool=UnlabelledPool(10, 0.5))
    with pytest.raises(XrayError, match="lists 6 normal unlabelled images, but the pool needs 5 and validation 2"):
        datamodule.samples  # noqa: B018  # the property reads the data set


@pytest.mark.parametrize("sizes", [(0, 1, 1, 1, 1), (1, 1, -1, 1, 1), (1, 1, 1, 1, 0)])
def test_empty_splits_are_refused(sizes: tuple[int, int, int, int, int]) -> None:
    with pytest.raises(XrayError, match="every split needs at least one image"):
        SplitSizes(*sizes)


@pytest.mark.skipif(not CHEST.is_dir(), reason=f"{CHEST} is not there")
def test_real_chests_split_by_patient() -> None:
    datamodule = ChestFolder(CHEST, pool=UnlabelledPool(150, 0.6))
    images = datamodule.list_images()
    assert images["label_index"].value_counts().to_dict() == {0: 500, 1: 500}
    assert isinstance(datamodule.samples, pd.DataFrame)
    assert (datamodule.samples["split"] == "pool").sum() == 150
    assert datamodule.samples.groupby("patient")["split"].nunique().max() == 1
