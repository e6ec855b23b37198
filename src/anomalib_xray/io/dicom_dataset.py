"""The data set of an untrusted DICOM file."""

from __future__ import annotations

import logging
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING

from anomalib_xray.errors import XrayError
from anomalib_xray.io.formats import DICOM_PREAMBLE, DICOM_PREFIX, MAX_BYTES, data_set_encoding

if TYPE_CHECKING:
    from pydicom import Dataset

_MAX_READS = 100_000
"""Pieces that a data set is read in; a radiograph has some hundred elements, an element takes one to three."""
_MAX_VALUE = 2**21
"""Bytes of a value beside the pixels, whole sequences among them."""
_MAX_SIMPLE_VALUE = 2**18
"""Bytes of a value other than a sequence; the longest that is read is a lookup table of 65536 entries."""
_INFLATED_AT_ONCE = 2**20

_one_at_a_time = Lock()


class UnusableError(ValueError):
    """The fault of a DICOM file, as the predicate of a sentence; it quotes only numbers about the pixels."""


_TOO_MUCH = (
    "has unusually many or large elements beside its pixels, more than are read of a radiograph; export it again "
    "without private elements and long sequences, or as PNG."
)


class BoundedReader(BytesIO):
    """Content that is read in a limited number of limited pieces.

    A hostile file of some megabytes can hold millions of nested elements or values, each an object to pydicom.
    """

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._reads_left = _MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        """Read the next piece; an :class:`UnusableError` says that a limit is reached."""
        self._reads_left -= 1
        piece = super().read(size)
        if self._reads_left < 0 or len(piece) > _MAX_VALUE:
            raise UnusableError(_TOO_MUCH)
        return piece


@contextmanager
def reading_dicom(name: str) -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise into an :class:`XrayError` about ``name``, and keep them silent.

    Their messages quote values of the file, which may be a patient's; so neither their warnings nor their log nor their
    errors are passed on. One thread at a time, because the filters of warnings belong to the process.
    """
    logger = logging.getLogger("pydicom")
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        was_disabled, logger.disabled = logger.disabled, True
        try:
            import pydicom  # noqa: F401  # optional: the rest of the package works without it

            yield
        except XrayError:
            raise
        except UnusableError as error:
            raise XrayError(f"{name} {error}") from None
        except ModuleNotFoundError:
            raise XrayError(
                f"{name} is a DICOM file, which needs more than the base installation: "
                "pip install 'anomalib-xray[dicom]'."
            ) from None
        except Exception:
            raise XrayError(
                f"{name} is damaged, or DICOM of a kind that is not supported; export it again, uncompressed or as PNG."
            ) from None
        finally:
            logger.disabled = was_disabled


def read_elements(content: bytes, keywords: Sequence[str | int]) -> tuple[Dataset, int]:
    """Elements, by keywords or tags, of a :func:`standard_file` up to its pixels, and the position of the pixels.

    Without pixels the position is the file's end. To be called within :func:`reading_dicom`.
    """
    from pydicom import config, dcmread
    from pydicom.datadict import dictionary_VR, tag_for_keyword

    tags = [tag_for_keyword(keyword) or 0 if isinstance(keyword, str) else keyword for keyword in keywords]
    reader = BoundedReader(content)
    data_set = dcmread(reader, stop_before_pixels=True, specific_tags=tags)
    if reader.tell() >= len(content) and config.assume_implicit_vr_switch:
        # An element whose value representation is none is taken for one without, of a length that leads anywhere.
        reader = BoundedReader(content)
        config.assume_implicit_vr_switch = False
        try:
            data_set = dcmread(reader, stop_before_pixels=True, specific_tags=tags)
        finally:
            config.assume_implicit_vr_switch = True
    for element in data_set.elements():
        if dictionary_VR(element.tag) != "SQ" and len(element.value or b"") > _MAX_SIMPLE_VALUE:
            raise UnusableError(_TOO_MUCH)
    return data_set, reader.tell()


def with_meta(syntax: str, encoded: bytes) -> bytes:
    """A DICOM file of an encoded data set, with the least meta information."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filebase import DicomBytesIO
    from pydicom.filewriter import write_file_meta_info
    from pydicom.uid import UID

    file = DicomBytesIO()
    file.write(bytes(DICOM_PREAMBLE) + DICOM_PREFIX)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    write_file_meta_info(file, meta, enforce_standard=False)
    return file.getvalue() + encoded


def _inflated(deflated: bytes, name: str) -> bytes:
    """Inflate piece by piece, so that a few kilobytes cannot become gigabytes."""
    wrapped = deflated[:1] == b"\x78" and int.from_bytes(deflated[:2], "big") % 31 == 0  # as zlib itself writes
    inflater = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
    pieces, size = [], 0
    while not inflater.eof:
        piece = inflater.decompress(inflater.unconsumed_tail or deflated, _INFLATED_AT_ONCE)
        deflated = b""
        size += len(piece)
        if size > MAX_BYTES:
            raise XrayError(f"{name} inflates to more than {MAX_BYTES} bytes; at most as many are read.")
        if not piece and not inflater.eof:
            raise ValueError("the deflated data set is truncated")
        pieces.append(piece)
    return b"".join(pieces)


_PREFIXED = DICOM_PREAMBLE + len(DICOM_PREFIX)
_META = b"\x02\0"  # group of the meta information, which is always little endian
_MOST_META_ELEMENTS = 100


def standard_file(content: bytes, name: str, notes: list[str] | None = None) -> bytes:
    """The file itself, or an equivalent one that has preamble, prefix and transfer syntax and is not deflated.

    A transfer syntax that is missing, unknown, or contradicted by the first elements is told from these; the
    compression of the pixels is told from the pixels themselves (:mod:`anomalib_xray.io.dicom_pixels`). To be called
    within :func:`reading_dicom`.

    Args:
        content: The file, as :func:`anomalib_xray.io.formats.is_dicom` takes it for DICOM.
        name: Name of the file in messages.
        notes: List to which ``TransferSyntaxUID-repaired`` is added, or ``TransferSyntaxUID-ignored`` if it is unknown,
            so that uncompressed pixels have to be looked at.
    """
    from pydicom import uid

    syntax, start = _transfer_syntax(content)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        return with_meta(uid.ExplicitVRLittleEndian, _inflated(content[start:], name))
    told = data_set_encoding(content[start : start + _PREFIXED])
    known = syntax in uid.AllTransferSyntaxes
    if known and (told is None or told == _plain(syntax) or (uid.UID(syntax).is_encapsulated and told[0])):
        # pydicom itself notices where value representations are left out though the syntax says otherwise.
        return content if _has_prefix(content) else with_meta(syntax, content[start:])
    if notes is not None and not (syntax == BIG_ENDIAN_PIXELS and told == _plain(IMPLICIT)):
        notes.append(f"TransferSyntaxUID-{'repaired' if known or not syntax else 'ignored'}")
    if told is not None:
        return with_meta(PLAIN_SYNTAX[told], content[start:])
    try:
        return with_meta(uid.ExplicitVRLittleEndian, _inflated(content[start:], name))
    except (ValueError, zlib.error) as error:
        raise UnusableError(
            "is DICOM without a transfer syntax (0002,0010), or an unknown one, and its content does not tell which; "
            "export it again, or write the transfer syntax into it."
        ) from error


IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""A private one of GE: implicit value representations, little endian, but for the words of the pixels."""
PLAIN_SYNTAX = {(True, True): "1.2.840.10008.1.2.1", (True, False): IMPLICIT, (False, True): "1.2.840.10008.1.2.2"}
"""Transfer syntax by little endian and explicit value representation."""


def _plain(syntax: str) -> tuple[bool, bool]:
    return next((key for key, value in PLAIN_SYNTAX.items() if value == syntax), (True, True))


def has_big_endian_pixels(content: bytes) -> bool:
    """Whether a file as it was, before :func:`standard_file`, declares :data:`BIG_ENDIAN_PIXELS`."""
    return _transfer_syntax(content)[0] == BIG_ENDIAN_PIXELS


def _has_prefix(content: bytes) -> bool:
    return content[DICOM_PREAMBLE:_PREFIXED] == DICOM_PREFIX


def _transfer_syntax(content: bytes) -> tuple[str, int]:
    """The transfer syntax by the meta information, empty without one, and the start of the data set."""
    position = _start(content)
    encoding = data_set_encoding(content[position : position + _PREFIXED])
    explicit = encoding is None or encoding[1]
    syntax = ""
    for _ in range(_MOST_META_ELEMENTS):
        if content[position : position + 2] != _META or len(content) < position + 8:
            break
        header, length = _header(content[position : position + 12], explicit=explicit)
        value = content[position + header : position + header + length]
        if content[position + 2 : position + 4] == b"\x10\0":
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace").strip()
        position += header + length
    return syntax, position


def _start(content: bytes) -> int:
    """Position of the meta information, or of the data set without one."""
    if _has_prefix(content):
        return _PREFIXED
    if content.startswith(DICOM_PREFIX):
        return len(DICOM_PREFIX)
    return 0 if data_set_encoding(content[:_PREFIXED]) is not None else DICOM_PREAMBLE


def _header(element: bytes, *, explicit: bool) -> tuple[int, int]:
    """Length of an element's header and of its value."""
    if not explicit:
        return 8, int.from_bytes(element[4:8], "little")
    if element[4:6] in (b"OB", b"OW", b"UN", b"SQ", b"UT"):
        return 12, int.from_bytes(element[8:12], "little")
    return 8, int.from_bytes(element[6:8], "little")
