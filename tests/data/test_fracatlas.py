"""FracAtlas on a small folder in its published layout, and on the table of real arms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from anomalib_xray.data import FracAtlas
from anomalib_xray.data.fracatlas_published import NEIGHBOURS, alike
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_anomaly_mask, read_radiograph
from anomalib_xray.io.text import read_csv

ARMS = Path(__file__).parents[3] / "shared" / "data" / "fracatlas_arms"
FLAGS = ("hand", "leg", "hip", "shoulder", "mixed", "hardware", "multiscan", "fractured", "fracture_count")
COLUMNS = ("image_id", *FLAGS, "frontal", "lateral", "oblique")
COCO = "Annotations/COCO JSON/COCO_fracture_masks.json"
POLYGON = [5, 6, 20, 6, 20, 30, 5, 30]
SIZE = (60, 50)  # height, width
SIDES = ("xmin", "ymin", "xmax", "ymax")


def picture(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 10), dtype=np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_NEAREST)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks 0 to 11 with two pictures each; from block 6 on the first one is fractured. And what is odd.

    A copy of the first picture lies in block 20, a brighter copy of a fractured one with the other label in block 21;
    one is truncated, one is called normal although it has a box, one has an implant, one is a leg, one shows two views.
    """
    root = tmp_path_factory.mktemp("FracAtlas")
    rows, coco = [], {"images": [], "annotations": [], "categories": [{"id": 1, "name": "fractured"}]}

    def add(number: int, seed: int, *, outlined: bool = False, brighter: int = 0, **flags: int) -> Path:
        name = f"IMG{number:07}.jpg"
        row = dict.fromkeys(COLUMNS, 0) | {"hand": 1, "frontal": 1, "image_id": name} | flags
        rows.append(",".join(str(row[column]) for column in COLUMNS))
        path = root / "images" / ("Fractured" if row["fractured"] else "Non_fractured") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(seed) // 2 + np.uint8(brighter), [cv2.IMWRITE_JPEG_QUALITY, 100])
        if outlined:
            identifier = len(coco["images"])
            coco["images"].append({"id": identifier, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
            coco["annotations"].append(
                {"image_id": identifier, "segmentation": [POLYGON], "bbox": [5, 6, 15, 24], "category_id": 1}
            )
        return path

    for block in range(12):
        add(NEIGHBOURS * block, 2 * block, outlined=block >= 6, fractured=int(block >= 6))
        add(NEIGHBOURS * block + 1, 2 * block + 1)
    add(160, 0)
    add(168, 12, brighter=40)
    truncated = add(176, 100)
    truncated.write_bytes(truncated.read_bytes()[:-400])
    add(177, 101)
    add(178, 102, hardware=1)
    add(179, 103, hand=0, leg=1)
    add(180, 104, multiscan=1, lateral=1)
    add(181, 105, lateral=1, frontal=0)
    (root / "Annotations" / "COCO JSON").mkdir(parents=True)
    (root / COCO).write_text(json.dumps(coco))
    boxes = "<object><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
    (root / "Annotations" / "PASCAL VOC").mkdir()
    (root / "Annotations" / "PASCAL VOC" / "IMG0000177.xml").write_text(f"<annotation>{boxes}</annotation>")
    (root / "dataset.csv").write_text("\n".join([",".join(COLUMNS), *rows]))
    FracAtlas(root).prepare_data()
    return root


def names(images: pd.DataFrame) -> list[int]:
    return sorted(int(Path(path).stem.removeprefix("IMG")) for path in images["image_path"])


def test_what_is_left_out_is_a_row_with_its_reason(published: Path) -> None:
    rows = {int(row["image_path"][-11:-4]): row for row in read_csv(published / "table.csv")}
    reasons = {number: row["left_out"] for number, row in rows.items() if row["left_out"]}
    assert len(rows) == 32
    assert reasons == {
        48: "nearly the same as IMG0000168.jpg, which has the other label",
        160: "nearly the same as IMG0000000.jpg",
        168: "nearly the same as IMG0000048.jpg, which has the other label",
        176: "images/Non_fractured/IMG0000176.jpg is damaged or truncated and cannot be decoded; replace the file.",
        177: "called normal although a fracture is marked",
    }
    assert rows[177]["boxes"] == "[[1.0, 2.0, 30.0, 40.0]]"
    assert rows[180]["view"] == "frontal+lateral"


def test_groups_are_blocks_of_numbers_joined_by_copies(published: Path) -> None:
    groups = {int(row["image_path"][-11:-4]): row["group"] for row in read_csv(published / "table.csv")}
    assert groups[0] == groups[1] == groups[160]
    assert groups[48] == groups[49] == groups[168]
    assert groups[176] == groups[181]
    assert len(set(groups.values())) == 12 + 1


def test_splits_share_no_group_and_training_is_normal(published: Path) -> None:
    datamodule = FracAtlas(published, num_workers=0)
    samples = datamodule.samples
    assert samples.groupby("patient")["split"].nunique().max() == 1
    train = samples[samples["split"] == "train"]
    assert train["patient"].nunique() == 3
    assert (train["label_index"] == 0).all()
    assert (samples["label_index"] == 1).sum() == 5
    assert not samples["image_path"].str.contains("IMG0000048").any()
    seeds = {tuple(FracAtlas(published, split_seed=seed).samples["split"]) for seed in range(4)}
    assert len(seeds) > 1


def test_masks_are_the_polygons(published: Path) -> None:
    images = FracAtlas(published).list_images()
    abnormal = images[images["label_index"] == 1].iloc[0]
    expected = Image.new("L", SIZE[::-1])
    ImageDraw.Draw(expected).polygon([tuple(point) for point in np.reshape(POLYGON, (-1, 2))], fill=1)
    np.testing.assert_array_equal(read_anomaly_mask(abnormal["mask_path"]), np.asarray(expected) == 1)
    assert abnormal["boxes"] == "[[5.0, 6.0, 20.0, 30.0]]"
    assert (images[images["label_index"] == 0]["mask_path"] == "").all()


@pytest.mark.parametrize(
    ("settings", "more", "fewer"),
    [
        ({}, [], []),
        ({"hardware": True}, [178], []),
        ({"multiscan": True}, [180], []),
        ({"body_parts": ["hand", "leg"]}, [179], []),
        ({"views": "frontal", "multiscan": True}, [], [181]),
    ],
)
def test_filters_choose_pictures(published: Path, settings: dict[str, Any], more: list[int], fewer: list[int]) -> None:
    usual = [number for block in range(12) for number in (8 * block, 8 * block + 1) if number != 48] + [181]
    found = names(FracAtlas(published, **settings).list_images())
    assert found == sorted({*usual, *more} - {*fewer})


def test_a_warning_counts_them_and_names_doubtful_labels(published: Path, caplog: pytest.LogCaptureFixture) -> None:
    FracAtlas(published).list_images()
    assert "left_out: 5 (first IMG0000048.jpg" in caplog.text
    assert "of doubtful label: IMG0000048.jpg, IMG0000168.jpg, IMG0000177.jpg" in caplog.text


def test_the_table_is_made_once(published: Path) -> None:
    written = (published / "table.csv").stat().st_mtime_ns
    FracAtlas(published).prepare_data()
    assert (published / "table.csv").stat().st_mtime_ns == written


def test_unknown_words_and_missing_folders_are_refused(published: Path, tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="FracAtlas has no body part elbow; choose of hand, hip, leg, shoulder, or all"):
        FracAtlas(body_parts="elbow")
    with pytest.raises(XrayError, match="no view in an empty list"):
        FracAtlas(views=[])
    with pytest.raises(XrayError, match=r"datasets/fracatlas/README\.md"):
        FracAtlas(tmp_path).prepare_data()
    with pytest.raises(XrayError, match="lists no picture of hip"):
        FracAtlas(published, body_parts="hip").list_images()


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """One fractured picture with an outline, one normal one, and one that is not listed."""
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"IMG000000{number}.jpg"), picture(number))
    (tmp_path / "dataset.csv").write_text(
        ",".join(COLUMNS) + "\nIMG0000000.jpg,1,0,0,0,0,0,0,1,1,1,0,0\nIMG0000001.jpg,1,0,0,0,0,0,0,0,0,1,0,0\n"
    )
    (tmp_path / "Annotations" / "COCO JSON").mkdir(parents=True)
    (tmp_path / "Annotations" / "PASCAL VOC").mkdir()
    outline(tmp_path)
    return tmp_path


def outline(root: Path, polygon: list[float] = POLYGON, height: int = SIZE[0]) -> None:
    images = [{"id": 0, "file_name": "IMG0000000.jpg", "height": height, "width": SIZE[1]}]
    annotations = [{"image_id": 0, "segmentation": [polygon], "bbox": [5, 6, 15, 24]}]
    (root / COCO).write_text(json.dumps({"images": images, "annotations": annotations}))


def test_files_that_are_not_listed_are_named(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    FracAtlas(small).prepare_data()
    assert "dataset.csv does not list 1 files in images (first IMG0000002.jpg)" in caplog.text


@pytest.mark.parametrize("polygon", [[], [5, 6, 20, 6], [float("nan")] * 6])
def test_an_outline_without_an_area_is_none(small: Path, polygon: list[float]) -> None:
    outline(small, polygon)
    FracAtlas(small).prepare_data()
    row = read_csv(small / "table.csv")[0]
    assert row["left_out"] == "called fractured although no fracture is outlined"
    assert row["mask_path"] == ""


def test_files_with_impossible_values_are_refused(small: Path) -> None:
    outline(small, height=0)
    with pytest.raises(XrayError, match=r"no COCO file of outlines \(ValueError: IMG0000000.jpg has no size\)"):
        FracAtlas(small).prepare_data()
    outline(small)
    boxes = small / "Annotations" / "PASCAL VOC" / "IMG0000001.xml"
    for content in ("<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax>", "".join(f"<{s}>1.2.3" for s in SIDES)):
        boxes.write_text(content)
        with pytest.raises(XrayError, match=r"IMG0000001\.xml is no PASCAL VOC file of boxes"):
            FracAtlas(small).prepare_data()
    boxes.unlink()
    table = small / "dataset.csv"
    table.write_text(table.read_text().replace("0,1,1,1,0,0", "0,1.0,1,1,0,0"))
    with pytest.raises(XrayError, match=r"line 2 of .*dataset\.csv has '1\.0' in fractured, not 0 or 1"):
        FracAtlas(small).prepare_data()


def test_a_file_of_outlines_in_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "Annotations" / "COCO JSON").mkdir(parents=True)
    (tmp_path / COCO).write_text('{"images": []}')
    (tmp_path / "dataset.csv").write_text(",".join(COLUMNS) + "\nIMG0000000.jpg" + ",1" * 12)
    with pytest.raises(XrayError, match=r"no COCO file of outlines \(KeyError: 'annotations'\)"):
        FracAtlas(tmp_path).prepare_data()


def test_pictures_are_compared_whatever_their_brightness() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(6, 100)).astype(np.float32)
    rows[4] = 3 * rows[1] + 7 + random.normal(size=100) / 100
    expected = [[a, b] for a in range(6) for b in range(a + 1, 6) if np.corrcoef(rows[a], rows[b])[0, 1] > 0.985]
    assert alike(rows).tolist() == expected == [[1, 4]]


@pytest.mark.skipif(not ARMS.is_dir(), reason=f"{ARMS} is not there")
def test_real_arms_split_by_group() -> None:
    assert len(FracAtlas(ARMS, hardware=True, multiscan=True).list_images()) == 692
    samples = FracAtlas(ARMS).samples
    counts = samples.groupby(["split", "label"]).size().to_dict()
    assert counts[("val", "abnormal")] + counts[("test", "abnormal")] == 170
    assert samples.groupby("patient")["split"].nunique().max() == 1
    assert (samples.loc[samples["label_index"] == 1, "mask_path"] != "").all()


@pytest.mark.skipif(not ARMS.is_dir(), reason=f"{ARMS} is not there")
def test_truncated_files_of_the_published_set_are_refused() -> None:
    damaged = sorted((ARMS / "damaged").glob("*.jpg"))
    for path in damaged:
        with pytest.raises(XrayError, match="damaged or truncated"):
            read_radiograph(path)
    assert len(damaged) == 6
