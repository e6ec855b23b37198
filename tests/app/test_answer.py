from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.app import answer
from anomalib_xray.app.answer import analyse, descriptions, distinct_labels, open_models
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.errors import XrayError
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph
from anomalib_xray.preparation.pipeline import Prepared

from .running import TESTS, Opened, Stand, jpeg, module_from, picture, png


def test_a_radiograph_and_what_every_model_says_of_it(models: Ensemble) -> None:
    image = picture(bright=0.45)
    opened = Opened.of(analyse(models, png(image), stages=True))
    header = opened.header
    assert header["notice"] == NOTICE
    assert (header["format"], header["height"], header["width"], header["bits"]) == ("PNG", 50, 40, 8)
    np.testing.assert_array_equal(opened.plane(header["picture"]), image)
    for (label, predictor), told in zip(models.predictors.items(), header["results"], strict=True):
        expected = predictor.predict(image)
        assert told["error"] is None
        assert told["label"] == label
        assert told["scores"] == expected.scores
        assert told["percentiles"] == expected.percentiles
        assert (told["score"], told["value"]) == ("brightest", expected.value)
        assert (told["threshold"], told["is_anomalous"]) == (expected.threshold, expected.is_anomalous)
        np.testing.assert_array_equal(opened.plane(told["heat_map"]), expected.heat_map)
        assert expected.heat_map is not None
        assert told["largest"] == expected.heat_map.max()
    assert header["results"][0]["is_anomalous"] is True
    assert header["results"][1]["is_anomalous"] is None
    assert header["results"][1]["percentiles"]["brightest"] is None


def test_stages_come_only_when_asked_for(models: Ensemble) -> None:
    for stages, names in ((True, ["inversion", "resize"]), (False, [])):
        opened = Opened.of(analyse(models, png(picture()), stages=stages))
        first, second = (result["views"][0] for result in opened.header["results"])
        assert [stage["name"] for stage in first["stages"]] == names
        assert second["stages"] == []
        for stage in first["stages"]:
            assert opened.plane(stage["picture"]).dtype == np.uint8
        if stages:
            assert max(opened.plane(first["stages"][1]["picture"]).shape) == 40


def test_every_format_is_known_by_its_content(models: Ensemble, make_dicom: Callable[..., bytes]) -> None:
    deep = picture().astype(np.uint16) * 16
    for content, name, bits in (
        (png(picture()), "PNG", 8),
        (png(deep), "PNG", 16),
        (jpeg(picture()), "JPEG", 8),
        (make_dicom(deep, bits=12, BodyPartExamined="HAND", ViewPosition="PA"), "DICOM", 16),
    ):
        header = Opened.of(analyse(models, content, stages=False)).header
        assert (header["format"], header["bits"]) == (name, bits)
    assert header["tags"] == header["tags"] | {"BodyPartExamined": "HAND", "ViewPosition": "PA"}
    assert "Doe" not in str(header)


def test_the_first_window_of_a_deep_picture_spans_its_foreground(models: Ensemble) -> None:
    deep = np.zeros((40, 50), np.uint16)
    deep[10:30, 10:40] = np.linspace(1000, 3000, 600).astype(np.uint16).reshape(20, 30)
    low, high = Opened.of(analyse(models, png(deep), stages=False)).header["windows"][0]
    assert low == pytest.approx(1000 + 0.001 * 2000, abs=2)
    assert high == pytest.approx(1000 + 0.999 * 2000, abs=2)
    for flat, window in ((np.zeros((9, 9), np.uint16), [0, 1]), (np.full((9, 9), 700, np.uint16), [0, 700])):
        assert Opened.of(analyse(models, png(flat), stages=False)).header["windows"] == [window]
    assert Opened.of(analyse(models, png(picture()), stages=False)).header["windows"] == [[0, 255]]


def test_large_pictures_are_reduced_by_means(models: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_LONGEST_PICTURE", 20)
    monkeypatch.setattr(answer, "_LONGEST_MAP", 10)
    image = cv2.resize(picture(), (40, 60))
    opened = Opened.of(analyse(models, png(image), stages=False))
    assert (opened.header["height"], opened.header["width"]) == (60, 40)
    reduced = opened.plane(opened.header["picture"])
    assert reduced.shape == (20, 13)
    assert reduced.mean() == pytest.approx(image.mean(), abs=0.5)
    assert max(opened.plane(opened.header["results"][1]["heat_map"]).shape) == 10


def test_a_model_that_fails_does_not_take_the_others_down(models: Ensemble) -> None:
    class Failing(Stand):
        def prepare(self, image: Radiograph) -> list[Prepared]:
            del image
            raise XrayError("The hand cannot be found.")

    cae, gan = models.predictors.values()
    asked = Ensemble([Failing(cae), gan], ["Broken", "AlphaGan"])
    header = Opened.of(analyse(asked, png(picture()), stages=True)).header
    assert header["results"][0] == {"label": "Broken", "error": "The hand cannot be found."}
    assert header["results"][1]["error"] is None


def test_models_of_one_preparation_share_it(models: Ensemble) -> None:
    class Counting(Stand):
        prepared = 0

        def prepare(self, image: Radiograph) -> list[Prepared]:
            self.prepared += 1
            return super().prepare(image)

    cae, gan = models.predictors.values()
    first, second, other = Counting(cae), Counting(cae), Counting(gan)
    header = Opened.of(analyse(Ensemble([first, second, other], ["0", "1", "2"]), png(picture()), stages=True)).header
    assert (first.prepared, second.prepared, other.prepared) == (1, 0, 1)
    alone = Opened.of(analyse(models, png(picture()), stages=True)).header
    for number, same in ((0, 0), (1, 0), (2, 1)):
        assert header["results"][number]["scores"] == alone["results"][same]["scores"]
    assert [stage["name"] for stage in header["results"][1]["views"][0]["stages"]] == ["inversion", "resize"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"GIF89a" + bytes(60), "The file is neither a PNG nor a JPEG nor a DICOM file"),
        (png(picture())[:200], "The file is damaged or truncated"),
        (
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0" + bytes(40),
            "The file declares 60000 x 60000 pixels; at most 40000000",
        ),
    ],
)
def test_what_is_no_radiograph_is_one_sentence(models: Ensemble, content: bytes, sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        analyse(models, content, stages=False)


@pytest.mark.parametrize("interpretation", ["MONOCHROME2", "MONOCHROME1"])
def test_the_window_of_a_dicom_file_is_the_first_view(
    models: Ensemble, make_dicom: Callable[..., bytes], interpretation: str
) -> None:
    stored = np.linspace(100, 4000, 2000).astype(np.uint16).reshape(40, 50)
    elements = {"RescaleSlope": 1, "RescaleIntercept": -50, "WindowCenter": [2000, 1500], "WindowWidth": [3500, 800]}
    content = make_dicom(stored, bits=12, interpretation=interpretation, **elements)
    opened = Opened.of(analyse(models, content, stages=False))
    assert opened.header["windows"] == [[250, 3750], [1100, 1900]]
    first, last = opened.header["ends"]
    assert (first, last) == ((50, 3950) if interpretation == "MONOCHROME2" else (3950, 50))
    plane = opened.plane(opened.header["picture"])
    values = first + (last - first) * plane / 65535  # in the file's own units again
    np.testing.assert_allclose(values, stored - 50.0, atol=0.1)
    # Through that window it is what the models see.
    seen = decode_radiograph(content, name="it").astype(float)
    shown = np.clip((values - 250) / 3500, 0, 1)
    shown = 1 - shown if interpretation == "MONOCHROME1" else shown
    np.testing.assert_allclose(shown, seen / 65535, atol=2 / 3500)


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": 90000, "WindowWidth": 10},
        {"WindowCenter": 2000, "WindowWidth": 0},
    ],
)
def test_without_a_window_that_shows_anything_a_dicom_file_is_shown_like_other_pictures(
    models: Ensemble, make_dicom: Callable[..., bytes], elements: dict[str, int | None]
) -> None:
    stored = np.linspace(1000, 3000, 2000).astype(np.uint16).reshape(40, 50)
    content = make_dicom(stored, bits=12, **{key: value for key, value in elements.items() if value is not None})
    ((low, high),) = Opened.of(analyse(models, content, stages=False)).header["windows"]
    assert low == pytest.approx(1002, abs=3)
    assert high == pytest.approx(2998, abs=3)


def test_what_was_not_looked_at_lies_outside_of_the_frame(bundles: list[Path], tmp_path: Path) -> None:
    write = module_from(TESTS / "edge" / "tiny_bundle.py").write_bundle
    carrier = np.zeros((400, 300), np.uint8)
    carrier[100:350, 50:250] = cv2.resize(picture(100, 80), (200, 250)) + 60
    preparation = "steps:\n  - carrier_crop\n  - resize: {longest_side: 40}\n"
    cropping = open_models([write(tmp_path / "crop", preparation=preparation)], precision=None, device="CPU", threads=1)
    (whole,) = Opened.of(
        analyse(open_models(bundles[:1], precision=None, device="CPU", threads=1), png(carrier), stages=False)
    ).header["results"]
    (cropped,) = Opened.of(analyse(cropping, png(carrier), stages=False)).header["results"]
    assert whole["frames"] == []
    (frame,) = cropped["frames"]
    np.testing.assert_allclose(frame, [[50, 100], [250, 100], [250, 350], [50, 350]], atol=12)


def test_patients_are_told_apart_and_not_named(models: Ensemble, make_dicom: Callable[..., bytes]) -> None:
    def owner(secret: bytes = b"secret", **elements: str | None) -> tuple[str | None, str | None]:
        content = make_dicom(picture(), **elements)
        message = analyse(models, content, stages=False, secret=secret)
        assert b"Doe" not in message
        assert b"4711" not in message
        header = Opened.of(message).header
        return header["patient"], header["study"]

    first = owner()
    assert all(first)
    assert owner(PatientID=" 4711 ", PatientName="Doe^Janet") == first
    assert owner(PatientID="4712")[0] not in (first[0], None)
    assert owner(StudyInstanceUID="1.2.9") == (first[0], owner(StudyInstanceUID="1.2.9")[1])
    assert owner(StudyInstanceUID="1.2.9")[1] != first[1]
    assert owner(b"another")[0] != first[0]
    assert owner(PatientID="", PatientBirthDate="19700101")[0] != owner(PatientID="", PatientBirthDate="19710101")[0]
    assert owner(PatientID="", PatientName=None) == (None, first[1])
    assert Opened.of(analyse(models, png(picture()), stages=False)).header["patient"] is None


def test_the_file_and_the_bundles_are_named(models: Ensemble, make_dicom: Callable[..., bytes]) -> None:
    header = Opened.of(analyse(models, make_dicom(picture()), stages=False)).header
    assert header["sop_instance_uid"] == "1.2.3.4"
    assert [result["bundle_digest"] for result in header["results"]] == [
        predictor.bundle.digest for predictor in models.predictors.values()
    ]


@pytest.mark.parametrize(
    ("models", "folders", "labels"),
    [
        (["Cae", "AlphaGan"], ["a", "b"], ["Cae", "AlphaGan"]),
        (["Cae", "Cae"], ["hands", "chests"], ["Cae (hands)", "Cae (chests)"]),
        (["Cae", "Cae", "Vae"], ["a", "a", "a"], ["Cae (a) 1", "Cae (a) 2", "Vae"]),
        (["Cae", "Cae"], ["", ""], ["Cae 1", "Cae 2"]),
    ],
)
def test_no_two_models_are_called_the_same(models: list[str], folders: list[str], labels: list[str]) -> None:
    assert distinct_labels(models, folders) == labels


def test_a_model_says_what_its_numbers_mean(models: Ensemble) -> None:
    first, second = descriptions(models)
    assert first["label"] == "Cae"
    assert first["precision"] == "fp32"
    assert first["scores"] == ["brightest", "mean"]
    assert first["thresholds"] == {"brightest": 0.4, "mean": None}
    assert first["pixel_threshold"] == 0.5
    assert first["map_limits"] == [0.0, 0.6]
    assert first["normal_images"] == 100
    assert first["prepares"]
    assert len(first["distribution"]["brightest"]) == 101
    assert not second["prepares"]
    assert second["distribution"] == {}


@pytest.mark.parametrize("count", [0, 9])
def test_too_few_and_too_many_bundles_are_refused(count: int, bundles: list[Path]) -> None:
    with pytest.raises(XrayError, match=f"{count} bundles cannot be shown: give 1 to 8"):
        open_models([bundles[0]] * count, precision=None, device="CPU", threads=None)
