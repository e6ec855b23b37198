"""Give a DICOM file the form of the standard where its wrapper lacks something."""

from __future__ import annotations

import zlib

from anomalib_xray.io.dicom_dataset import UnusableError, inflated, with_meta
from anomalib_xray.io.formats import DICOM_PREAMBLE, DICOM_PREFIX, data_set_encoding

_PREFIXED = DICOM_PREAMBLE + len(DICOM_PREFIX)
_META = b"\x02\0"  # group of the meta information, which is always little endian
_TRANSFER_SYNTAX = (0x0002, 0x0010)
_MOST_META_ELEMENTS = 100


def standard_file(content: bytes, name: str, notes: list[str] | None = None) -> bytes:
    """The file itself, or an equivalent one that has preamble, prefix and transfer syntax and is not deflated.

    A transfer syntax that is missing, unknown, or belied by the first elements is told from these; whether the pixels
    are compressed, and how, is told from the pixels themselves (:mod:`anomalib_xray.io.dicom_pixels`). To be called
    within :func:`anomalib_xray.io.dicom_dataset.reading_dicom`.

    Args:
        content: The file, as :func:`anomalib_xray.io.formats.is_dicom` takes it for DICOM.
        name: What messages call it.
        notes: List to which ``TransferSyntaxUID-repaired`` is added where it was, or ``TransferSyntaxUID-ignored``
            where nobody knows it, so that whoever decodes uncompressed pixels has to look at them.

    Returns:
        The file.

    Raises:
        XrayError: A deflated data set would become larger than any radiograph.
        UnusableError: How the data set is encoded cannot be told.
        Exception: Anything that pydicom or zlib raises.
    """
    from pydicom import uid

    syntax, start = _transfer_syntax(content)
    if syntax == uid.DeflatedExplicitVRLittleEndian:
        return inflated(content if _has_prefix(content) else with_meta(syntax, content[start:]), name)
    told = data_set_encoding(content[start : start + _PREFIXED])
    known = syntax in uid.AllTransferSyntaxes
    if known and (told is None or told == _plain(syntax) or (uid.UID(syntax).is_encapsulated and told[0])):
        # pydicom itself notices where value representations are left out though the syntax says otherwise.
        return content if _has_prefix(content) else with_meta(syntax, content[start:])
    if notes is not None and not (syntax == BIG_ENDIAN_PIXELS and told == _plain(IMPLICIT)):
        notes.append(f"TransferSyntaxUID-{'repaired' if known or not syntax else 'ignored'}")
    if told is not None:
        return with_meta(_NAMED[told], content[start:])
    try:
        return inflated(with_meta(uid.DeflatedExplicitVRLittleEndian, content[start:]), name)
    except (ValueError, zlib.error) as error:
        raise UnusableError(_UNTOLD) from error


_UNTOLD = (
    "is DICOM without a transfer syntax (0002,0010), or an unknown one, and its content does not tell which; "
    "export it again, or write the transfer syntax into it."
)
IMPLICIT = "1.2.840.10008.1.2"
BIG_ENDIAN_PIXELS = "1.2.840.113619.5.2"
"""A private one of GE: implicit value representations, little endian, but for the words of the pixels."""
_NAMED = {
    (True, True): "1.2.840.10008.1.2.1",
    (True, False): IMPLICIT,
    (False, True): "1.2.840.10008.1.2.2",
}
"""Transfer syntax by little endian and explicit value representation."""


def _plain(syntax: str) -> tuple[bool, bool]:
    return next((key for key, value in _NAMED.items() if value == syntax), (True, True))


def has_big_endian_pixels(content: bytes) -> bool:
    """Whether the transfer syntax is :data:`BIG_ENDIAN_PIXELS`.

    Args:
        content: The file as it was, before :func:`standard_file`.

    Returns:
        Whether its meta information says so.
    """
    return _transfer_syntax(content)[0] == BIG_ENDIAN_PIXELS


def _has_prefix(content: bytes) -> bool:
    return content[DICOM_PREAMBLE:_PREFIXED] == DICOM_PREFIX


def _transfer_syntax(content: bytes) -> tuple[str, int]:
    """The transfer syntax by the meta information, empty where it has none, and where the data set begins."""
    position = _start(content)
    encoding = data_set_encoding(content[position : position + _PREFIXED])
    explicit = encoding is None or encoding[1]
    syntax = ""
    for _ in range(_MOST_META_ELEMENTS):
        if content[position : position + 2] != _META or len(content) < position + 8:
            break
        element = int.from_bytes(content[position + 2 : position + 4], "little")
        header, length = _header(content[position : position + 12], explicit=explicit)
        value = content[position + header : position + header + length]
        if (0x0002, element) == _TRANSFER_SYNTAX:
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace").strip()
        position += header + length
    return syntax, position


def _start(content: bytes) -> int:
    """Where the meta information begins, or the data set where there is none."""
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
