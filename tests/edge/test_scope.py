from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.commands.predict import predict
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.overlay import draw_overlay
from anomalib_xray.edge.predictor import open_predictor
from anomalib_xray.edge.scope import BODY_PART, VIEW, Scope, normalised, tags_of
from anomalib_xray.io.dicom_write import write_secondary_capture
from anomalib_xray.io.write import write_png

from .tiny_bundle import write_bundle

HANDS = Scope(("HAND",), ("PA",), (100, 400))
FINE = (200, 300)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("HAND", "HAND"), ("hand", "HAND"), (" Hand ", "HAND"), ("HANDS", "HAND"), ("LEFT HAND", "HAND"),
        ("Hand_R", "HAND"), ("XR_HAND", "HAND"), ("RADIUSULNA", "FOREARM"), ("C-SPINE", "CERVICALSPINE"),
        ("cervical spine", "CERVICALSPINE"), ("UPPER ARM", "HUMERUS"), ("LOWER ARM", ""), ("HAND WRIST", ""),
        ("JANE DOE", ""), ("", ""), ("S", ""), ("PELVIS", "PELVIS"),
    ],
)  # fmt: skip
def test_one_word_for_a_body_part(text: str, word: str) -> None:
    assert normalised(text, BODY_PART) == word


@pytest.mark.parametrize(
    ("text", "word"), [("pa", "PA"), ("DP", "PA"), ("Lateral", "LAT"), ("LL", "LAT"), ("RAO", "OBL"), ("PA LAT", "")]
)
def test_one_word_for_a_view(text: str, word: str) -> None:
    assert normalised(text, VIEW) == word


@pytest.mark.parametrize(
    ("tags", "shape", "reasons"),
    [
        ({}, FINE, []),
        ({BODY_PART: "HAND", VIEW: "DP"}, FINE, []),
        ({BODY_PART: "EXTREMITY"}, FINE, []),
        ({BODY_PART: "FOREARM"}, FINE, ["its body part is FOREARM, and the model was made for HAND"]),
        ({VIEW: "LL"}, FINE, ["its view is LAT, and the model was made for PA"]),
        ({}, (50, 1600), []),
        ({}, (49, 300), ["it has 300 x 49 pixels, and the model was made for sides of 100 to 400"]),
        ({}, (200, 1601), ["it has 1601 x 200 pixels, and the model was made for sides of 100 to 400"]),
    ],
)
def test_what_contradicts(tags: dict[str, str], shape: tuple[int, int], reasons: list[str]) -> None:
    assert HANDS.contradictions(tags, shape) == reasons
    assert Scope().contradictions(tags, shape) == []


def test_an_extremity_is_no_chest() -> None:
    assert Scope(("CHEST",)).contradictions({BODY_PART: "EXTREMITY"}, FINE)
    assert not Scope(("EXTREMITY",)).contradictions({BODY_PART: "WRIST"}, FINE)


def test_the_scope_of_images() -> None:
    tags = [{BODY_PART: "HAND", VIEW: "PA"}, {BODY_PART: "hand"}, {BODY_PART: "Wrist", VIEW: "AP"}]
    assert Scope.of(tags, [(10, 30), (50, 20), (25, 25)]) == Scope(("HAND", "WRIST"), ("AP", "PA"), (10, 50))
    assert Scope.of([*tags, {}, {}, {VIEW: "PA"}], [(10, 30)]) == Scope(("HAND", "WRIST"), ("AP", "PA"), (10, 30))
    assert Scope.of([*tags, {}, {}, {}, {}], [(10, 30)]) == Scope((), (), (10, 30))
    assert Scope.of([], []) == Scope()


def dicom(path: Path, **elements: str) -> Path:
    """A DICOM file of 24 x 18 pixels of the level 102."""
    pydicom = pytest.importorskip("pydicom")
    write_secondary_capture(path, np.full((24, 18), 102, np.uint8), description="generated")
    data_set = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
    data_set.save_as(path)
    return path


@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")
def test_tags_of_mura_and_of_dicom(tmp_path: Path) -> None:
    assert tags_of(b"png", Path("MURA-v1.1/train/XR_FOREARM/patient1/study1_negative/a.png")) == {BODY_PART: "FOREARM"}
    assert tags_of(b"png", Path("XR_HAND.png")) == {}
    file = dicom(tmp_path / "a.dcm", BodyPartExamined="Hand", ViewPosition="pa")
    assert {BODY_PART: "HAND", VIEW: "PA"}.items() <= tags_of(file.read_bytes(), Path("XR_WRIST/a")).items()


def grey(level: int, shape: tuple[int, int] = (24, 18)) -> np.ndarray:
    return np.full(shape, level, np.uint8)


def test_a_contradiction_takes_the_verdict_away(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", scope={"body_parts": ["HAND"], "views": [], "sides": [18, 24]})
    predictor = open_predictor(folder, threads=1)
    fine = predictor.predict(grey(102), tags={BODY_PART: "HAND"})
    assert (fine.not_comparable, fine.verdict, fine.is_anomalous) == ((), "anomalous", True)
    arm = predictor.predict(grey(102), tags={BODY_PART: "ARM"})
    assert arm.verdict == "not comparable: its body part is ARM, and the model was made for HAND"
    assert arm.is_anomalous is None
    assert (arm.value, arm.percentile) == (fine.value, fine.percentile)
    tiny = predictor.predict(grey(102, (8, 8)))
    assert tiny.not_comparable == ("it has 8 x 8 pixels, and the model was made for sides of 18 to 24",)
    # The reasons stand in the picture, below what is there otherwise.
    assert len(draw_overlay(grey(102), arm, "a")) > len(draw_overlay(grey(102), fine, "a"))


def test_a_score_below_all_normal_ones_is_not_comparable(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", data={"images": 38, "normal": 17, "abnormal": 21})
    predictor = open_predictor(folder, threads=1)
    below = "its score is below those of all 17 normal images, as strange as one above them all"
    assert predictor.predict(grey(50)).verdict == f"not comparable: {below}"
    assert predictor.predict(grey(51)).not_comparable == ()  # the smallest of the normal ones, .2
    assert predictor.predict(grey(255)).verdict == "anomalous"


@pytest.mark.parametrize(
    ("steps", "flag"),
    [("otsu_filter", "no_foreground"), ("hands", "no_hand"), ("foreground: {method: flat}", "no_foreground")],
)
def test_a_preparation_that_failed_is_not_comparable(tmp_path: Path, steps: str, flag: str) -> None:
    folder = write_bundle(tmp_path / "b", preparation=f"steps:\n  - {steps}\n", distribution={})
    result = open_predictor(folder, threads=1).predict(grey(0, (64, 64)))
    assert result.verdict == f"not comparable: the preparation failed ({flag})"


@pytest.mark.parametrize("stream", [False, True])
def test_predict_says_so_wherever_it_says_something(
    tmp_path: Path, stream: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    scope: dict[str, Any] = {"body_parts": ["HAND"], "views": [], "sides": None}
    folder = write_bundle(tmp_path / "b", scope=scope)
    images = [
        dicom(tmp_path / "arm.dcm", BodyPartExamined="ARM", SOPInstanceUID="1.2.3"),
        tmp_path / "XR_WRIST" / "wrist.png",
        tmp_path / "plain.png",
    ]
    for path in images[1:]:
        write_png(path, grey(102))
    assert predict(images, [folder], tmp_path / "out", stream=stream) == 0
    printed = capsys.readouterr().out
    if stream:
        entries = [json.loads(line) for line in printed.splitlines()]
    else:
        entries = json.loads((tmp_path / "out" / "scores.json").read_text())["images"]
        with (tmp_path / "out" / "scores.csv").open() as file:
            labels = [row["label"] for row in csv.DictReader(file)]
        assert labels == [entry["bundles"]["Tiny"]["label"] for entry in entries]
        assert all(label in printed for label in labels)
    said = [entry["bundles"]["Tiny"] for entry in entries]
    made_for = "and the model was made for HAND"
    assert [of_image["not_comparable"] for of_image in said] == [
        [f"its body part is ARM, {made_for}"], [f"its body part is WRIST, {made_for}"], [],
    ]  # fmt: skip
    assert said[0]["label"] == f"not comparable: its body part is ARM, {made_for}"
    assert said[2]["label"] == "anomalous"
    assert [entry["sop_instance_uid"] for entry in entries] == ["1.2.3", None, None]
    digest = hashlib.sha256((folder / "bundle.json").read_bytes()).hexdigest()
    assert {of_image["bundle_digest"] for of_image in said} == {digest}


def test_what_is_not_comparable_is_not_fused(tmp_path: Path) -> None:
    scope: dict[str, Any] = {"body_parts": ["HAND"], "views": [], "sides": None}
    folders = [write_bundle(tmp_path / "a"), write_bundle(tmp_path / "b", scope=scope)]
    ensemble = Ensemble([open_predictor(folder, threads=1) for folder in folders])
    hand, chest = (ensemble.predict(grey(102), tags={BODY_PART: part}) for part in ("HAND", "CHEST"))
    assert ensemble.fused(hand) == pytest.approx(50, abs=1e-2)
    assert ensemble.fused(chest) is None
