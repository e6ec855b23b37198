from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.bundling.images import (
    Sample,
    given_samples,
    has_both_labels,
    merged,
    prepare_samples,
    validation_samples,
    validation_table,
)
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.pipeline import Pipeline


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b", "c", "d"):
        write_png(tmp_path / "images" / f"{name}.png", np.ones((4, 4), np.uint8))
    return tmp_path


def test_a_folder_has_no_labels(folder: Path) -> None:
    assert given_samples(folder / "images") == [Sample(folder / "images" / f"{name}.png", -1) for name in "abcd"]


def test_a_table_has_labels_and_perhaps_a_split(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("image_path,label\nimages/a.png,normal\nimages/b.png,1\nimages/c.png,\n")
    assert [sample.label for sample in given_samples(table)] == [0, 1, -1]
    table.write_text(
        "image_path,label,split\nimages/a.png,0,train\nimages/b.png,0,val\nimages/c.png,1,val\nimages/d.png,1,test\n"
    )
    assert given_samples(table) == [Sample(folder / "images/b.png", 0), Sample(folder / "images/c.png", 1)]


def test_a_table_may_name_patients(folder: Path) -> None:
    table = folder / "table.csv"
    table.write_text("image_path,label,patient\nimages/a.png,0, p 1\nimages/b.png,0,\n")
    samples = merged(given_samples(folder / "images"), given_samples(table))
    assert [sample.patient for sample in samples] == ["p 1", "", "", ""]
    assert [sample.patient for sample in prepare_samples(samples, None, folder)] == ["p 1", "", "", ""]


def test_rows_without_an_image_are_left_out_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "images" / "a.png").rename(folder / "images" / "Gro\u0308\u00dfe.png")
    (folder / "t.csv").write_text(
        "image_path;label\nimages\\Gr\u00f6\u00dfe.png;0.0\n;1\n;\nimages/z.png;1\n", "utf-16"
    )
    assert given_samples(folder / "t.csv") == [Sample(folder / "images" / "Gro\u0308\u00dfe.png", 0)]
    assert "lists 2 files that do not exist, the first is nothing in line 3; they are left out" in caplog.text


@pytest.mark.parametrize("pipeline", [None, Pipeline([{"resize": {"longest_side": 4}}], Path())])
def test_a_damaged_radiograph_is_left_out_and_said(
    folder: Path, pipeline: Pipeline | None, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "images" / "b.png").write_bytes(b"nothing")
    samples = given_samples(folder / "images")
    found = prepare_samples(samples, pipeline, folder / "views")
    assert [picture.path.name for picture in found] == ["a.png", "c.png", "d.png"]
    assert "b.png is neither" in caplog.text
    assert "1 of 4 radiographs are left out" in caplog.text
    with pytest.raises(XrayError, match=r"No radiograph can be used; the first: .*b\.png is neither"):
        prepare_samples(samples[1:2], pipeline, folder / "views")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("path,label\nimages/a.png,0\n", "has no column 'image_path'"),
        ("image_path,label\n", "lists no image"),
        ("image_path,label\nimages/a.png,perhaps\n", "line 2 of .* has the label 'perhaps'"),
        ("image_path\nimages/z.png\n", "lists 1 files that do not exist"),
    ],
)
def test_mistakes_in_a_table_are_one_sentence(text: str, sentence: str, folder: Path) -> None:
    (folder / "table.csv").write_text(text)
    with pytest.raises(XrayError, match=sentence):
        given_samples(folder / "table.csv")


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="There is no"):
        given_samples(tmp_path / "nowhere")


def test_the_run_says_what_it_was_validated_on(folder: Path) -> None:
    run = folder / "run"
    checkpoint = run / "weights" / "lightning" / "model.ckpt"
    checkpoint.parent.mkdir(parents=True)
    images = folder / "images"
    (run / "val_scores.csv").write_text(
        "image_path,source_path,label,mse\n"
        f"{images}/a.png,{images}/c.png,0,0.1\n{images}/b.png,{images}/c.png,1,0.2\n{images}/d.png,{images}/d.png,0,0.2\n"
    )
    table = validation_table(checkpoint)
    assert validation_samples(table, originals=False) == [
        Sample(images / "a.png", 0),
        Sample(images / "b.png", 1),
        Sample(images / "d.png", 0),
    ]
    # An original is abnormal if one of the pictures that were made of it is.
    assert validation_samples(table, originals=True) == [Sample(images / "c.png", 1), Sample(images / "d.png", 0)]


def test_without_a_run_images_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="name normal images with --images"):
        validation_table(tmp_path / "model.ckpt")


def test_merging_keeps_what_is_known() -> None:
    a, b = Path("a"), Path("b")
    both = merged([Sample(a, -1), Sample(b, 0)], [Sample(a, 0), Sample(b, -1), Sample(b, 1)])
    assert both == [Sample(a, 0), Sample(b, 1)]
    assert has_both_labels(both)
    assert not has_both_labels([Sample(a, 0), Sample(b, -1)])
