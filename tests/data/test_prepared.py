"""Prepared folders as a test writes them: pictures and a manifest, or pictures alone."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from anomalib_xray.data.prepared import (
    count_body_parts,
    leave_out_flagged,
    prepared_counterpart,
    prepared_samples,
    read_manifest,
)
from anomalib_xray.data.table import check_samples, samples_table
from anomalib_xray.errors import XrayError

HEADER = [
    "image_path",
    "source_path",
    "part",
    "parts",
    "patient",
    "study",
    "mask_path",
    "source_sha256",
    "config_sha256",
    "height",
    "width",
    "flags",
    "parameters",
    "error",
]
# More than Python's csv module reads by default, and a line break.
PARAMETERS = '{"note": "two\nlines", "mask": "' + "x" * 200_000 + '"}'


class Folder:
    """A raw folder and its prepared one, which the test fills."""

    def __init__(self, folder: Path) -> None:
        self.root, self.prepared = folder / "raw", folder / "prepared"
        self.prepared.mkdir(parents=True)
        self.rows: list[dict[str, str]] = []

    def add(self, source: str, *images: str, mask: str = "", flags: str = "", error: str = "") -> None:
        """Prepares an original; the mask belongs to its first picture."""
        for part, image in enumerate(images or [""], start=1):
            row = {"source_path": source, "image_path": image, "part": str(part), "parts": str(len(images))}
            row |= {"mask_path": mask if part == 1 else "", "flags": flags, "error": error, "parameters": PARAMETERS}
            self.rows.append(row)
            for file in (row["image_path"], row["mask_path"]):
                (self.prepared / file).parent.mkdir(parents=True, exist_ok=True)
                if file:
                    (self.prepared / file).touch()
        self.write()

    def write(self) -> None:
        with (self.prepared / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, HEADER, restval="")
            writer.writeheader()
            writer.writerows(self.rows)

    def originals(self) -> pd.DataFrame:
        """Six originals of six patients, of which the abnormal ones have masks."""
        rows = [
            ("a", 0, "train"),
            ("b", 0, "train"),
            ("c", 0, "val"),
            ("d", 1, "val"),
            ("e", 0, "test"),
            ("f", 1, "test"),
        ]
        images = pd.DataFrame(rows, columns=["patient", "label_index", "split"])
        images["image_path"] = [str(self.root / f"p/{patient}.jpg") for patient in images["patient"]]
        images["mask_path"] = ["" if not label else str(self.root / "raw_mask.png") for label in images["label_index"]]
        return samples_table(images.assign(study="1"))

    def samples(self) -> pd.DataFrame:
        return prepared_samples(self.originals(), self.root, self.prepared)

    def path(self, name: str) -> str:
        return str(self.prepared / name)


@pytest.fixture
def empty(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def folder(empty: Folder) -> Folder:
    """Original b failed, e and f gave two pictures each; f's anomaly is on the first. The last one nobody asks for."""
    empty.add("p/a.jpg", "p/a.png", flags="no_carrier marker_left")
    empty.add("p/b.jpg", error="p/b.jpg cannot be read: damaged.")
    empty.add("p/c.jpg", "p/c.png")
    empty.add("p/d.jpg", "p/d.png", mask="masks/p/d.png")
    empty.add("p/e.jpg", "p/e_hand1.png", "p/e_hand2.png", flags="no_carrier")
    empty.add("p/f.jpg", "p/f_hand1.png", "p/f_hand2.png", mask="masks/p/f_hand1.png")
    empty.add("q/x.jpg", "q/x.png")
    return empty


def test_pictures_take_the_place_of_their_originals(folder: Folder) -> None:
    samples = folder.samples()
    names = ["a", "c", "d", "e_hand1", "e_hand2", "f_hand1", "f_hand2"]
    assert list(samples["image_path"]) == [folder.path(f"p/{name}.png") for name in names]
    assert list(samples["source"]) == [str(folder.root / f"p/{name[0]}.jpg") for name in names]
    originals = folder.originals().set_index("source")
    for column in ("patient", "study", "label", "label_index", "split"):
        assert list(samples[column]) == [originals[column][source] for source in samples["source"]]
    masks = dict(zip(names, samples["mask_path"], strict=True))
    assert {name: mask for name, mask in masks.items() if mask} == {
        "d": folder.path("masks/p/d.png"),
        "f_hand1": folder.path("masks/p/f_hand1.png"),
    }
    assert list(samples["flags"]) == ["no_carrier marker_left", "", "", "no_carrier", "no_carrier", "", ""]


def test_a_crop_without_the_anomaly_passes_the_checks_of_a_data_set(folder: Folder) -> None:
    check_samples(folder.samples(), "set")


def test_rows_of_the_manifest_may_stand_in_any_order(folder: Folder) -> None:
    expected = folder.samples()
    folder.rows.reverse()
    folder.write()
    pd.testing.assert_frame_equal(folder.samples(), expected)


def test_failed_originals_are_counted_a_split_with_the_first_reason(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    folder.rows = [row for row in folder.rows if row["source_path"] not in ("p/a.jpg", "p/c.jpg")]
    folder.add("p/a.jpg", error="all black.")
    folder.add("p/c.jpg", error="too small.")
    folder.samples()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "3 radiographs could not be prepared and are left out: 2 of train, 1 of val; the first is p/a.jpg: all black."
    )


def test_nothing_is_logged_where_nothing_failed(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.rows = [row for row in folder.rows if row["source_path"] != "p/b.jpg"]
    folder.add("p/b.jpg", "p/b.png")
    folder.samples()
    assert caplog.records == []


def test_masks_that_were_not_prepared_are_missed_aloud(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    for row in folder.rows:
        row["mask_path"] = ""
    folder.write()
    samples = folder.samples()
    assert set(samples["mask_path"]) == {""}
    assert "No anomaly mask was prepared" in caplog.text


def test_missing_originals_are_counted_and_the_way_out_is_named(folder: Folder) -> None:
    folder.rows = [row for row in folder.rows if row["source_path"] not in ("p/c.jpg", "p/e.jpg")]
    folder.write()
    with pytest.raises(XrayError) as error:
        folder.samples()
    message = str(error.value)
    assert message.startswith(f"2 of 6 radiographs below {folder.root} are not in {folder.prepared / 'manifest.csv'}")
    assert "the first is p/c.jpg" in message
    assert message.endswith(f"run anomalib-xray prepare again with --root {folder.root} and --out {folder.prepared}.")


def test_names_that_copying_changed_to_another_form_are_the_same(folder: Folder) -> None:
    folder.rows[0]["source_path"] = "p/Gro\u0308\u00dfe.jpg"
    folder.write()
    composed = str(folder.root / "p" / "Gr\u00f6\u00dfe.jpg")
    originals = folder.originals().replace({str(folder.root / "p" / "a.jpg"): composed})
    samples = prepared_samples(originals, folder.root, folder.prepared)
    assert samples["image_path"][samples["source"] == composed].tolist() == [folder.path("p/a.png")]


def test_an_original_outside_of_the_root_is_named(folder: Folder) -> None:
    with pytest.raises(XrayError, match=r"raw/p/a\.jpg is not below .*elsewhere"):
        prepared_samples(folder.originals(), folder.root.parent / "elsewhere", folder.prepared)


@pytest.mark.parametrize("column", ["image_path", "mask_path"])
@pytest.mark.parametrize("path", ["../outside.png", "p/../../outside.png", "{tmp}/outside.png"])
def test_a_path_that_leaves_the_folder_is_refused(folder: Folder, tmp_path: Path, column: str, path: str) -> None:
    folder.rows[-1][column] = path.format(tmp=tmp_path)
    folder.write()
    with pytest.raises(XrayError, match=r"manifest\.csv names .*outside\.png, which is not below .*prepared; run"):
        folder.samples()


@pytest.mark.parametrize("column", ["source_path", "image_path", "mask_path", "flags", "error"])
def test_a_missing_column_is_named(folder: Folder, column: str) -> None:
    table = pd.read_csv(folder.prepared / "manifest.csv").drop(columns=column)
    table.to_csv(folder.prepared / "manifest.csv", index=False)
    with pytest.raises(XrayError, match=rf"manifest\.csv has no column {column}; run anomalib-xray prepare again"):
        read_manifest(folder.prepared)


def cut(content: bytes) -> bytes:
    return content[: content.rindex(b"xxx")]


@pytest.mark.parametrize("damage", [cut, lambda _: b"", lambda _: b"\xff\xfe\x00\x80"])
def test_a_damaged_manifest_is_named_in_one_sentence(folder: Folder, damage: Callable[[bytes], bytes]) -> None:
    path = folder.prepared / "manifest.csv"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(XrayError, match=r"manifest\.csv (cannot|has no|is no) .*; run anomalib-xray") as error:
        read_manifest(folder.prepared)
    assert "\n" not in str(error.value)


def test_only_needed_columns_are_kept(folder: Folder) -> None:
    assert set(read_manifest(folder.prepared)) == {"source_path", "image_path", "mask_path", "flags", "error"}


def test_an_unfinished_preparation_is_not_taken_for_a_folder_of_another_tool(empty: Folder) -> None:
    (empty.prepared / ".preparation").mkdir()
    with pytest.raises(XrayError, match=r"prepared has no manifest\.csv yet, .* run anomalib-xray prepare again"):
        empty.samples()


def test_a_folder_that_does_not_exist_is_named_with_the_command_that_makes_it(empty: Folder) -> None:
    with pytest.raises(
        XrayError, match=r"There is no folder .*none: .* run anomalib-xray prepare with --root .*none\."
    ):
        prepared_samples(empty.originals(), empty.root, empty.root / "none")


def test_a_folder_of_another_tool_has_pictures_and_masks_under_the_same_paths(empty: Folder) -> None:
    (empty.prepared / "p").mkdir()
    (empty.prepared / "p/a.png").touch()
    samples = empty.samples()
    assert list(samples["image_path"]) == [empty.path("p/a.png"), *(empty.path(f"p/{name}.jpg") for name in "bcdef")]
    assert list(samples["mask_path"]) == [empty.path("raw_mask.png") if name in "df" else "" for name in "abcdef"]
    assert list(samples["source"]) == list(empty.originals()["source"])
    with pytest.raises(XrayError, match="drop_flagged needs pictures with a manifest"):
        leave_out_flagged(samples, ["no_carrier"])


def test_flagged_pictures_do_not_train_but_are_evaluated(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    folder.rows = [row for row in folder.rows if row["source_path"] != "p/b.jpg"]
    folder.add("p/b.jpg", "p/b_hand1.png", "p/b_hand2.png")
    folder.rows[-1]["flags"] = "marker_left blurred"
    folder.write()
    samples = folder.samples()
    with caplog.at_level(logging.INFO):
        kept = leave_out_flagged(samples, ["blurred", "no_carrier", "marker", "inverted"])
    # "marker" is no flag of a picture, though a part of one's name
    left_out = [folder.path("p/a.png"), folder.path("p/b_hand2.png")]
    pd.testing.assert_frame_equal(kept, samples[~samples["image_path"].isin(left_out)].reset_index(drop=True))
    assert "no_carrier" in set(kept.loc[kept["split"] == "test", "flags"])
    assert "2 flagged pictures are left out of training: 1 blurred, 1 no_carrier, 0 marker, 0 inverted." in caplog.text


def test_counterpart_keeps_the_relative_path(tmp_path: Path) -> None:
    root, prepared = tmp_path / "raw", tmp_path / "prepared"
    assert prepared_counterpart(root / "p/a.jpg", root, prepared) == prepared / "p/a.jpg"
    (prepared / "p").mkdir(parents=True)
    (prepared / "p/a.png").touch()
    assert prepared_counterpart(root / "p/a.jpg", root, prepared) == prepared / "p/a.png"
    with pytest.raises(XrayError, match="is not below"):
        prepared_counterpart(tmp_path / "elsewhere.png", root, prepared)


def test_body_parts_of_training_pictures_are_counted(empty: Folder) -> None:
    assert count_body_parts(empty.originals(), empty.prepared) == {}, "there is no manifest"
    for patient in "abcdef":
        empty.add(f"p/{patient}.jpg", f"p/{patient}.png")
    samples = prepared_samples(empty.originals(), empty.root, empty.prepared)
    assert count_body_parts(samples, empty.prepared) == {}, "a manifest of before there was such a column"
    rows = pd.read_csv(empty.prepared / "manifest.csv")
    for first, counted in (("hand", {"hand": 2}), ("leg", {"leg": 1, "hand": 1}), (None, {"hand": 1})):
        part_of = {"p/a.jpg": first, "p/b.jpg": "hand", "p/c.jpg": "leg", "p/f.jpg": "leg"}
        rows.assign(body_part=rows["source_path"].map(part_of)).to_csv(empty.prepared / "manifest.csv", index=False)
        assert count_body_parts(samples, empty.prepared) == counted, "of the train split alone"
