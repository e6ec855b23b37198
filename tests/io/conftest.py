"""DICOM files for the tests, written with pydicom."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import decode_radiograph

EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"


def read(content: bytes) -> tuple[np.ndarray, list[str]]:
    """The picture of a file that messages call a.dcm, and what reading it noted."""
    notes: list[str] = []
    return decode_radiograph(content, name="a.dcm", notes=notes), notes


def refusal(content: bytes) -> str:
    """The sentence by which such a file is refused."""
    with pytest.raises(XrayError, match=r"^a\.dcm ") as caught:
        decode_radiograph(content, name="a.dcm")
    return str(caught.value)


def stretched(values: np.ndarray, highest: int = 65535) -> np.ndarray:
    """Values from 0 to the highest level."""
    values = values.astype(float)
    return np.rint((values - values.min()) * (highest / np.ptp(values)))


def write_dicom(
    pixels: np.ndarray,
    *,
    syntax: str = EXPLICIT,
    bits: int = 0,
    interpretation: str = "MONOCHROME2",
    **elements: Any,
) -> bytes:
    """A DICOM file with a patient's name, and with these pixels uncompressed; elements of value None are left out."""
    pydicom = pytest.importorskip("pydicom")
    data_set = pydicom.Dataset()
    data_set.file_meta = pydicom.dataset.FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = syntax
    data_set.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data_set.SOPInstanceUID = "1.2.3.4"
    data_set.StudyInstanceUID = "1.2.3"
    data_set.PatientName = "Doe^Jane"
    data_set.PatientID = "4711"
    data_set.Rows, data_set.Columns = pixels.shape[:2]
    data_set.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        data_set.PlanarConfiguration = 0
    data_set.PhotometricInterpretation = interpretation
    data_set.BitsAllocated = 8 * pixels.dtype.itemsize
    data_set.BitsStored = bits or data_set.BitsAllocated
    data_set.HighBit = data_set.BitsStored - 1
    data_set.PixelRepresentation = int(pixels.dtype.kind == "i")
    stored = pixels.astype(pixels.dtype.newbyteorder(">")) if syntax == BIG_ENDIAN else pixels
    data_set.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    for keyword, value in elements.items():
        if value is None:
            delattr(data_set, keyword)
        else:
            setattr(data_set, keyword, value)
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    """Content of a DICOM file: ``make_dicom(pixels, syntax=, bits=, interpretation=, Keyword=value)``."""
    return write_dicom


@pytest.fixture(scope="session")
def make_table() -> Callable[..., Any]:
    """A lookup table as DICOM stores it: ``make_table(entries, depth, first=0)``."""

    def table(entries: np.ndarray, depth: int, first: int = 0) -> Any:
        item = pytest.importorskip("pydicom").Dataset()
        item.LUTDescriptor = [len(entries), first, depth]
        item.LUTData = entries.astype("<u2").tobytes()
        return item

    return table


@pytest.fixture(scope="session")
def compress(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bytes, str], bytes]:
    """Compresses a DICOM file: ``compress(content, "JPEGLSLossless")``, by the names of pydicom's identifiers."""
    pydicom, gdcm = pytest.importorskip("pydicom"), pytest.importorskip("gdcm")
    folder: Path = tmp_path_factory.mktemp("compressed")

    def by_gdcm(content: bytes, syntax: str) -> bytes:
        (folder / "plain").write_bytes(content)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(folder / "plain"))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        identifier = str.__str__(getattr(pydicom.uid, syntax))
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(identifier)))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(folder / "compressed"))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return (folder / "compressed").read_bytes()

    return by_gdcm
