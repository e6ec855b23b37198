"""Write a result as a DICOM secondary capture, so that an archive files it beside its radiograph."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_dataset import read_elements, reading_dicom
from anomalib_xray.io.dicom_file import standard_file
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
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
"""What an archive files by; copied only where it is asked for."""
_SOURCE = ("SOPClassUID", "SOPInstanceUID")
_REQUIRED_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientOrientation",
    "Manufacturer",
)
_ABOUT_THE_RADIOGRAPH = ("BodyPartExamined", "Laterality", "ImageLaterality", "ViewPosition")
_LONGEST_DESCRIPTION = 64


def write_secondary_capture(
    path: str | Path,
    picture: NDArray[np.uint8],
    *,
    source: str | Path | None = None,
    description: str,
    keep_patient: bool = False,
    annotated: bool = True,
) -> None:
    """Writes a picture as a derived secondary capture image, uncompressed.

    The same arguments give the same bytes: identifiers are computed from the content, and there is no date. Without
    ``keep_patient`` the file names no patient and no study and does not refer to its source, whose identifiers would
    lead back to the patient.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        picture: (H, W), or (H, W, 3) in OpenCV's order BGR; uint8.
        source: The radiograph that the result is about; body part, side and view are copied from a DICOM file.
        description: What the picture is, in at most 64 characters; it names the series.
        keep_patient: Whether to copy the patient and the study from the source, and to refer to it, so that an archive
            files the result there. The source must then be DICOM.
        annotated: Whether text is drawn into the picture, such as a score or a file's name.

    Raises:
        XrayError: The picture or the description cannot be stored, the source cannot be read or is not DICOM where it
            must be, the file cannot be written, or pydicom is missing.
    """
    content = b"" if source is None else read_bytes(source)
    encoded = encode_secondary_capture(
        picture,
        source=content,
        description=description,
        keep_patient=keep_patient,
        annotated=annotated,
        name=str(path),
        source_name=str(path if source is None else source),
    )
    write_atomically(path, encoded)


def encode_secondary_capture(
    picture: NDArray[np.uint8],
    *,
    source: bytes = b"",
    description: str,
    keep_patient: bool = False,
    annotated: bool = True,
    name: str = "The secondary capture",
    source_name: str = "the source",
) -> bytes:
    """Encodes what :func:`write_secondary_capture` writes, without a file.

    Args:
        picture: (H, W), or (H, W, 3) in OpenCV's order BGR; uint8.
        source: Content of the radiograph's file; empty where there is none.
        description: What the picture is, in at most 64 characters; it names the series.
        keep_patient: Whether to copy the patient and the study from the source, which must then be DICOM.
        annotated: Whether text is drawn into the picture.
        name: What messages call the result.
        source_name: What messages call the source.

    Returns:
        The DICOM file.

    Raises:
        XrayError: The picture or the description cannot be stored, the source cannot be read or is not DICOM where it
            must be, or pydicom is missing.
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
    about = {keyword: value for keyword, value in read_tags(source).items() if keyword in _ABOUT_THE_RADIOGRAPH}
    with reading_dicom(source_name):
        original = (
            read_elements(standard_file(source, source_name), (*_PATIENT_AND_STUDY, *_SOURCE)) if keep_patient else None
        )
        data_set = _result(picture, description, about, original, annotated=annotated)
        encoded = BytesIO()
        data_set.save_as(encoded, enforce_file_format=True)
    return encoded.getvalue()


def _result(
    picture: NDArray[np.uint8], description: str, about: dict[str, str], original: Dataset | None, *, annotated: bool
) -> Dataset:
    """The data set of the result (PS3.3, section A.8.1)."""
    from pydicom import Dataset
    from pydicom.uid import SecondaryCaptureImageStorage

    data_set = Dataset()
    data_set.SpecificCharacterSet = "ISO_IR 192"
    data_set.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in _REQUIRED_EMPTY:
        setattr(data_set, keyword, None)
    for keyword, value in about.items():
        setattr(data_set, keyword, value)
    data_set.Modality = "OT"
    data_set.ConversionType = "WSD"
    data_set.SecondaryCaptureDeviceManufacturer = _MAKER
    data_set.SecondaryCaptureDeviceSoftwareVersions = __version__
    data_set.ImageType = ["DERIVED", "SECONDARY"]
    data_set.SeriesDescription = description
    data_set.DerivationDescription = description
    data_set.ImageComments = RESEARCH_ONLY
    data_set.BurnedInAnnotation = "YES" if annotated else "NO"
    data_set.SeriesNumber = None
    data_set.InstanceNumber = 1
    if original is not None:
        _refer_to(original, data_set)
    _name(data_set, picture, description, "" if original is None else original.SOPInstanceUID)
    _put_pixels(picture, data_set)
    return data_set


def _refer_to(original: Dataset, data_set: Dataset) -> None:
    """Copies the patient and the study, and names the original as the source."""
    from pydicom import Dataset

    for keyword in _PATIENT_AND_STUDY:
        if keyword in original:
            setattr(data_set, keyword, original[keyword].value)
    reference = Dataset()
    reference.ReferencedSOPClassUID = original.SOPClassUID
    reference.ReferencedSOPInstanceUID = original.SOPInstanceUID
    data_set.SourceImageSequence = [reference]


def _name(data_set: Dataset, picture: NDArray[np.uint8], description: str, original: str) -> None:
    """Gives the result identifiers that depend on its content and its source alone."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    pixels = hashlib.sha256(picture.tobytes()).hexdigest()
    about = [_MAKER, __version__, str(picture.shape), pixels, description, original]
    if "StudyInstanceUID" not in data_set:
        data_set.StudyInstanceUID = generate_uid(entropy_srcs=["study", *about])
    data_set.SeriesInstanceUID = generate_uid(entropy_srcs=["series", *about])
    data_set.SOPInstanceUID = generate_uid(entropy_srcs=["instance", *about])
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set.file_meta.MediaStorageSOPClassUID = data_set.SOPClassUID
    data_set.file_meta.MediaStorageSOPInstanceUID = data_set.SOPInstanceUID


def _put_pixels(picture: NDArray[np.uint8], data_set: Dataset) -> None:
    """Stores the pixels, with colour in DICOM's order RGB."""
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
