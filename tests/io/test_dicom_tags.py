from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_tags import read_tags

pytest.importorskip("pydicom")

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
PICTURE = {"PhotometricInterpretation": "MONOCHROME2", "Rows": "6", "Columns": "8", "BitsStored": "8"}

Make = Callable[..., bytes]


def test_what_is_kept(make_dicom: Make, tmp_path: Path) -> None:
    content = make_dicom(
        GREY,
        Modality="CR",
        BodyPartExamined="HAND",
        ImageLaterality="L",
        ViewPosition="PA",
        ImagerPixelSpacing=[0.1, 0.105],
        PixelSpacing=["0.14", "0.14"],
    )
    expected = {
        "Modality": "CR",
        "BodyPartExamined": "HAND",
        "ImageLaterality": "L",
        "ViewPosition": "PA",
        "ImagerPixelSpacing": "0.1\\0.105",
        "PixelSpacing": "0.14\\0.14",
        **PICTURE,
    }
    assert read_tags(content) == expected
    (tmp_path / "a").write_bytes(content)
    assert read_tags(tmp_path / "a") == expected
    assert read_tags(str(tmp_path / "a")) == expected


@pytest.mark.parametrize(
    "elements",
    [
        {"PatientSex": "F", "PatientBirthDate": "19700101", "InstitutionName": "Clinic", "StudyDescription": "HAND"},
        {"BodyPartExamined": "DOE JANE", "ViewPosition": "DOE", "Modality": "XX", "ImageLaterality": "DOE"},
        {"BodyPartExamined": ["HAND", "DOE"], "ViewPosition": ""},
        {"PixelSpacing": ["19700101", "0.1"], "ImagerPixelSpacing": ["0.1"]},
        {"PixelSpacing": ["-1", "0.1"], "ImagerPixelSpacing": ["0.1", "0.1", "0.1"]},
    ],
)
def test_what_is_not_kept(make_dicom: Make, elements: dict[str, Any]) -> None:
    assert read_tags(make_dicom(GREY, **elements)) == PICTURE


def test_values_that_cannot_be_understood_are_dropped(make_dicom: Make) -> None:
    content = make_dicom(GREY, PixelSpacing=["0.1415", "0.1415"], Modality="CR").replace(b"0.1415", b"DoeDoe", 1)
    assert read_tags(content) == {"Modality": "CR", **PICTURE}


def test_other_files_have_no_tags() -> None:
    assert read_tags(cv2.imencode(".png", GREY)[1].tobytes()) == {}
    assert read_tags(b"") == {}


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="missing"):
        read_tags(tmp_path / "missing")


def test_a_deflated_file_has_tags_too(make_dicom: Make) -> None:
    assert read_tags(make_dicom(GREY, syntax="1.2.840.10008.1.2.1.99")) == PICTURE
