from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pytest

from anomalib_xray.app.answer import Planes, secondary_capture
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import RESEARCH_ONLY, encode_secondary_capture, map_description

from .running import picture

pydicom = pytest.importorskip("pydicom")

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def message(source: bytes = b"", **changes: Any) -> bytes:
    header = {"height": 6, "width": 8, "keep_patient": False} | changes
    return Planes().message(header) + RGB.tobytes() + source


def test_the_picture_as_drawn_is_what_is_filed() -> None:
    stored = pydicom.dcmread(BytesIO(secondary_capture(message())))
    np.testing.assert_array_equal(stored.pixel_array, RGB)
    assert stored.BurnedInAnnotation == "YES"
    assert stored.ImageComments == RESEARCH_ONLY
    assert stored.SeriesDescription == "Anomaly map, research use only"


def test_the_patient_is_copied_only_where_it_is_asked_for(make_dicom: Callable[..., bytes]) -> None:
    source = make_dicom(picture(), BodyPartExamined="HAND")
    without = secondary_capture(message(source))
    assert b"Doe" not in without
    assert b"4711" not in without
    assert pydicom.dcmread(BytesIO(without)).BodyPartExamined == "HAND"
    kept = pydicom.dcmread(BytesIO(secondary_capture(message(source, keep_patient=True))))
    assert (kept.PatientID, kept.StudyInstanceUID) == ("4711", "1.2.3")
    assert kept.SourceImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4"


def test_captures_of_a_model_share_a_series_and_those_of_a_radiograph_a_study(
    make_dicom: Callable[..., bytes],
) -> None:
    source = make_dicom(picture(), ImagerPixelSpacing=[0.2, 0.2])
    captures = [
        pydicom.dcmread(BytesIO(secondary_capture(message(source, model=model, digest=digest, scale=scale))))
        for model, digest, scale in (("Cae", "a", 2), ("Cae", "a", 0.5), ("C\\ä\n" * 99, "", 0), ("Cae", "b", None))
    ]
    assert len({capture.StudyInstanceUID for capture in captures}) == 1
    assert len({capture.SeriesInstanceUID for capture in captures}) == 3
    assert captures[0].SeriesDescription == "Cae: anomaly map, research use"
    as_predicted = encode_secondary_capture(
        picture(), source=source, description=map_description("Cae"), series="a", scale=1.0
    )
    assert pydicom.dcmread(BytesIO(as_predicted)).SeriesInstanceUID == captures[0].SeriesInstanceUID
    spacings = [capture.get("NominalScannedPixelSpacing") for capture in captures]
    assert spacings == [[0.1, 0.1], [0.4, 0.4], None, None]


@pytest.mark.parametrize(
    "changes",
    [
        {"height": 600},
        {"height": 0},
        {"height": -6, "width": -8},
        {"width": "8"},
        {"height": 65536},
        {"height": 65535, "width": 65535},
        {"height": True},
        {"keep_patient": 1},
        {"keep_patient": None},
        {"model": 3},
        {"digest": None},
        {"scale": "2"},
        {"scale": True},
    ],
)
def test_a_damaged_request_is_one_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(XrayError, match="The request is damaged"):
        secondary_capture(message(**changes))


def test_the_patient_of_another_format_cannot_be_kept() -> None:
    with pytest.raises(XrayError, match="cannot keep the patient of the radiograph: that is not a DICOM file"):
        secondary_capture(message(b"\x89PNG\r\n\x1a\n", keep_patient=True))
