from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import RESEARCH_ONLY, write_secondary_capture
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

    assert written(GREY) == written(GREY)
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
