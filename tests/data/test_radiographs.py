from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.data import Radiographs
from anomalib_xray.data.splits import paper_split
from anomalib_xray.errors import XrayError

from .conftest import Prepare, WritePicture

HEADER = "image_path,label,patient,split\n"
ROWS = "a.png,0,1,train\nb.png,normal,2,val\nc.png,positive,3,val\nd.png,NEGATIVE,4,test\ne.png,1,5,test\n"


@pytest.fixture
def folder(tmp_path: Path, write_picture: WritePicture) -> Path:
    folder = tmp_path / "hospital"
    for name in "abcde":
        write_picture(folder / f"{name}.png")
    (folder / "table.csv").write_text(HEADER + ROWS)
    return folder


def write_table(folder: Path, content: str) -> Path:
    (folder / "table.csv").write_text(content)
    return folder / "table.csv"


def test_table_is_read_beside_its_images(folder: Path) -> None:
    datamodule = Radiographs(folder / "table.csv")
    samples = datamodule.samples
    assert [Path(path) for path in samples["image_path"]] == [folder / f"{name}.png" for name in "abcde"]
    assert list(samples["label_index"]) == [0, 0, 1, 0, 1]
    assert list(samples["split"]) == ["train", "val", "val", "test", "test"]
    assert samples["study"].is_unique
    assert datamodule.name == "hospital"


def test_columns_of_other_names(folder: Path) -> None:
    rows = ["a.png,0,1,v1,train", "b.png,0,2,v1,val", "c.png,1,3,v1,test", "d.png,1,3,v2,test"]
    table = write_table(folder, "\n".join(["file,finding,id,visit,part", *rows]))
    datamodule = Radiographs(
        table,
        image_path_column="file",
        label_column="finding",
        patient_column="id",
        study_column="visit",
        split_column="part",
    )
    assert list(datamodule.samples["study"]) == ["1/v1", "2/v1", "3/v1", "3/v2"]


@pytest.mark.parametrize("has_column", [True, False])
def test_recipe_splits_where_the_table_does_not(folder: Path, write_picture: WritePicture, has_column: bool) -> None:
    names = [f"{n:02}" for n in range(12)]
    for name in names:
        write_picture(folder / f"{name}.png")
    rows = [f"{name}.png,{int(n < 4)},p{name}" + ",train" * has_column for n, name in enumerate(names)]
    table = write_table(folder, "\n".join(["image_path,label,patient" + ",split" * has_column, *rows]))
    samples = Radiographs(table, split_from_table=False, split_seed=3).samples
    expected = paper_split({f"p{name}": n < 4 for n, name in enumerate(names)}, 3)
    assert dict(zip(samples["patient"], samples["split"], strict=True)) == expected


def test_masks_make_it_a_segmentation_task(folder: Path, write_picture: WritePicture) -> None:
    for name in "ce":
        write_picture(folder / "masks" / f"{name}.png")
    rows = [f"{row},{f'masks/{row[0]}.png' if row[0] in 'ce' else ''}" for row in ROWS.splitlines()]
    datamodule = Radiographs(write_table(folder, "\n".join([HEADER.strip() + ",mask_path", *rows])))
    datamodule.setup()
    assert datamodule.task == "segmentation"
    assert datamodule.train_data.task == "segmentation"
    assert datamodule.test_data[1].gt_mask.any()


def test_image_path_column_may_stand_for_the_patient(folder: Path) -> None:
    table = write_table(folder, "image_path,label,split\na.png,0,train\nb.png,0,val\nc.png,1,test\n")
    assert Radiographs(table, patient_column="image_path").samples["patient"].nunique() == 3
    with pytest.raises(XrayError, match="no column patient, only image_path, label, split"):
        Radiographs(table).setup()


@pytest.mark.parametrize("path", ["../outside.png", "{tmp}/outside.png"])
def test_paths_do_not_leave_a_given_root(folder: Path, write_picture: WritePicture, path: str) -> None:
    write_picture(folder.parent / "outside.png")
    path = path.format(tmp=folder.parent)
    table = write_table(folder, HEADER + f"{path},0,9,train\n" + ROWS)
    assert len(Radiographs(table).samples) == 6
    with pytest.raises(XrayError, match=rf"line 2 of .*table\.csv has the path {path}, which is not below"):
        Radiographs(table, root=folder).setup()


def test_a_data_set_of_links_is_read_and_a_broken_one_named(folder: Path, tmp_path: Path) -> None:
    for name in "abcde":
        (folder / f"{name}.png").rename(tmp_path / name)
        (folder / f"{name}.png").symlink_to(tmp_path / name)
    assert len(Radiographs(folder / "table.csv", root=folder).samples) == 5
    (tmp_path / "b").unlink()
    with pytest.raises(XrayError, match=r"the first is .*b\.png, a link to .*b\."):
        Radiographs(folder / "table.csv", root=folder).setup()


def test_patients_padded_with_blanks_or_in_other_forms_are_one(folder: Path, write_picture: WritePicture) -> None:
    names = [f"{n:02}" for n in range(24)]
    for name in names:
        write_picture(folder / f"{name}.png")
    forms = ["Mu\u0308ller {n}", "M\u00fcller {n} ", "\ufeffM\u00fcller {n}\u00a0"]
    rows = [f"{name}.png,{int(n < 8)},{forms[n % 3].format(n=n // 2)}" for n, name in enumerate(names)]
    samples = Radiographs(write_table(folder, "\n".join(["image_path,label,patient", *rows]))).samples
    assert samples["patient"].nunique() == 12
    assert samples.groupby("patient")["split"].nunique().max() == 1


def test_tables_of_other_programs_are_read(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = Radiographs(folder / "table.csv").samples
    text = (HEADER + ROWS).replace("label", " label ").replace("a.png,0", "a.png,0.0").replace("e.png,1", "e.png,True")
    rows = text.replace(",", " ; ").replace("\n", "\r\n")
    (folder / "excel.csv").write_bytes((rows + rows.splitlines()[1] + "\r\n;;;\r\n;;;\r\n").encode("utf-16"))
    pd.testing.assert_frame_equal(Radiographs(folder / "excel.csv").samples, expected)
    assert "passed over rows that repeat another: 1 (first line 7)" in caplog.text


def test_rows_that_say_the_same_of_an_image_are_one(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = Radiographs(folder / "table.csv").samples
    boxes = "".join(f"{row},{line}\n" for line, row in enumerate(ROWS.splitlines()))
    again = "./a.png,normal,1 ,train,7\nb.png,false,2,val,8\ne.png,1.0,5.0,test,9\n"
    found = Radiographs(write_table(folder, HEADER.strip() + ",box\n" + boxes + again)).samples
    pd.testing.assert_frame_equal(found, expected)
    assert "passed over rows that repeat another: 3 (first line 7)" in caplog.text


def test_labels_that_other_programs_leave_out_are_unknown(folder: Path) -> None:
    for nothing in ("", "NaN", "NA", "<NA>", "None", "NULL"):
        table = write_table(folder, (HEADER + ROWS).replace("b.png,normal,2,val", f"b.png,{nothing},2,train"))
        samples = Radiographs(table, normal_only=False).samples.set_index("patient")
        assert samples.loc["2", "label"] == "unknown"


def test_names_of_splits_and_empty_masks_are_read_as_others_write_them(folder: Path) -> None:
    expected = Radiographs(folder / "table.csv").samples
    rows = (
        ROWS.replace("train", "Training").replace("b.png,normal,2,val", "b.png,normal,2,Valid").replace("test", "TEST")
    )
    table = write_table(folder, HEADER.strip() + ",mask_path\n" + rows.replace("\n", ",nan\n"))
    pd.testing.assert_frame_equal(Radiographs(table).samples, expected)


def test_root_may_be_a_link(folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    samples = Radiographs(folder / "table.csv", root=link).samples
    assert samples["image_path"][0] == str(link / "a.png")


def test_prepared_pictures_are_read_instead(folder: Path, tmp_path: Path, write_picture: WritePicture) -> None:
    for name in "abcde":
        write_picture(tmp_path / "prepared" / f"{name}.png")
    datamodule = Radiographs(folder / "table.csv", prepared_root=tmp_path / "prepared")
    assert datamodule.samples["image_path"][0] == str(tmp_path / "prepared" / "a.png")
    assert datamodule.name == "prepared"


def test_prepared_hands_keep_split_study_and_mask_of_their_picture(
    folder: Path, write_picture: WritePicture, prepare: Prepare
) -> None:
    for name in "ce":
        write_picture(folder / "masks" / f"{name}.png")
    rows = [f"{row},{f'masks/{row[0]}.png' if row[0] in 'ce' else ''},visit" for row in ROWS.splitlines()]
    table = write_table(folder, "\n".join([HEADER.strip() + ",mask_path,study", *rows, "f.png,0,6,train,,visit"]))
    write_picture(folder / "f.png")
    prepared = prepare(
        folder, two_hands=["c.png"], failed=["a.png"], masks={"c.png": "masks/c.png", "e.png": "masks/e.png"}
    )
    raw = Radiographs(table).samples
    datamodule = Radiographs(table, prepared_root=prepared, image_size=16)
    samples = datamodule.samples
    assert [Path(path).name for path in samples["image_path"]] == [
        "b.png",
        "c_1.png",
        "c_2.png",
        "d.png",
        "e.png",
        "f.png",
    ]
    assert set(samples["patient"]) == set(raw["patient"]) - {"1"}
    expected = raw.set_index("source")[["patient", "study", "split", "label"]]
    for row in samples.itertuples():
        assert (row.patient, row.study, row.split, row.label) == tuple(expected.loc[row.source])
    datamodule.setup()
    assert datamodule.task == "segmentation"
    # The second hand of c carries its label without a mask of its own.
    assert [bool(item.gt_mask.any()) for item in datamodule.val_data] == [False, True, False]
    assert [bool(item.gt_label) for item in datamodule.val_data] == [False, True, True]


def test_flagged_pictures_are_left_out_of_training_only(
    folder: Path, write_picture: WritePicture, prepare: Prepare
) -> None:
    table = write_table(folder, HEADER + ROWS + "f.png,0,6,train\n")
    write_picture(folder / "f.png")
    prepared = prepare(folder, flags={"a.png": "no_carrier", "b.png": "no_carrier", "e.png": "no_carrier"})
    samples = Radiographs(table, prepared_root=prepared, drop_flagged=["no_carrier"]).samples
    assert [Path(path).name for path in samples["source"]] == ["b.png", "c.png", "d.png", "e.png", "f.png"]
    with pytest.raises(XrayError, match="drop_flagged needs pictures with a manifest"):
        Radiographs(table, drop_flagged=["no_carrier"]).setup()


@pytest.mark.parametrize("normal_only", [True, False])
def test_abnormal_and_unknown_images_train_only_where_asked(
    folder: Path, write_picture: WritePicture, normal_only: bool
) -> None:
    write_picture(folder / "f.png")
    table = write_table(folder, HEADER + ROWS.replace("b.png,normal,2,val", "b.png,1,2,train") + "f.png,,6,train\n")
    samples = Radiographs(table, normal_only=normal_only).samples
    train = samples[samples["split"] == "train"]
    assert list(train["label"]) == (["normal"] if normal_only else ["normal", "abnormal", "unknown"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a.png,0", "a.png,broken", r"line 2 of .*table\.csv has the label 'broken'"),
        ("b.png,normal,2", "b.png,normal,", r"line 3 of .*table\.csv has an empty patient"),
        ("b.png,normal,2", "b.png,normal,nan", r"line 3 of .*table\.csv has an empty patient"),
        ("c.png", "", r"line 4 of .*table\.csv has an empty image_path"),
        ("d.png", "x.png", r"1 files that do not exist, the first is .*x\.png"),
        ("d.png", "D.PNG", r"1 files that do not exist, the first is .*D\.PNG, but .*d\.png is there"),
        ("d.png", "x" * 300, r"1 files that do not exist"),
        ("5,test", "1,test", "patient 1 is in train and test"),
        ("5,test", "5,holdout", "the split 'holdout'"),
        ("a.png,0", "a.png,1", "no image for the split train"),
        (ROWS, "", "has no row below its header"),
        ("b.png,normal", "a.png,normal", r"lines 2 and 3 of .*table\.csv list .*a\.png twice"),
    ],
)
def test_bad_table_is_refused_in_one_sentence(folder: Path, old: str, new: str, message: str) -> None:
    table = write_table(folder, (HEADER + ROWS).replace(old, new))
    with pytest.raises(XrayError, match=message) as error:
        Radiographs(table).setup()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b'a,b\n"1,2\n3', b"a,b\n1,2\n1,2,3\n"])
def test_what_is_no_table_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(XrayError, match=r"t\.csv") as error:
        Radiographs(tmp_path / "t.csv").setup()
    assert "\n" not in str(error.value)
