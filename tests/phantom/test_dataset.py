from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS
from anomalib_xray.phantom.dataset import FINISHED, TRUTH, Arguments, list_images, write_phantoms


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set that tests read and leave as it is."""
    return write_phantoms(tmp_path_factory.mktemp("first") / "set", patients=9, progress=False)


def test_the_layout_is_that_of_mura(finished: Path) -> None:
    images = sorted(
        str(file.relative_to(finished)) for part in ("train", "valid") for file in (finished / part).rglob("*.png")
    )
    listed: list[str] = []
    for part in ("train", "valid"):
        paths = (finished / f"{part}_image_paths.csv").read_text().splitlines()
        studies = dict(line.split(",") for line in (finished / f"{part}_labeled_studies.csv").read_text().splitlines())
        assert paths
        assert {path.rsplit("/", 1)[0] + "/" for path in paths} == set(studies)
        for study, label in studies.items():
            assert study.startswith(f"set/{part}/XR_HAND/patient0000")
            assert study.endswith("_positive/" if label == "1" else "_negative/")
        listed += [path.removeprefix("set/") for path in paths]
    assert sorted(listed) == images


def test_pictures_are_prepared_and_agree_with_the_ground_truth(finished: Path) -> None:
    truth = json.loads((finished / TRUTH).read_text())
    channels = set()
    for path, entry in truth.items():
        picture = cv2.imread(str(finished / path), cv2.IMREAD_UNCHANGED)
        channels.add(picture.ndim)
        grey = picture if picture.ndim == 2 else picture[..., 0]
        if picture.ndim == 3:
            assert (picture == grey[..., None]).all()
        foreground = cv2.imread(str(finished / "ground_truth/foreground" / path), cv2.IMREAD_UNCHANGED)
        assert ((foreground == 255) == (grey > 0)).all()
        x0, y0, x1, y1 = entry["hand_boxes_xyxy"][0]
        assert (grey[y0:y1, x0:x1] > 0).sum() == (grey > 0).sum()
        anomaly_file = finished / "ground_truth/anomaly" / path
        assert anomaly_file.is_file() == (entry["label"] == 1) == ("positive" in path)
        if entry["label"]:
            anomaly = cv2.imread(str(anomaly_file), cv2.IMREAD_UNCHANGED)
            assert set(np.unique(anomaly)) == {0, 255}
            assert (foreground[anomaly > 0] == 255).all()
        assert not entry["inverted"]
        assert entry["carrier_corners_xy"] is None
    assert channels == {2, 3}


def test_the_same_arguments_give_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    again = write_phantoms(tmp_path / "set", patients=9, progress=False)
    assert contents(again) == contents(finished)


def test_several_processes_draw_the_same_bytes(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.phantom.dataset.MANY", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert contents(write_phantoms(tmp_path / "set", patients=9, progress=False)) == contents(finished)


def test_the_first_patients_do_not_depend_on_the_number(finished: Path, tmp_path: Path) -> None:
    fewer = contents(write_phantoms(tmp_path / "set", patients=3, progress=False))
    images = {name: content for name, content in fewer.items() if name.endswith(".png")}
    assert images.items() <= contents(finished).items()


def test_a_finished_set_is_left_alone(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "set", patients=2, progress=False)
    times = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    write_phantoms(root, patients=2, progress=False)
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == times


def test_deleted_images_are_drawn_again_and_the_others_kept(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "set", patients=3, progress=False)
    before = contents(root)
    gone, *kept = sorted(root.glob("train/**/*.png"))
    gone.unlink()
    times = [file.stat().st_mtime_ns for file in kept]
    write_phantoms(root, patients=3, progress=False)
    assert contents(root) == before
    assert [file.stat().st_mtime_ns for file in kept] == times


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from anomalib_xray.phantom import dataset

    whole = contents(write_phantoms(tmp_path / "whole" / "set", patients=3, progress=False))
    root = tmp_path / "set"
    drawn: list[str] = []
    draw = dataset._draw

    def draw_two(out: Path, arguments: dataset.Arguments, image: dataset.PhantomImage) -> tuple[str, dataset.Entry]:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        drawn.append(image.path)
        return draw(out, arguments, image)

    monkeypatch.setattr(dataset, "_draw", draw_two)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(root, patients=3, progress=False)
    assert not (root / FINISHED).exists()
    with (root / dataset._UNFINISHED).open("a") as journal:
        journal.write('{"path": "train/XR_HAND/pat')  # the machine went down while this line was written
    times = {path: (root / path).stat().st_mtime_ns for path in drawn}
    with pytest.raises(XrayError, match="seed=42 instead of 7"):
        write_phantoms(root, patients=3, seed=7, progress=False)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(root, patients=3, progress=False)
    monkeypatch.undo()
    write_phantoms(root, patients=3, progress=False)
    assert contents(root) == whole
    assert {path: (root / path).stat().st_mtime_ns for path in drawn} == times


def test_processes_that_begin_together_draw_one_set(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from anomalib_xray.phantom import write_phantoms as write; "
    code += "write(Path(sys.argv[1]), patients=4, progress=False)"
    alone, out = tmp_path / "alone" / "set", tmp_path / "set"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(out)]) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert contents(out) == contents(write_phantoms(alone, patients=4, progress=False))


def test_other_arguments_are_refused(finished: Path) -> None:
    with pytest.raises(XrayError, match=r"patients=9 instead of 4: choose another folder, or delete this one"):
        write_phantoms(finished, patients=4, progress=False)


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(XrayError, match="holds no phantoms"):
        write_phantoms(tmp_path, patients=1)
    with pytest.raises(XrayError, match="is a file"):
        write_phantoms(tmp_path / "thesis.txt", patients=1)


def test_raw_sets_show_what_archives_show(tmp_path: Path) -> None:
    root = write_phantoms(tmp_path / "raw", patients=12, prepared=False, positive_share=0.2, progress=False)
    truth = json.loads((root / TRUTH).read_text())
    assert any(entry["marker_boxes_xyxy"] for entry in truth.values())
    assert any(entry["carrier_corners_xy"] for entry in truth.values())
    for path in truth:
        grey = cv2.imread(str(root / path), cv2.IMREAD_GRAYSCALE)
        foreground = cv2.imread(str(root / "ground_truth/foreground" / path), cv2.IMREAD_GRAYSCALE)
        assert grey[foreground == 0].max() > 0


def test_more_patients_leave_the_first_ones_as_they_are() -> None:
    few, many = list_images(Arguments(patients=10)), list_images(Arguments(patients=50))
    assert many[: len(few)] == few


def test_shares_hold() -> None:
    images = list_images(Arguments(patients=400))
    first_studies = {image.patient: image for image in images if image.study == 1}
    assert len(first_studies) == 400
    positives = sum(image.positive for image in first_studies.values())
    valid = sum(image.part == "valid" for image in first_studies.values())
    assert positives / 400 == pytest.approx(0.4, abs=0.02)
    assert valid / 400 == pytest.approx(0.15, abs=0.02)
    kinds = [image.kind for image in first_studies.values() if image.positive]
    assert {kinds.count(kind) for kind in ANOMALY_KINDS} <= set(range(14, 27))


def test_the_mixture_is_that_of_mura() -> None:
    images = list_images(Arguments(patients=400))
    labels = {image.patient: {other.positive for other in images if other.patient == image.patient} for image in images}
    assert sum(len(found) == 2 for found in labels.values()) in range(8, 50)
    assert {image.image for image in images} == {1, 2, 3}
    assert {image.channels for image in images} == {1, 3}
    assert {image.part for image in images} == {"train", "valid"}


def test_a_study_has_one_kind_and_one_label() -> None:
    kinds: dict[str, set[str | None]] = {}
    for image in list_images(Arguments(patients=100)):
        kinds.setdefault(image.study_path, set()).add(image.kind)
        assert image.path.endswith(f"_{'positive' if image.positive else 'negative'}/image{image.image}.png")
    assert all(len(found) == 1 for found in kinds.values())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patients": 0}, "at least 1 patient"),
        ({"seed": -1}, "seed must be 0 or larger"),
        ({"positive_share": 1.2}, "positive_share"),
        ({"valid_share": -0.1}, "valid_share"),
        ({"kinds": ("rust",)}, "rust"),
        ({"kinds": ()}, "at least one of"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Arguments(**wrong)
