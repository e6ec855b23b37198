from __future__ import annotations

import csv
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import write_secondary_capture
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation import worker
from anomalib_xray.preparation.manifest import COLUMNS
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.record import MANIFEST, read_record, record_path
from anomalib_xray.preparation.runner import Summary, pipeline_of, run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.preparation.step import Step

pytestmark = pytest.mark.usefixtures("small_steps")

STEPS = [{"refuse": {}}, {"brighten": {"by": 3}}, {"halves": {}}]
WIDE, HIGH = "a/wide.png", "a/high.png"


@pytest.fixture(autouse=True)
def _no_pipeline_of_another_test() -> None:
    worker._pipeline.cache_clear()


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Two good pictures, one too dark, one black, one broken."""
    root = tmp_path / "raw"
    rng = np.random.default_rng(0)
    write_png(root / WIDE, rng.integers(50, 200, (8, 20), dtype=np.uint8))
    write_png(root / HIGH, rng.integers(500, 2000, (20, 8), dtype=np.uint16))
    write_png(root / "dark.png", np.ones((5, 5), np.uint8))
    write_png(root / "black.png", np.zeros((5, 5), np.uint8))
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return root


def prepare(root: Path, steps: list[dict[str, dict[str, object]]] = STEPS, out: str = "out", **more: object) -> Summary:
    folder = root.parent / out
    masks = Path("masks") if (root / "masks").is_dir() else None
    return run(Pipeline(steps), root, folder, find_sources(root, folder, masks=masks), **more)  # type: ignore[arg-type]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / MANIFEST).open(newline="") as file:
        return list(csv.DictReader(file))


def state(out: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(out).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in out.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def test_every_original_becomes_pictures_or_a_reason(raw: Path) -> None:
    summary = prepare(raw)
    out = raw.parent / "out"
    found = rows(out)
    assert tuple(found[0]) == COLUMNS
    assert [(row["source_path"], row["image_path"], row["part"], row["parts"]) for row in found] == [
        (HIGH, HIGH, "1", "1"),
        (WIDE, "a/wide_part1.png", "1", "2"),
        (WIDE, "a/wide_part2.png", "2", "2"),
        ("black.png", "", "", "0"),
        ("broken.png", "", "", "0"),
        ("dark.png", "", "", "0"),
    ]
    errors = {row["source_path"]: row["error"] for row in found if row["error"]}
    assert errors == summary.errors
    assert errors["dark.png"] == "it is too dark"
    assert errors["black.png"] == "ZeroDivisionError: nothing there"
    assert "broken.png" in errors["broken.png"]
    assert summary.done == {"prepared": 2, "failed": 3}
    assert summary.outputs == 3
    original = read_radiograph(raw / WIDE)
    np.testing.assert_array_equal(read_radiograph(out / "a/wide_part2.png"), original[:, 10:] + 3)
    assert read_radiograph(out / HIGH).dtype == np.uint16
    wide = found[1]
    assert (wide["height"], wide["width"]) == ("8", "10")
    assert wide["source_sha256"] == hashlib.sha256((raw / WIDE).read_bytes()).hexdigest()
    assert json.loads(wide["parameters"])["brighten"]["by"] == 3
    assert found[0]["flags"] == "bright narrow"


def test_what_reading_a_header_noted_stands_in_the_manifest(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    root = tmp_path / "raw"
    root.mkdir()
    pixels = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
    write_secondary_capture(root / "a.dcm", pixels, description="a radiograph")
    data_set = pydicom.dcmread(root / "a.dcm")
    data_set.HighBit = 9
    data_set.save_as(root / "a.dcm")
    for _ in range(2):  # prepared, then kept
        prepare(root)
        assert rows(root.parent / "out")[0]["flags"].split()[0] == "HighBit-repaired"


def test_dicom_is_prepared_anew_by_another_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pydicom")
    root = tmp_path / "raw"
    write_png(root / "b.png", np.tile(np.arange(100, dtype=np.uint8), (60, 1)))
    write_secondary_capture(root / "a.dcm", np.tile(np.arange(100, dtype=np.uint8), (60, 1)), description="a")
    assert prepare(root).done == {"prepared": 2}
    assert prepare(root).done == {"kept": 2}
    monkeypatch.setattr(worker, "DICOM_READER", 99)
    assert prepare(root).done == {"prepared": 1, "kept": 1}


def test_a_second_run_does_nothing(raw: Path, small_steps: dict[str, type[Step]]) -> None:
    prepare(raw)
    before = state(raw.parent / "out")
    small_steps["brighten"].looks.clear()  # type: ignore[attr-defined]
    summary = prepare(raw)
    assert summary.done == {"kept": 2, "failed": 3}
    assert state(raw.parent / "out") == before
    assert small_steps["brighten"].looks == []  # type: ignore[attr-defined]


def test_a_changed_setting_redoes_what_it_must(raw: Path, small_steps: dict[str, type[Step]]) -> None:
    prepare(raw)
    small_steps["brighten"].looks.clear()  # type: ignore[attr-defined]
    summary = prepare(raw, STEPS[:2])
    out = raw.parent / "out"
    assert summary.done["prepared"] == 2
    assert small_steps["brighten"].looks == []  # type: ignore[attr-defined]  # its plans are used again
    assert sorted(path.name for path in (out / "a").iterdir()) == ["high.png", "wide.png"]
    assert [row["image_path"] for row in rows(out) if row["image_path"]] == [HIGH, WIDE]


def test_a_changed_or_new_original_is_prepared_and_a_lost_output_again(raw: Path) -> None:
    prepare(raw)
    out = raw.parent / "out"
    fresh = state(out)
    write_png(raw / HIGH, np.full((9, 9), 77, np.uint8))
    write_png(raw / "new.png", np.full((9, 9), 78, np.uint8))
    (out / "a/wide_part1.png").unlink()
    assert prepare(raw).done["prepared"] == 3
    assert read_radiograph(out / HIGH)[0, 0] == read_radiograph(out / "new.png")[0, 0] - 1 == 80
    assert state(out)["a/wide_part1.png"][0] == fresh["a/wide_part1.png"][0]


def test_a_mended_original_loses_its_error(raw: Path) -> None:
    prepare(raw)
    write_png(raw / "broken.png", np.full((9, 9), 77, np.uint8))
    summary = prepare(raw)
    assert "broken.png" not in summary.errors
    assert summary.done == {"kept": 2, "prepared": 1, "failed": 2}


def test_an_original_that_is_out_of_reach_keeps_its_pictures(raw: Path) -> None:
    table = raw.parent / "t.csv"
    table.write_text(f"image_path\n{HIGH}\n")
    out = raw.parent / "out"
    run(Pipeline(STEPS), raw, out, find_sources(raw, out, table=table))
    (raw / HIGH).rename(raw.parent / "moved.png")
    summary = run(Pipeline(STEPS), raw, out, find_sources(raw, out, table=table))
    assert "cannot be read" in summary.errors[HIGH]
    assert (out / HIGH).is_file()
    (raw.parent / "moved.png").rename(raw / HIGH)
    assert run(Pipeline(STEPS), raw, out, find_sources(raw, out, table=table)).errors == {}


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_run_that_is_killed_goes_on(raw: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    prepare(raw, out="whole")
    written: list[str] = []
    write = worker.write_png

    def dying(path: Path, image: np.ndarray) -> None:
        written.append(str(path))
        if len(written) == stop_at:
            # what a process that is killed between two system calls leaves behind
            path.parent.mkdir(parents=True, exist_ok=True)
            (path.parent / f".{path.name}.{'0' * 32}.tmp").write_bytes(b"half")
            raise KeyboardInterrupt
        write(path, image)

    monkeypatch.setattr(worker, "write_png", dying)
    out = raw.parent / "out"
    with pytest.raises(KeyboardInterrupt):
        prepare(raw)
    assert not (out / MANIFEST).exists()
    monkeypatch.setattr(worker, "write_png", write)
    prepare(raw)
    assert not list(out.rglob("*.tmp"))
    hashes = [{name: digest for name, (digest, _) in state(raw.parent / folder).items()} for folder in ("out", "whole")]
    assert hashes[0] == hashes[1]


def test_a_damaged_record_is_made_anew(raw: Path) -> None:
    prepare(raw)
    out = raw.parent / "out"
    record_path(out, HIGH).write_text("{")
    assert read_record(out, HIGH) is None
    assert prepare(raw).done == {"prepared": 1, "kept": 1, "failed": 3}


def test_masks_are_moved_along(raw: Path) -> None:
    mask = np.zeros((8, 20), np.uint8)
    mask[2:5, 8:14] = 255
    write_png(raw / "masks" / WIDE, mask)
    prepare(raw)
    out = raw.parent / "out"
    masks = {row["image_path"]: row["mask_path"] for row in rows(out)}
    assert masks["a/wide_part2.png"] == "masks/a/wide_part2.png"
    assert masks[HIGH] == ""
    np.testing.assert_array_equal(read_radiograph(out / "masks/a/wide_part1.png"), mask[:, :10])
    np.testing.assert_array_equal(read_radiograph(out / "masks/a/wide_part2.png"), mask[:, 10:])


def test_a_changed_mask_is_moved_again_and_a_wrong_one_is_a_row(raw: Path) -> None:
    write_png(raw / "masks" / WIDE, np.zeros((8, 20), np.uint8))
    prepare(raw)
    write_png(raw / "masks" / WIDE, np.full((8, 20), 255, np.uint8))
    assert prepare(raw).done["prepared"] == 1
    assert read_radiograph(raw.parent / "out/masks/a/wide_part1.png").min() == 255
    write_png(raw / "masks" / WIDE, np.zeros((8, 21), np.uint8))
    assert "anomaly mask" in prepare(raw).errors[WIDE]
    assert not (raw.parent / "out/a/wide_part1.png").exists()


def test_a_replay_repeats_without_looking(raw: Path, small_steps: dict[str, type[Step]]) -> None:
    prepare(raw)
    out = raw.parent / "out"
    small_steps["brighten"].looks.clear()  # type: ignore[attr-defined]
    run(pipeline_of(out), raw, raw.parent / "again", find_sources(raw, raw.parent / "again"), replay=out)
    assert small_steps["brighten"].looks == []  # type: ignore[attr-defined]
    for name in (HIGH, "a/wide_part1.png", "a/wide_part2.png"):
        assert (raw.parent / "again" / name).read_bytes() == (out / name).read_bytes()
    write_png(raw / WIDE, np.zeros((8, 21), np.uint8))
    write_png(raw / "new.png", np.zeros((8, 21), np.uint8))
    summary = run(pipeline_of(out), raw, raw.parent / "again", find_sources(raw, raw.parent / "again"), replay=out)
    assert "(8, 20)" in summary.errors[WIDE]
    assert "nothing to replay" in summary.errors["new.png"]


def test_a_part_does_not_take_the_name_of_another_original(raw: Path) -> None:
    write_png(raw / "a/wide_part2.png", np.full((9, 9), 50, np.uint8))
    assert "another original" in prepare(raw).errors[WIDE]
    assert read_radiograph(raw.parent / "out/a/wide_part2.png").shape == (9, 9)


def test_a_folder_with_other_files_is_not_written_to(raw: Path) -> None:
    write_png(raw.parent / "out/mine.png", np.ones((2, 2), np.uint8))
    with pytest.raises(XrayError, match="did not write"):
        prepare(raw)
    assert [path.name for path in (raw.parent / "out").iterdir()] == ["mine.png"]


def test_two_runs_do_not_write_to_one_folder(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused: list[str] = []
    write = worker.write_png

    def meanwhile(path: Path, image: np.ndarray) -> None:
        if not refused:
            with pytest.raises(XrayError, match="Another run") as error:
                prepare(raw)
            refused.append(str(error.value))
        write(path, image)

    monkeypatch.setattr(worker, "write_png", meanwhile)
    prepare(raw)
    assert refused


def test_a_folder_that_was_not_prepared_has_no_pipeline(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="holds no prepared"):
        pipeline_of(tmp_path)


def test_processes_write_the_same_bytes(raw: Path) -> None:
    steps = [{"resize": {"longest_side": 12}}]
    prepare(raw, steps, out="one", workers=1)
    prepare(raw, steps, out="two", workers=2)
    hashes = [{name: digest for name, (digest, _) in state(raw.parent / folder).items()} for folder in ("one", "two")]
    assert hashes[0] == hashes[1]
    assert cv2.imread(str(raw.parent / "two" / WIDE)) is not None


DEADLY = """
import os

from anomalib_xray.preparation.step import Plan, Step


class Deadly(Step):
    def plan(self, image):
        if image.min() == 255:
            os._exit(9)
        return Plan()

    def apply(self, image, plan):
        return image
"""


@pytest.mark.slow
def test_a_picture_that_kills_its_worker_is_a_row(raw: Path) -> None:
    write_png(raw / "deadly.png", np.full((9, 9), 255, np.uint8))
    code = "import sys; from anomalib_xray.cli import main; sys.exit(main())"
    package = raw.parent / "package"
    (package / "deadly-1.0.dist-info").mkdir(parents=True)
    (package / "deadly-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (package / "deadly-1.0.dist-info" / "entry_points.txt").write_text(
        "[anomalib_xray.preparation_steps]\ndeadly = deadly:Deadly\n"
    )
    (package / "deadly.py").write_text(DEADLY)
    (raw.parent / "p.yaml").write_text("steps: [deadly]\n")
    out = raw.parent / "out"
    process = subprocess.run(
        [
            *(sys.executable, "-c", code, "prepare", "--config", str(raw.parent / "p.yaml")),
            *("--root", str(raw), "--out", str(out), "--workers", "2"),
        ],
        env=os.environ | {"PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 1, process.stderr
    errors = {row["source_path"]: row["error"] for row in rows(out) if row["error"]}
    assert sorted(errors) == ["broken.png", "deadly.png"]
    assert "killed the process" in errors["deadly.png"]
    assert len(rows(out)) == 6


def listed(root: Path, text: str) -> dict[str, dict[str, str]]:
    """Prepares what a table lists, and gives the manifest by original."""
    (root.parent / "t.csv").write_text(text)
    out = root.parent / "out"
    run(Pipeline([{"brighten": {"by": 3}}]), root, out, find_sources(root, out, table=root.parent / "t.csv"))
    return {row["source_path"]: row for row in rows(out)}


def test_masks_and_pictures_of_one_name_do_not_overwrite_each_other(tmp_path: Path) -> None:
    root, mask = tmp_path / "raw", np.zeros((8, 9), np.uint8)
    mask[2:4, 3:5] = 255
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        cv2.imwrite(str(tmp_path / name), rng.integers(50, 200, (8, 9), dtype=np.uint8))
        root.mkdir(exist_ok=True)
        (tmp_path / name).rename(root / name)
    write_png(root / "a.png", mask)  # the name of its own picture
    write_png(root / "B.png", 255 - mask)  # that of another picture
    table = "image_path,mask_path\na.jpg,a.png\nb.jpg,\nc.jpg,B.png\nd.jpg,d.jpg\n"
    for _ in range(2):  # also what is kept
        found = listed(root, table)
        outputs = [row[column] for row in found.values() for column in ("image_path", "mask_path") if row[column]]
        assert len({name.lower() for name in outputs}) == len(outputs) == 5
        for name, expected in (("a.jpg", mask), ("c.jpg", 255 - mask)):
            assert np.array_equal(read_radiograph(tmp_path / "out" / found[name]["mask_path"]), expected)
        assert len(np.unique(read_radiograph(tmp_path / "out" / "a.png"))) > 10
        assert "its mask_path is the radiograph itself" in found["d.jpg"]["error"]
    # A mask whose name a picture takes only later leaves that picture alone.
    first = listed(root, "image_path,mask_path\nc.jpg,B.png\n")
    assert first["c.jpg"]["mask_path"] == "B.png"
    (root / "b.jpg").rename(root / "B.jpg")
    again = listed(root, "image_path,mask_path\nB.jpg,\nc.jpg,B.png\n")
    assert len(np.unique(read_radiograph(tmp_path / "out" / "B.png"))) > 10
    assert np.array_equal(read_radiograph(tmp_path / "out" / again["c.jpg"]["mask_path"]), 255 - mask)


def test_names_that_no_file_system_takes_are_rows(raw: Path) -> None:
    long, deep = "x" * 300, "a/" * 2500 + "b.png"
    found = listed(raw, f"image_path,mask_path\n{WIDE},\n{long},\n{deep},\n{HIGH},{long}\n")
    assert found[WIDE]["image_path"] == WIDE
    assert all("File name too long" in found[name]["error"] for name in (long, deep, HIGH))


def test_folders_with_names_of_preparation_itself_are_rows(raw: Path) -> None:
    (raw / "a").rename(raw / "manifest.csv")
    prepare(raw)
    errors = {row["source_path"]: row["error"] for row in rows(raw.parent / "out")}
    assert "prepare keeps manifest.csv" in errors["manifest.csv/wide.png"]
    assert errors["dark.png"] == "" or "dark" in errors["dark.png"]
