from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation_models.localizer_data import (
    SIDE,
    Example,
    LabelledBox,
    draw_batch,
    load_examples,
    read_boxes,
)

EXPECTED = {
    "a.png": (LabelledBox("rh", (10.0, 20.0, 110.0, 220.0)), LabelledBox("ll", (5.0, 5.0, 25.0, 15.0))),
    "b.png": (LabelledBox("lh", (1.5, 2.0, 30.0, 40.0)),),
}

VOC = """<?xml version="1.0" encoding="utf-8"?>
<annotation>
  <filename>{name}</filename>
  <size><width>400</width><height>500</height><depth>1</depth></size>
  {objects}
</annotation>
"""
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


def write_voc(folder: Path) -> Path:
    for name, boxes in EXPECTED.items():
        objects = "".join(OBJECT.format(box.label, *box.corners) for box in boxes)
        (folder / name).with_suffix(".xml").write_text(VOC.format(name=name, objects=objects))
    return folder


def write_coco(folder: Path) -> Path:
    labels = ["rh", "lh", "ll"]
    path = folder / "boxes.json"
    annotations = [
        {
            "image_id": number,
            "category_id": labels.index(box.label),
            "bbox": [*box.corners[:2], box.corners[2] - box.corners[0], box.corners[3] - box.corners[1]],
        }
        for number, boxes in enumerate(EXPECTED.values())
        for box in boxes
    ]
    content = {
        "images": [{"id": number, "file_name": name} for number, name in enumerate(EXPECTED)],
        "categories": [{"id": number, "name": name} for number, name in enumerate(labels)],
        "annotations": annotations,
    }
    path.write_text(json.dumps(content))
    return path


def write_table(folder: Path) -> Path:
    rows = [
        f"{name},400,500,{box.label},{','.join(map(str, box.corners))}" for name in EXPECTED for box in EXPECTED[name]
    ]
    path = folder / "boxes.csv"
    path.write_text("\n".join(["filename,width,height,class,xmin,ymin,xmax,ymax", *rows]) + "\n")
    return path


@pytest.mark.parametrize("write", [write_voc, write_coco, write_table])
def test_three_formats_say_the_same(write: type, tmp_path: Path) -> None:
    assert read_boxes(write(tmp_path)) == EXPECTED


def test_tables_of_other_programs_say_the_same(tmp_path: Path) -> None:
    table = write_table(tmp_path)
    text = table.read_text().replace(",", " ; ").replace("\n", "\r\n")
    table.write_bytes((text + ";;;\r\n").encode("utf-16"))
    assert read_boxes(table) == EXPECTED


def test_debris_of_macos_is_no_file_of_boxes(tmp_path: Path) -> None:
    (tmp_path / "c.xml").write_text(VOC.format(name="c.png", objects=""))
    (tmp_path / "._c.xml").write_bytes(bytes.fromhex("0005160700020000"))
    assert read_boxes(tmp_path) == {"c.png": ()}


def test_a_picture_without_boxes_is_kept(tmp_path: Path) -> None:
    (tmp_path / "c.xml").write_text(VOC.format(name="c.png", objects=""))
    assert read_boxes(tmp_path) == {"c.png": ()}


def test_a_file_without_picture_name_is_called_after_itself(tmp_path: Path) -> None:
    objects = OBJECT.format("rh", 1, 2, 3, 4)
    (tmp_path / "c.xml").write_text(f"<annotation>{objects}</annotation>")
    assert list(read_boxes(tmp_path)) == ["c"]


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]><annotation><filename>&e;</filename></annotation>',
        '<?xml version="1.0"?><!DOCTYPE annotation SYSTEM "http://example.org/a.dtd"><annotation/>',
    ],
)
def test_entities_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(XrayError, match=r"a\.xml declares a document type"):
        read_boxes(tmp_path)


def test_entities_in_another_encoding_are_refused(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "x">]><annotation/>'
    (tmp_path / "a.xml").write_bytes(text.encode("utf-16"))
    with pytest.raises(XrayError, match=r"a\.xml is no text in UTF-8"):
        read_boxes(tmp_path)


def test_large_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.preparation_models.localizer_data.MAX_BYTES", 20)
    with pytest.raises(XrayError, match="at most 20 are read"):
        read_boxes(write_table(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.xml", "<annotation>", "does not hold boxes"),
        ("a.xml", "<html/>", "not annotation"),
        ("a.xml", VOC.format(name="a.png", objects="<object><name>rh</name></object>"), "does not hold boxes"),
        ("a.xml", VOC.format(name="a.png", objects=OBJECT.format("rh", 5, 5, 5, 9)), "without class or area"),
        ("a.xml", VOC.format(name="a.png", objects=OBJECT.format("", 1, 2, 3, 4)), "without class or area"),
        ("a.json", "{", "is no JSON file"),
        ("a.json", "[]", "does not hold boxes"),
        ("a.json", '{"images": [], "categories": [], "annotations": [{"bbox": 3}]}', "does not hold boxes"),
        ("a.csv", "filename,class\na.png,rh\n", "does not hold boxes"),
        ("a.csv", "filename,class,xmin,ymin,xmax,ymax\na.png,rh,1,2,nan,4\n", "line 2 of .* without class or area"),
        ("a.csv", "filename,class,xmin,ymin,xmax,ymax\na.png,rh,1,2\n", "line 2 of .* does not hold boxes"),
        ("a.txt", "", "holds no boxes"),
    ],
)
def test_other_content_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(XrayError, match=message):
        read_boxes(tmp_path if name.endswith(".xml") else path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"no \.xml file"):
        read_boxes(tmp_path)
    with pytest.raises(XrayError, match=r"boxes\.csv cannot be read"):
        read_boxes(tmp_path / "boxes.csv")


def with_bright_box(height: int, width: int, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    image[y0:y1, x0:x1] = 200
    return image


def test_boxes_are_stretched_with_their_picture(tmp_path: Path) -> None:
    write_png(tmp_path / "below" / "a.png", with_bright_box(160, 640, 320, 40, 480, 120))
    boxes = {"a.png": (LabelledBox("rh", (320, 40, 480, 120)),)}
    (example,) = load_examples(tmp_path, boxes, ["lh", "rh"])
    assert example.boxes.tolist() == [[160, 80, 240, 240]]
    assert example.labels.tolist() == [1]
    assert example.view.shape == (128, 512)
    assert (example.image[90:230, 170:230] == 200).all()
    assert (example.image[:70] == 0).all()


def test_pictures_are_found_by_path_or_by_a_name_that_occurs_once(tmp_path: Path) -> None:
    for name in ("one/a.png", "two/a.png", "two/b.png"):
        write_png(tmp_path / name, np.full((8, 8), 9, np.uint8))
    assert len(load_examples(tmp_path, {"one/a.png": (), "two/a.png": (), "b.png": ()}, [])) == 3
    with pytest.raises(XrayError, match=r"a\.png occurs more than once"):
        load_examples(tmp_path, {"a.png": ()}, [])
    with pytest.raises(XrayError, match=r"c\.png is missing"):
        load_examples(tmp_path, {"c.png": ()}, [])


def test_names_are_found_in_any_form_and_a_damaged_picture_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one/Gro\u0308\u00dfe.png", "b.png"):
        write_png(tmp_path / name, np.full((8, 8), 9, np.uint8))
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    names = ["Gr\u00f6\u00dfe.png", "one\\Gr\u00f6\u00dfe.png", "damaged.png"]
    assert len(load_examples(tmp_path, dict.fromkeys(names, ()), [])) == 2
    assert "left out: " in caplog.text
    with pytest.raises(XrayError, match="None of the 1 labelled pictures"):
        load_examples(tmp_path, {"damaged.png": ()}, [])


def test_boxes_follow_the_variation_of_their_picture() -> None:
    image = with_bright_box(SIDE, SIDE, 100, 60, 220, 260)
    boxes = np.array([[100, 60, 220, 260]], np.float32)
    examples = [Example(image, image, boxes, np.array([2]))]
    images, targets = draw_batch(examples, np.random.default_rng(0), 12)
    for drawn, target in zip(images, targets, strict=True):
        assert drawn.shape == (3, SIDE, SIDE)
        assert 0 <= drawn.min() < drawn.max() <= 1
        assert target["labels"].tolist() == [3]
        rows, columns = torch.nonzero(drawn[0] > drawn.max() / 2, as_tuple=True)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target["boxes"][0].tolist() == pytest.approx([float(side) for side in seen], abs=2)
    assert len({tuple(target["boxes"][0].tolist()) for target in targets}) == 12


def test_a_picture_without_boxes_can_be_drawn() -> None:
    image = with_bright_box(SIDE, SIDE, 0, 0, 9, 9)
    example = Example(image, image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    _, (target,) = draw_batch([example], np.random.default_rng(0), 1)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
