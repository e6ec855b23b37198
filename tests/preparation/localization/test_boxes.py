from __future__ import annotations

import json
from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.localization.boxes import LabelledBox, read_boxes

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
    with pytest.raises(XrayError, match=r"a\.xml does not hold boxes"):
        read_boxes(tmp_path)


def test_large_files_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.preparation.localization.boxes.MAX_BYTES", 20)
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
        ("a.json", "{", "does not hold boxes"),
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
