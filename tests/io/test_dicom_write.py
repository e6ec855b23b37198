from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import RESEARCH_ONLY, encode_secondary_capture, write_secondary_capture
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png

pydicom = pytest.importorskip("pydicom")

GREY = np.random.default_rng(0).integers(0, 256, (7, 5), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (7, 5, 3), dtype=np.uint8)

Make = Callable[..., bytes]


@pytest.fixture
def source(tmp_path: Path, make_dicom: Make) -> Path:
    path = tmp_path / "source.dcm"
    path.write_bytes(
        make_dicom(
            GREY,
            SpecificCharacterSet="ISO_IR 100",
            PatientName="Müller^Jörg",
            PatientBirthDate="19700101",
            StudyDate="20200202",
            AccessionNumber="A1",
            InstitutionName="Clinic",
            BodyPartExamined="HAND",
            ViewPosition="PA",
        )
    )
    return path


def test_grey_pixels_come_back(tmp_path: Path) -> None:
    write_secondary_capture(tmp_path / "new" / "a.dcm", GREY, description="Anomaly map")
    np.testing.assert_array_equal(read_radiograph(tmp_path / "new" / "a.dcm"), GREY)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.dcm"]


def test_colour_is_stored_as_a_viewer_expects_it(tmp_path: Path) -> None:
    write_secondary_capture(tmp_path / "a.dcm", COLOUR, description="Overlay")
    stored = pydicom.dcmread(tmp_path / "a.dcm")
    assert stored.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(stored.pixel_array, COLOUR[:, :, ::-1])


def test_it_says_what_it_is(tmp_path: Path) -> None:
    write_secondary_capture(tmp_path / "a.dcm", GREY, description="Übersicht", annotated=False)
    stored = pydicom.dcmread(tmp_path / "a.dcm")
    assert stored.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert stored.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert stored.file_meta.MediaStorageSOPInstanceUID == stored.SOPInstanceUID
    assert list(stored.ImageType) == ["DERIVED", "SECONDARY"]
    assert stored.ImageComments == RESEARCH_ONLY == "Research use only. Not a medical device."
    assert stored.SeriesDescription == stored.DerivationDescription == "Übersicht"
    assert stored.BurnedInAnnotation == "NO"
    write_secondary_capture(tmp_path / "a.dcm", GREY, description="Overlay")
    assert pydicom.dcmread(tmp_path / "a.dcm").BurnedInAnnotation == "YES"


def test_without_being_asked_nothing_leads_back_to_the_patient(tmp_path: Path, source: Path) -> None:
    write_secondary_capture(tmp_path / "a.dcm", GREY, source=source, description="Overlay")
    content = (tmp_path / "a.dcm").read_bytes()
    original = pydicom.dcmread(source)
    for secret in (b"M\xfcller", "Müller".encode(), b"4711", b"19700101", b"20200202", b"A1 ", b"Clinic"):
        assert secret not in content
    stored = pydicom.dcmread(tmp_path / "a.dcm")
    assert stored.PatientName == stored.PatientID == stored.StudyDate == stored.AccessionNumber == ""
    assert stored.StudyInstanceUID != original.StudyInstanceUID
    assert "SourceImageSequence" not in stored
    assert (stored.BodyPartExamined, stored.ViewPosition, stored.Modality) == ("HAND", "PA", "OT")


def test_the_patient_is_kept_on_request(tmp_path: Path, source: Path) -> None:
    write_secondary_capture(tmp_path / "a.dcm", GREY, source=source, description="Overlay", keep_patient=True)
    stored, original = pydicom.dcmread(tmp_path / "a.dcm"), pydicom.dcmread(source)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "StudyInstanceUID", "StudyDate", "AccessionNumber"):
        assert stored[keyword].value == original[keyword].value
    assert str(stored.PatientName) == "Müller^Jörg"
    (reference,) = stored.SourceImageSequence
    assert reference.ReferencedSOPClassUID == original.SOPClassUID
    assert reference.ReferencedSOPInstanceUID == original.SOPInstanceUID
    assert stored.SOPInstanceUID != original.SOPInstanceUID
    assert "InstitutionName" not in stored


def test_the_same_result_has_the_same_bytes_and_another_one_other_identifiers(tmp_path: Path, source: Path) -> None:
    def written(picture: np.ndarray, **settings: Any) -> bytes:
        write_secondary_capture(tmp_path / "a.dcm", picture, **({"description": "Overlay"} | settings))
        return (tmp_path / "a.dcm").read_bytes()

    def identifier(content: bytes) -> str:
        (tmp_path / "b.dcm").write_bytes(content)
        return str(pydicom.dcmread(tmp_path / "b.dcm").SOPInstanceUID)

    made = datetime(2026, 1, 2, 3, 4, 5)
    assert written(GREY, made=made) == written(GREY, made=made)
    assert identifier(written(GREY, made=made)) == identifier(written(GREY, made=made + timedelta(days=1)))
    variants = [
        written(GREY),
        written(GREY + 1),
        written(GREY.reshape(5, 7)),
        written(GREY, description="Map"),
        written(GREY, source=source, keep_patient=True),
    ]
    assert len({identifier(variant) for variant in variants}) == len(variants)


def test_a_source_that_is_no_dicom_gives_nothing(tmp_path: Path) -> None:
    write_png(tmp_path / "source.png", GREY)
    write_secondary_capture(tmp_path / "a.dcm", GREY, source=tmp_path / "source.png", description="Overlay")
    assert read_radiograph(tmp_path / "a.dcm").shape == GREY.shape
    for source in (tmp_path / "source.png", None):
        with pytest.raises(XrayError, match=r"a\.dcm cannot keep the patient"):
            write_secondary_capture(tmp_path / "a.dcm", GREY, source=source, description="Overlay", keep_patient=True)


@pytest.mark.parametrize(
    ("picture", "description"),
    [
        (GREY.astype(np.uint16), "a"),
        (GREY[0], "a"),
        (np.dstack([COLOUR, GREY]), "a"),
        (GREY[:0], "a"),
        (GREY, ""),
        (GREY, "a" * 65),
        (GREY, "a\\b"),
        (GREY, "a\nb"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path: Path, picture: np.ndarray, description: str) -> None:
    with pytest.raises(XrayError, match=r"a\.dcm"):
        write_secondary_capture(tmp_path / "a.dcm", picture, description=description)
    assert not any(tmp_path.iterdir())


def test_a_damaged_source_is_named(tmp_path: Path, source: Path) -> None:
    source.write_bytes(source.read_bytes()[:300])
    with pytest.raises(XrayError, match=r"source\.dcm is damaged"):
        write_secondary_capture(tmp_path / "a.dcm", GREY, source=source, description="Overlay", keep_patient=True)


MADE = datetime(2026, 1, 2, 3, 4, 5)
PNG = b"\x89PNG\r\n\x1a\n and so on"


def captured(source: bytes = PNG, model: str = "Cae", picture: np.ndarray = COLOUR, **settings: Any) -> Any:
    encoded = encode_secondary_capture(
        picture, source=source, description=f"{model}: anomaly map", series="ab" * 32, made=MADE, **settings
    )
    return pydicom.dcmread(BytesIO(encoded))


@pytest.mark.parametrize("keep_patient", [False, True])
def test_results_about_a_radiograph_share_a_study_with_a_series_for_each_model(
    make_dicom: Make, keep_patient: bool
) -> None:
    sources = [make_dicom(GREY + level, SOPInstanceUID=f"1.2.3.{level}", InstanceNumber=level) for level in (1, 2)]
    sources = sources if keep_patient else [*sources, PNG, PNG + b"2"]
    results = {
        (at, model): captured(source, model, keep_patient=keep_patient)
        for at, source in enumerate(sources)
        for model in ("Cae", "Vae")
    }
    for at in range(len(sources)):
        one, other = results[at, "Cae"], results[at, "Vae"]
        assert one.StudyInstanceUID == other.StudyInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
        assert one.SeriesNumber != other.SeriesNumber
    assert len({result.SOPInstanceUID for result in results.values()}) == len(results)
    studies = {result.StudyInstanceUID for result in results.values()}
    assert studies == {"1.2.3"} if keep_patient else len(studies) == len(sources)
    series = {result.SeriesInstanceUID for (_, model), result in results.items() if model == "Cae"}
    assert len(series) == (1 if keep_patient else len(sources))
    if keep_patient:
        assert [results[at, "Cae"].InstanceNumber for at in (0, 1)] == [1, 2]


def test_instances_of_several_series_are_told_apart_by_their_numbers(make_dicom: Make) -> None:
    numbers = [
        captured(make_dicom(GREY, SeriesNumber=series, InstanceNumber=instance), keep_patient=True).InstanceNumber
        for series, instance in (("", ""), (2, 1), (3, 1), (1, 5000), ("", 7))
    ]
    assert numbers == [1, 2001, 3001, 1, 7]


def test_a_result_is_dated_and_numbered_and_keeps_the_date_of_its_study(make_dicom: Make) -> None:
    result = captured(make_dicom(GREY, StudyDate="20200202", StudyTime="0102"), keep_patient=True)
    for keyword in ("InstanceCreation", "Series", "Content"):
        assert (result[f"{keyword}Date"].value, result[f"{keyword}Time"].value) == ("20260102", "030405")
    assert (result.DateOfSecondaryCapture, result.TimeOfSecondaryCapture) == ("20260102", "030405")
    assert (result.StudyDate, result.StudyTime) == ("20200202", "0102")
    assert 9000 <= result.SeriesNumber < 10000
    assert result.ConversionType == "WSD"
    assert result.SourceImageSequence[0].PurposeOfReferenceCodeSequence[0].CodeValue == "121322"


@pytest.mark.parametrize(
    ("spacing", "expected"),
    [
        ({"PixelSpacing": [0.1, 0.2], "ImagerPixelSpacing": [0.3, 0.3]}, {"PixelSpacing": [0.05, 0.1]}),
        ({"ImagerPixelSpacing": [0.3, 0.3]}, {"NominalScannedPixelSpacing": [0.15, 0.15]}),
        ({"ImagerPixelSpacing": [0, 0]}, {}),
        ({}, {}),
    ],
)
def test_lengths_follow_from_the_scale(
    make_dicom: Make, spacing: dict[str, Any], expected: dict[str, list[float]]
) -> None:
    result = captured(make_dicom(GREY, **spacing), scale=2.0)
    found = {key: list(result[key].value) for key in ("PixelSpacing", "NominalScannedPixelSpacing") if key in result}
    assert found == expected
    assert "PixelSpacing" not in captured(make_dicom(GREY, **spacing))


@pytest.mark.parametrize(
    ("sides", "laterality", "image_laterality"),
    [
        ({}, "", None),
        ({"Laterality": "L"}, "L", None),
        ({"Laterality": "U"}, "", None),
        ({"ImageLaterality": "R"}, None, "R"),
        ({"Laterality": "L", "ImageLaterality": "U"}, None, "U"),
        ({"Laterality": "L", "BodyPartExamined": "CSPINE"}, None, None),
        ({"BodyPartExamined": "CHEST"}, None, None),
    ],
)
def test_the_side_is_said_once_or_said_to_be_unknown(
    make_dicom: Make, sides: dict[str, str], laterality: str | None, image_laterality: str | None
) -> None:
    result = captured(make_dicom(GREY, **sides))
    assert (result.get("Laterality"), result.get("ImageLaterality")) == (laterality, image_laterality)


def test_a_source_without_identifiers_is_not_referred_to(make_dicom: Make) -> None:
    content = make_dicom(GREY, StudyInstanceUID="", SeriesNumber="", InstanceNumber="")
    at = content.rindex(b"\x08\0\x18\0UI")
    result = captured(content[:at] + content[at + 8 + content[at + 6] :], keep_patient=True)
    assert "SourceImageSequence" not in result
    assert result.StudyInstanceUID
    assert result.PatientID == "4711"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (Debian: dicom3tools) is not installed")
@pytest.mark.parametrize("keep_patient", [False, True])
@pytest.mark.parametrize(
    "elements",
    [
        None,
        {},
        {"Laterality": "B", "BodyPartExamined": "HAND", "ViewPosition": "PA", "PixelSpacing": [0.1, 0.1]},
        {"Laterality": "L", "BodyPartExamined": "CSPINE", "ViewPosition": "AP"},
        {"BodyPartExamined": "CHEST", "ViewPosition": "PA"},
        {"ImageLaterality": "L", "BodyPartExamined": "HAND", "ImagerPixelSpacing": [0.1, 0.1], "PatientSex": "F"},
        {"PatientName": "Müller^Jörg", "SpecificCharacterSet": "ISO_IR 100", "StudyDate": "20200202", "StudyID": "1"},
    ],
)
def test_a_validator_finds_no_error(
    make_dicom: Make, tmp_path: Path, elements: dict[str, Any] | None, keep_patient: bool
) -> None:
    if elements is None and keep_patient:
        return
    source = PNG if elements is None else make_dicom(GREY, **elements)
    for picture in (GREY, COLOUR):
        captured(source, picture=picture, keep_patient=keep_patient, scale=1.5).save_as(tmp_path / "a.dcm")
        found = subprocess.run(["dciodvfy", str(tmp_path / "a.dcm")], capture_output=True, text=True, check=False)
        assert "SCImage" in found.stderr
        assert "Error" not in found.stderr
