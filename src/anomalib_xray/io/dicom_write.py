"""Results as DICOM secondary captures, so that an archive files them beside their radiographs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_dataset import UnusableError, read_elements, reading_dicom, standard_file
from anomalib_xray.io.dicom_header import number_of
from anomalib_xray.io.dicom_tags import read_tags
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.read import read_bytes
from anomalib_xray.io.write import write_atomically

if TYPE_CHECKING:
    from pydicom import Dataset

RESEARCH_ONLY = "Research use only. Not a medical device."
"""Comment in every file."""

_MAKER = "anomalib-xray"
_PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Elements that an archive files by; copied only where it is asked for."""
_SOURCE = ("SOPClassUID", "SOPInstanceUID")
_REQUIRED_EMPTY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName", "PatientOrientation", "Manufacturer",
)  # fmt: skip
_COUNTED = ("SeriesNumber", "InstanceNumber")
_UNPAIRED = frozenset((
    "ABDOMEN", "ABDOMENPELVIS", "CHEST", "CHESTABDOMEN", "COCCYX", "CSPINE", "CTSPINE", "HEAD", "JAW", "LSPINE",
    "LSSPINE", "MAXILLA", "NECK", "PELVIS", "SKULL", "SPINE", "SSPINE", "STERNUM", "TLSPINE", "TSPINE", "WHOLEBODY",
))  # fmt: skip
"""Body parts of which there is one, so that a side must not be said (PS3.3, section C.7.3.1; PS3.16, annex L)."""

_ABOUT_THE_RADIOGRAPH = ("BodyPartExamined", "Laterality", "ImageLaterality", "ViewPosition")
_FIRST_SERIES = 9000
"""Series of results stand behind those of devices; their last three digits come from their descriptions."""
_INSTANCES_PER_SERIES = 1000
_LONGEST_DESCRIPTION = 64


def write_secondary_capture(
    path: str | Path, picture: NDArray[np.uint8], *, source: str | Path | None = None, **settings: Any
) -> None:
    """Write a result as a DICOM file; settings and errors as of :func:`encode_secondary_capture`.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        picture: (H, W), or (H, W, 3) in OpenCV's order BGR; uint8.
        source: The radiograph of the result; body part, side and view are copied from a DICOM file.
        **settings: Settings of :func:`encode_secondary_capture`.
    """
    content = b"" if source is None else read_bytes(source)
    names: dict[str, Any] = {"name": str(path), "source_name": str(path if source is None else source)}
    write_atomically(path, encode_secondary_capture(picture, source=content, **names, **settings))


def encode_secondary_capture(
    picture: NDArray[np.uint8],
    *,
    source: bytes = b"",
    description: str,
    keep_patient: bool = False,
    annotated: bool = True,
    series: str = "",
    scale: float | None = None,
    made: datetime | None = None,
    name: str = "The secondary capture",
    source_name: str = "the source",
) -> bytes:
    """Encode a picture as a derived secondary capture image, uncompressed.

    Identifiers are computed from the content, so that the same result made again takes the place of the first one in an
    archive. All results about one source share a study, and those of one description and series within it share a
    series. Without ``keep_patient`` the file names no patient and no study and does not refer to its source, whose
    identifiers would lead back to the patient.

    Args:
        picture: (H, W), or (H, W, 3) in OpenCV's order BGR; uint8.
        source: Content of the radiograph's file; empty without one.
        description: Name of the series, in at most 64 characters.
        keep_patient: Whether to copy the patient and the study from the source, which must then be DICOM, and to refer
            to it, so that an archive files the result there.
        annotated: Whether text is drawn into the picture, such as a score or a file's name.
        series: Text that tells its series apart from others of the same description, e.g. the digest of a bundle.
        scale: Pixels of the picture per pixel of the source, from which lengths in the picture follow; ``None`` if they
            cannot be measured.
        made: Time of making; now by default.
        name: Name of the result in messages.
        source_name: Name of the source in messages.

    Returns:
        The DICOM file.

    Raises:
        XrayError: The picture or the description cannot be stored, the source cannot be read or is not DICOM although
            it must be, or pydicom is missing.
    """
    if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or picture.shape[2:] not in ((), (3,)):
        raise XrayError(f"{name} cannot hold a picture of shape {picture.shape} and type {picture.dtype}; give uint8.")
    if 0 in picture.shape or max(picture.shape) >= 2**16:
        raise XrayError(f"{name} cannot hold a picture of shape {picture.shape}; a side has 1 to 65535 pixels.")
    if not description.isprintable() or "\\" in description or not 0 < len(description) <= _LONGEST_DESCRIPTION:
        raise XrayError(
            f"The description of {name} must be 1 to {_LONGEST_DESCRIPTION} characters without a backslash."
        )
    if keep_patient and not is_dicom(source):
        raise XrayError(f"{name} cannot keep the patient of {source_name}: that is not a DICOM file.")
    tags = read_tags(source)
    with reading_dicom(source_name):
        original = None
        if keep_patient:
            whole = standard_file(source, source_name)
            original, end = read_elements(whole, (*_PATIENT_AND_STUDY, *_SOURCE, *_COUNTED))
            if end >= len(whole):
                raise UnusableError("is damaged: it ends before its picture; give the whole file.")
        data_set = _result(picture, description, tags, original, annotated=annotated)
        data_set.update(_lengths(tags, scale))
        _date(data_set, made or datetime.now())
        _name(data_set, picture, [description, series], hashlib.sha256(source or picture.tobytes()).hexdigest())
        encoded = BytesIO()
        data_set.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()


def map_description(model: str) -> str:
    """The description of a series of anomaly maps of a model, whatever its name.

    >>> map_description("cae")
    'cae: anomaly map, research use'
    """
    name = "".join(character if character.isprintable() else "?" for character in model)
    return f"{name.replace(chr(92), '/')[:30]}: anomaly map, research use"


def _result(
    picture: NDArray[np.uint8], description: str, tags: dict[str, str], original: Dataset | None, *, annotated: bool
) -> Dataset:
    """The data set of the result (PS3.3, section A.8.1)."""
    from pydicom import Dataset
    from pydicom.uid import SecondaryCaptureImageStorage

    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in _REQUIRED_EMPTY:
        setattr(data_set, keyword, None)
    for keyword in _ABOUT_THE_RADIOGRAPH:
        if keyword in tags:
            setattr(data_set, keyword, tags[keyword])
    if data_set.get("Laterality") not in ("R", "L"):  # PS3.3, section C.7.3.1: nothing else, and empty where unknown
        data_set.Laterality = None
    if "ImageLaterality" in data_set or data_set.get("BodyPartExamined") in _UNPAIRED:
        del data_set.Laterality
    data_set.Modality, data_set.ConversionType = "OT", "WSD"
    data_set.SecondaryCaptureDeviceManufacturer = _MAKER
    data_set.SecondaryCaptureDeviceSoftwareVersions = __version__
    data_set.ImageType = ["DERIVED", "SECONDARY"]
    data_set.SeriesDescription = data_set.DerivationDescription = description
    data_set.ImageComments = RESEARCH_ONLY
    data_set.BurnedInAnnotation = "YES" if annotated else "NO"
    data_set.InstanceNumber = 1
    if original is not None:
        _refer_to(original, data_set)
    _put_pixels(picture, data_set)
    return data_set


def _lengths(tags: dict[str, str], scale: float | None) -> Dataset:
    """The size of the picture's pixels, from that of the source's: calibrated to the body, or else at the detector."""
    from pydicom import Dataset

    data_set = Dataset()
    for source, keyword in (("PixelSpacing", "PixelSpacing"), ("ImagerPixelSpacing", "NominalScannedPixelSpacing")):
        sides = [float(side) for side in tags[source].split("\\")] if source in tags else []
        if scale and sides and min(sides) > 0:
            setattr(data_set, keyword, [f"{side / scale:.8g}" for side in sides])
            break
    return data_set


def _date(data_set: Dataset, made: datetime) -> None:
    """Date the result; the study keeps the date of the source."""
    for keyword in ("InstanceCreation{}", "Series{}", "Content{}", "{}OfSecondaryCapture"):
        setattr(data_set, keyword.format("Date"), f"{made:%Y%m%d}")
        setattr(data_set, keyword.format("Time"), f"{made:%H%M%S}")


def _refer_to(original: Dataset, data_set: Dataset) -> None:
    """Copy the patient and the study, and name the original as the source."""
    from pydicom import Dataset

    for keyword in _PATIENT_AND_STUDY:
        if original.get(keyword) is not None:
            setattr(data_set, keyword, original[keyword].value)
    series, instance = (number_of(original, keyword) for keyword in _COUNTED)
    if instance is not None and 0 < instance < _INSTANCES_PER_SERIES:
        # A result about each of a study's radiographs, of whatever series, has a number of its own.
        of_series = int(series) if series is not None and 0 < series < _INSTANCES_PER_SERIES else 0
        data_set.InstanceNumber = of_series * _INSTANCES_PER_SERIES + int(instance)
    if not all(original.get(keyword) for keyword in _SOURCE):
        return
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "121322", "DCM"  # PS3.16, CID 7202
    purpose.CodeMeaning = "Source image for image processing operation"
    reference = Dataset()
    reference.ReferencedSOPClassUID = original.SOPClassUID
    reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
    reference.PurposeOfReferenceCodeSequence = [purpose]
    data_set.SourceImageSequence = [reference]


def _name(data_set: Dataset, picture: NDArray[np.uint8], series: Sequence[str], source: str) -> None:
    """Give the result identifiers that depend on its content and its source's hash alone, and its series a number."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    if not data_set.get("StudyInstanceUID"):
        data_set.StudyInstanceUID = _uid("study", [source])
    of_series = [str(data_set.StudyInstanceUID), *series]
    data_set.SeriesInstanceUID = _uid("series", of_series)
    digest = hashlib.sha256("\n".join(series).encode()).digest()
    data_set.SeriesNumber = _FIRST_SERIES + int.from_bytes(digest[:4], "big") % _INSTANCES_PER_SERIES
    pixels = [__version__, str(picture.shape), hashlib.sha256(picture.tobytes()).hexdigest()]
    data_set.SOPInstanceUID = _uid("instance", [*of_series, source, *pixels])
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID


def _uid(kind: str, texts: Sequence[str]) -> str:
    """An identifier that is always the same for the same texts."""
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=[kind, _MAKER, *texts])


def _put_pixels(picture: NDArray[np.uint8], data_set: Dataset) -> None:
    """Store the pixels, with colour in DICOM's order RGB."""
    colour = picture.ndim == 3
    data_set.SamplesPerPixel = 3 if colour else 1
    data_set.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        data_set.PlanarConfiguration = 0
    data_set.Rows, data_set.Columns = picture.shape[:2]
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.HighBit = 7
    data_set.PixelRepresentation = 0
    stored = picture[:, :, ::-1] if colour else picture
    data_set.PixelData = stored.tobytes() + b"\0" * (picture.size % 2)
