"""The few elements that are read from a DICOM file beside its pixels."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.io.dicom_dataset import read_elements, reading_dicom, standard_file
from anomalib_xray.io.dicom_header import value_of
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.read import read_bytes

if TYPE_CHECKING:
    from pydicom import Dataset


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SIDES = _words("R L U B")
_WORDS: Mapping[str, frozenset[str]] = {
    "Modality": _words("CR CT DX IO MG MR NM OT PT PX RF RG SC US XA XC"),
    "BodyPartExamined": _words("""
        ABDOMEN ABDOMENPELVIS ACJOINT ANKLE ARM BREAST CALCANEUS CERVICALSPINE CHEST CHESTABDOMEN CLAVICLE COCCYX CSPINE
        CTSPINE ELBOW EXTREMITY FEMUR FINGER FOOT FOREARM HAND HEAD HIP HUMERUS JAW KNEE LEG LOWERLEG LSPINE LSSPINE
        LUMBARSPINE MANDIBLE MAXILLA NECK ORBIT PATELLA PELVIS RADIUSULNA RIB SACRUM SCAPULA SHOULDER SIJOINT SINUS
        SKULL SPINE SSPINE STERNUM THIGH THORACICSPINE THUMB TIBIAFIBULA TLSPINE TMJ TOE TSPINE UPPERARM WHOLEBODY WRIST
        ZYGOMA
    """),
    "Laterality": _SIDES,
    "ImageLaterality": _SIDES,
    "ViewPosition": _words("""
        AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO LAT LATERAL ML LM MLO CC XCCL OBL OBLIQUE AXIAL TANGENTIAL SUNRISE
        DORSOPALMAR PALMODORSAL DP
    """),
    "PhotometricInterpretation": _words("MONOCHROME1 MONOCHROME2 RGB YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT")
    | {"PALETTE COLOR"},
}
"""Words that are kept, by keyword; from PS3.3 and, for body parts, PS3.16 annex L. A person's name is none of them."""

_BESIDE = _words("L R LT RT LEFT RIGHT BOTH BILATERAL VIEW XR")
"""Words that devices write beside a body part or a view."""

_UID = re.compile(r"(?=.{1,64}$)\d+(\.\d+)*")
_COUNTS = ("Rows", "Columns", "BitsStored")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
_SPACING = re.compile(r"\d{1,2}(\.\d{1,8})?")


def read_tags(source: str | Path | bytes) -> dict[str, str]:
    """Read what a DICOM file says about its radiograph, and nothing about the patient.

    Only the elements named here are ever read, and only values out of closed lists and numbers of a plausible form are
    kept: an element that is meant for a code is where a person's name lands by mistake.

    Args:
        source: Path or content of the file.

    Returns:
        Those of ``Modality``, ``BodyPartExamined``, ``Laterality``, ``ImageLaterality``, ``ViewPosition``,
        ``PhotometricInterpretation``, ``Rows``, ``Columns``, ``BitsStored``, ``PixelSpacing`` and
        ``ImagerPixelSpacing`` (millimetres between rows and between columns, divided by a backslash) that the file has
        and that are kept. Empty for a file that is not DICOM.

    Raises:
        XrayError: The file cannot be read, or is damaged, or pydicom is missing.
    """
    content = source if isinstance(source, bytes) else read_bytes(source)
    name = "The file" if isinstance(source, bytes) else str(source)
    if not is_dicom(content):
        return {}
    with reading_dicom(name):
        data_set, _ = read_elements(standard_file(content, name), (*_WORDS, *_COUNTS, *_SPACINGS))
        return {keyword: text for keyword, text in _texts(data_set) if text}


def read_sop_instance_uid(content: bytes) -> str | None:
    """The unique identifier of a DICOM file, by which an archive finds it.

    ``None`` for a file that is not DICOM, or has none of the right form.
    """
    if not is_dicom(content):
        return None
    with reading_dicom("The file"):
        data_set, _ = read_elements(standard_file(content, "The file"), ("SOPInstanceUID",))
        uid = str(value_of(data_set, "SOPInstanceUID", whole=True) or "")
    return uid if _UID.fullmatch(uid) else None


def read_owner(content: bytes) -> tuple[str, str]:
    """The patient and the study of a DICOM file, to tell files of different people apart; never to be shown.

    The patient is the id, or name and date of birth without one. Both are trimmed and in one Unicode form, and empty if
    the file does not say, or is not DICOM.
    """
    if not is_dicom(content):
        return "", ""
    keywords = ("SpecificCharacterSet", "PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID")
    with reading_dicom("The file"):
        data_set, _ = read_elements(standard_file(content, "The file"), keywords)
        values = [str(value_of(data_set, keyword, whole=True) or "") for keyword in keywords[1:]]
    patient, name, birth, study = (unicodedata.normalize("NFC", value).strip() for value in values)
    name = name.rstrip("^= ")
    return patient or (f"{name} {birth}" if name else ""), study


def known_word(text: str, keyword: str) -> str:
    """The word of a closed list that a text means; empty for none, for several, or if it says more.

    >>> known_word("LEFT HAND", "BodyPartExamined"), known_word("C-SPINE", "BodyPartExamined")
    ('HAND', 'CSPINE')
    """
    words = _WORDS[keyword]
    upper = text.strip().upper()
    if upper in words or keyword not in ("BodyPartExamined", "ViewPosition"):
        return upper if upper in words else ""
    parts = [part for part in re.split(r"[^A-Z]+", upper) if part]
    without_side = [part for part in parts if part not in _BESIDE]
    for candidate in ("".join(parts), "".join(without_side)):
        for whole in (candidate, candidate.removesuffix("S")):
            if whole in words:
                return whole
    return ""


def _texts(data_set: Dataset) -> Iterator[tuple[str, str]]:
    """The elements that are kept, by keyword."""
    for keyword in (*_WORDS, *_COUNTS, *_SPACINGS):
        value = value_of(data_set, keyword, whole=True)
        if keyword in _WORDS:
            yield keyword, known_word(value, keyword) if isinstance(value, str) else ""
        elif keyword in _COUNTS:
            yield keyword, str(value) if isinstance(value, int) else ""
        elif isinstance(value, list) or hasattr(value, "append"):
            numbers = [str(number) for number in value]
            if len(numbers) == 2 and all(map(_SPACING.fullmatch, numbers)):
                yield keyword, "\\".join(numbers)
