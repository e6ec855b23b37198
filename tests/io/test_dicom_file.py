"""Wrappers that lack something: of the file, of its meta information, and around the compressed pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.io.dicom_tags import read_tags
from anomalib_xray.io.formats import is_dicom

from .conftest import read, refusal, stretched

pydicom = pytest.importorskip("pydicom")

Make = Callable[..., bytes]

EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
SYNTAXES = [EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED]
SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).random((160, 128)), (0, 0), 9)
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
GREY_8 = np.rint(20 + 200 * SMOOTH).astype(np.uint8)
GREY_12 = np.rint(100 + 3900 * SMOOTH).astype(np.uint16)
SIGNED_12 = np.rint(-2000 + 3900 * SMOOTH).astype(np.int16)


def data_set_of(content: bytes) -> int:
    """The position of the data set, behind the meta information, whose length its first element tells."""
    return 144 + int.from_bytes(content[140:144], "little")


def without_syntax(content: bytes) -> bytes:
    at = content.index(b"\x02\0\x10\0UI")
    end = at + 8 + int.from_bytes(content[at + 6 : at + 8], "little")
    group = int.from_bytes(content[140:144], "little") - (end - at)
    return content[:140] + group.to_bytes(4, "little") + content[144:at] + content[end:]


def with_syntax(content: bytes, syntax: str) -> bytes:
    """The file with another transfer syntax in its meta information than it is encoded in."""
    file = pydicom.filebase.DicomBytesIO()
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    pydicom.filewriter.write_file_meta_info(file, meta, enforce_standard=False)
    return content[:132] + file.getvalue() + content[data_set_of(content) :]


def encapsulated(make_dicom: Make, value: bytes, syntax: str, pixels: np.ndarray, **elements: Any) -> bytes:
    """A file whose pixels are these bytes, items and all, of undefined length."""
    content = make_dicom(pixels, PixelData=None, **elements)
    content = with_syntax(content, syntax)
    return content + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + value


def item(fragment: bytes) -> bytes:
    return b"\xfe\xff\x00\xe0" + len(fragment).to_bytes(4, "little") + fragment


END = b"\xfe\xff\xdd\xe0\0\0\0\0"


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kept_from", ["meta", "prefix", "preamble", "data set"])
def test_what_stands_before_the_data_set_may_be_missing(make_dicom: Make, syntax: str, kept_from: str) -> None:
    content = make_dicom(GREY_12, bits=12, syntax=syntax)
    expected, _ = read(content)
    bare = {
        "meta": content[132:],
        "prefix": content[128:],
        "preamble": content[:128] + content[132:],
        "data set": content[data_set_of(content) :],
    }[kept_from]
    if kept_from == "data set" and syntax == DEFLATED:
        assert not is_dicom(bare)  # nothing says so
        return
    assert is_dicom(bare)
    image, notes = read(bare)
    np.testing.assert_array_equal(image, expected)
    assert notes == (["TransferSyntaxUID-repaired"] if kept_from == "data set" else [])
    assert read_tags(bare) == read_tags(content)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("declared", [None, "", "1.2.3.4", "1.2.840.113619.5.2", *SYNTAXES[:3]])
def test_the_transfer_syntax_is_told_from_the_data_set(make_dicom: Make, syntax: str, declared: str | None) -> None:
    content = make_dicom(GREY_12, bits=12, syntax=syntax)
    expected, _ = read(content)
    changed = without_syntax(content) if declared is None else with_syntax(content, declared)
    if syntax == DEFLATED and declared in SYNTAXES:
        refusal(changed)
        return
    image, notes = read(changed)
    np.testing.assert_array_equal(image, expected)
    is_known = declared in (None, "", *SYNTAXES)
    is_belied = declared == "1.2.840.113619.5.2" and syntax == IMPLICIT  # by the pixels
    assert set(notes) <= {"TransferSyntaxUID-repaired" if is_known or is_belied else "TransferSyntaxUID-ignored"}
    assert is_known or notes


def test_big_endian_words_of_a_private_transfer_syntax_are_swapped(make_dicom: Make) -> None:
    noisy = GREY_12 + np.random.default_rng(1).integers(0, 40, GREY_12.shape).astype(np.uint16)
    for pixels in (noisy, GREY_12, np.full_like(GREY_12, 258), np.random.default_rng(0).permuted(GREY_12)):
        content = make_dicom(pixels.byteswap(), bits=13, syntax=IMPLICIT)
        image, notes = read(with_syntax(content, "1.2.840.113619.5.2"))
        np.testing.assert_array_equal(image, stretched(pixels) if np.ptp(pixels) else np.zeros_like(pixels))
        assert notes == []
    wide = with_syntax(make_dicom(noisy.byteswap() | np.uint16(0x40), bits=14), "1.2.840.9999.1")
    assert "TransferSyntaxUID that is unknown" in refusal(wide)  # in neither order within its bits
    image, _ = read(with_syntax(make_dicom(GREY_8, syntax=IMPLICIT), "1.2.840.113619.5.2"))
    np.testing.assert_array_equal(image, GREY_8)


@pytest.mark.parametrize("syntax", [EXPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("pixels", [GREY_12, SIGNED_12], ids=["unsigned", "signed"])
def test_words_in_the_wrong_byte_order_are_swapped_where_only_then_they_fit(
    make_dicom: Make, syntax: str, pixels: np.ndarray
) -> None:
    image, notes = read(make_dicom(pixels.byteswap(), bits=12, syntax=syntax))
    np.testing.assert_array_equal(image, stretched(pixels))
    assert notes == ["PixelData-repaired"]


def test_rle_with_the_lower_bytes_first(make_dicom: Make) -> None:
    encode = pydicom.pixels.encoders.native._encode_segment
    rle = pydicom.uid.RLELossless
    planes = [
        encode(np.ascontiguousarray(GREY_12.view(np.uint8)[:, part::2]).tobytes(), columns=128) for part in (0, 1)
    ]
    header = struct.pack("<16I", 2, 64, 64 + len(planes[0]), *[0] * 13)
    frame = header + b"".join(planes)
    content = encapsulated(make_dicom, item(b"") + item(frame + b"\0" * (len(frame) % 2)) + END, rle, GREY_12, bits=12)
    image, notes = read(content)
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["PixelData-repaired"]


@pytest.mark.parametrize("name", ["JPEGBaseline8Bit", "JPEG2000Lossless"])
def test_a_compressed_stream_knows_the_order_of_its_colours(make_dicom: Make, compress: Make, name: str) -> None:
    colour = np.dstack([GREY_8, GREY_8[::-1], 255 - GREY_8])
    content = compress(make_dicom(colour, interpretation="RGB"), name)
    expected, notes = read(content)
    assert notes == []
    tag = b"\x28\x00\x06\x00US\2\0"
    assert tag + b"\0\0" in content
    image, notes = read(content.replace(tag + b"\0\0", tag + b"\1\0"))
    np.testing.assert_array_equal(image, expected)
    assert notes == ["PlanarConfiguration-ignored"]


def test_a_jpeg_stream_that_was_cut_before_its_end_marker_is_refused(make_dicom: Make) -> None:
    noisy = np.clip(GREY_8 + np.random.default_rng(1).normal(0, 6, GREY_8.shape), 0, 255).astype(np.uint8)
    stream = cv2.imencode(".jpg", noisy)[1].tobytes()
    baseline = pydicom.uid.JPEGBaseline8Bit
    whole, cut = (
        item(b"") + item(part + b"\0" * (len(part) % 2)) + END
        for part in (stream, stream[: len(stream) // 2].rstrip(b"\xff") + b"\xff\xd9")
    )
    assert read(encapsulated(make_dicom, whole, baseline, GREY_8))[1] == []
    assert "its JPEG picture lacks data" in refusal(encapsulated(make_dicom, cut, baseline, GREY_8))


@pytest.mark.parametrize("name", ["JPEGLossless", "JPEGLosslessSV1"])
def test_so_is_a_lossless_one(make_dicom: Make, compress: Make, name: str) -> None:
    for pixels in (GREY_12, np.where(np.arange(160)[:, None] < 120, GREY_12, 0).astype(np.uint16)):
        content = compress(make_dicom(pixels, bits=12), name)
        np.testing.assert_array_equal(read(content)[0], stretched(pixels))
        stream = content[content.index(b"\xff\xd8\xff") : content.rindex(b"\xff\xd9")]
        cut = item(b"") + item(stream[: len(stream) // 4 * 2].rstrip(b"\xff") + b"\xff\xd9") + END
        syntax = getattr(pydicom.uid, name)
        assert "its JPEG picture lacks data" in refusal(encapsulated(make_dicom, cut, syntax, pixels, bits=12))


@pytest.mark.parametrize("written", [b"??", b"  "])
def test_an_element_of_an_unknown_kind_does_not_hide_the_picture(make_dicom: Make, written: bytes) -> None:
    content = make_dicom(GREY_8).replace(b"\x10\0\x20\0LO", b"\x10\0\x20\0" + written)
    np.testing.assert_array_equal(read(content)[0], GREY_8)


def test_an_unknown_transfer_syntax_needs_pixels_of_the_right_length(make_dicom: Make) -> None:
    content = make_dicom(GREY_8, PixelData=GREY_8.tobytes() + bytes(4000))
    assert read(content)[1] == ["PixelData-repaired"]
    assert "TransferSyntaxUID that is unknown" in refusal(with_syntax(content, "1.2.840.9999.1"))


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
@pytest.mark.parametrize("group", [0x10, 0x18, 0x28])
def test_anonymised_files_may_begin_with_any_group(make_dicom: Make, syntax: str, group: int) -> None:
    removed = {"PatientName": None, "PatientID": None} if group > 0x10 else {}
    more = {"ViewPosition": "PA"} if group == 0x18 else {}
    content = make_dicom(GREY_12, bits=12, syntax=syntax, **removed, **more)
    at = data_set_of(content)
    element = {0x10: 0x10, 0x18: 0x5101, 0x28: 2}[group]
    order: Any = "big" if syntax == BIG_ENDIAN else "little"
    position = content.index(group.to_bytes(2, order) + element.to_bytes(2, order), at)
    image, notes = read(without_syntax(content[:at]) + content[position:])
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["TransferSyntaxUID-repaired"]
    np.testing.assert_array_equal(read(content[position:])[0], image)


def test_a_deflated_data_set_may_be_wrapped_as_zlib_does(make_dicom: Make) -> None:
    content = make_dicom(GREY_12, bits=12)
    data_set = content[data_set_of(content) :]
    meta = with_syntax(content, DEFLATED).removesuffix(data_set)
    np.testing.assert_array_equal(read(meta + zlib.compress(data_set))[0], stretched(GREY_12))


def test_a_data_set_that_tells_nothing_is_refused_for_what_is_missing(make_dicom: Make) -> None:
    content = make_dicom(GREY_8)
    garbage = without_syntax(content)[: data_set_of(without_syntax(content))] + b"garbage " * 100
    assert "is DICOM without a transfer syntax (0002,0010)" in refusal(garbage)


@pytest.mark.parametrize("other", [b"", b"DICM", b"\x08\0", b"\x08\0\x05\0CS", bytes(600), b"\x08\0\0\0" + bytes(600)])
def test_other_files_are_not_taken_for_dicom(other: bytes) -> None:
    assert not is_dicom(other)
    assert is_dicom(bytes(128) + other) is (other == b"DICM")


@pytest.mark.parametrize("syntax", SYNTAXES[:3])
@pytest.mark.parametrize(
    "trailing",
    [b"\0", b"\0" * 12, b"\xfc\xff\xfc\xffOB\0\0\xff\0\0\0abc", b"\xe1\x7f\x10\x10LO", b"\xe1\x7f\x10\x10UN\0"],
)
def test_what_is_cut_off_behind_the_pixels_does_not_matter(make_dicom: Make, syntax: str, trailing: bytes) -> None:
    content = make_dicom(GREY_12, bits=12, syntax=syntax)
    np.testing.assert_array_equal(read(content + trailing)[0], read(content)[0])


def jpeg_2000(picture: np.ndarray, **settings: Any) -> bytes:
    """The codestream out of a JP2 file."""
    content = cv2.imencode(".jp2", picture, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    return content if settings.get("boxes") else content[content.index(b"\xff\x4f\xff\x51") :]


JPEG_2000 = "1.2.840.10008.1.2.4.90"


@pytest.mark.parametrize("pixels", [GREY_8, GREY_12])
def test_the_boxes_of_a_jp2_file_around_a_codestream_are_unwrapped(make_dicom: Make, pixels: np.ndarray) -> None:
    bits = 8 if pixels is GREY_8 else 16
    bare = encapsulated(make_dicom, item(b"") + item(jpeg_2000(pixels)) + END, JPEG_2000, pixels, bits=bits)
    boxed = encapsulated(make_dicom, item(b"") + item(jpeg_2000(pixels, boxes=1)) + END, JPEG_2000, pixels, bits=bits)
    expected = pixels if pixels is GREY_8 else stretched(pixels)
    np.testing.assert_array_equal(read(bare)[0], expected)
    np.testing.assert_array_equal(read(boxed)[0], expected)


def test_the_size_inside_of_a_jp2_file_is_limited_before_decoding(
    make_dicom: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def must_not_decode(*_: object, **__: object) -> None:
        raise SystemExit("decoded")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", must_not_decode)
    larger = jpeg_2000(np.dstack([np.tile(GREY_8, (2, 2))]), boxes=1)
    content = encapsulated(make_dicom, item(b"") + item(larger) + END, JPEG_2000, GREY_8)
    assert "declares another picture (256 x 320" in refusal(content)
    for broken in (larger[:12], larger[:12] + b"\0\0\0\2jp2h", larger[:12] + b"\0\0\0\x10jp2hpclr0000" + larger[12:]):
        refusal(encapsulated(make_dicom, item(b"") + item(broken) + END, JPEG_2000, GREY_8))


@pytest.mark.parametrize("bits", [12, 16])
def test_a_sign_that_only_header_or_codestream_know_counts(make_dicom: Make, compress: Make, bits: int) -> None:
    tag = b"\x28\0\3\1US\2\0"
    unsigned, signed = tag + b"\0\0", tag + b"\1\0"
    pattern = (SIGNED_12.astype(int) & (2**bits - 1)).astype(np.uint16)
    forgotten_by_stream = compress(make_dicom(pattern, bits=bits), "JPEG2000Lossless").replace(unsigned, signed)
    forgotten_by_header = compress(make_dicom(SIGNED_12, bits=bits), "JPEG2000Lossless").replace(signed, unsigned)
    for content in (forgotten_by_stream, forgotten_by_header):
        image, notes = read(content)
        np.testing.assert_array_equal(image, stretched(SIGNED_12))
        assert notes == ["PixelRepresentation-repaired"]


def test_jpeg_of_12_bits_is_read() -> None:
    path = pydicom.data.get_testdata_file("JPGExtended.dcm", download=False)
    image, notes = read(Path(path).read_bytes())
    frame = pydicom.encaps.get_frame(pydicom.dcmread(path).PixelData, 0, number_of_frames=1)
    reference = pytest.importorskip("imagecodecs").jpeg8_decode(frame)
    np.testing.assert_array_equal(image, stretched(reference))
    assert notes == []


def split(value: bytes, sizes: list[int]) -> list[bytes]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [value[start:end] for start, end in zip(ends, [*ends[1:], len(value)], strict=True)]


@pytest.mark.parametrize("kind", ["jpeg", "jpeg 2000", "rle"])
def test_items_may_come_in_any_way(make_dicom: Make, compress: Make, kind: str) -> None:
    name = {"jpeg": "JPEGLosslessSV1", "jpeg 2000": "JPEG2000Lossless", "rle": "RLELossless"}[kind]
    syntax = str(getattr(pydicom.uid, name))
    whole = compress(make_dicom(GREY_12, bits=12), name)
    frame = pydicom.encaps.get_frame(pydicom.dcmread(BytesIO(whole)).PixelData, 0, number_of_frames=1)
    expected = stretched(GREY_12)
    fragments = b"".join(map(item, split(frame, [100, 51, 4, 2000])))
    padded = b"".join(
        item(part) + b"\0" * (len(part) % 2) for part in split(frame, [101, 51, 4, 2001])
    )  # not counted in the lengths
    variants = {
        "offset": item(bytes(4)) + item(frame) + END,
        "empty table": item(b"") + item(frame) + END,
        "no table": item(frame) + END,
        "fragments": item(b"") + fragments + END,
        "odd fragments": item(b"") + padded + END,
        "no end": item(b"") + item(frame),
        "half an end": item(b"") + item(frame) + END[:5],
        "wrong table": item(struct.pack("<2L", 7, 99)) + item(frame) + END,
        "trailing": item(b"") + item(frame) + END + b"\xfc\xff\xfc\xffOB",
        "delimiter within": item(b"") + item(frame + END) + END,
    }
    for variant, value in variants.items():
        image, notes = read(encapsulated(make_dicom, value, syntax, GREY_12, bits=12))
        np.testing.assert_array_equal(image, expected, err_msg=variant)
        assert notes == [], variant
    for variant, value in {
        "nothing": END,
        "table alone": item(bytes(4)) + END,
        "cut": item(b"") + item(frame)[: len(frame) // 2],
    }.items():
        assert refusal(encapsulated(make_dicom, value, syntax, GREY_12, bits=12)), variant
    if kind != "rle":
        two = encapsulated(make_dicom, item(b"") + item(frame) * 2 + END, syntax, GREY_12, bits=12)
        assert "several frames" in refusal(two)


@pytest.mark.parametrize("name", ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
@pytest.mark.parametrize("declared", ["JPEGBaseline8Bit", "JPEG2000", "JPEGLSLossless", "ExplicitVRLittleEndian", None])
def test_the_compression_is_told_from_the_pixels(
    make_dicom: Make, compress: Make, name: str, declared: str | None
) -> None:
    content = compress(make_dicom(GREY_12, bits=12), name)
    if name == "RLELossless" and declared not in ("ExplicitVRLittleEndian", None):
        return
    changed = without_syntax(content) if declared is None else with_syntax(content, getattr(pydicom.uid, declared))
    image, notes = read(changed)
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert set(notes) <= {"TransferSyntaxUID-repaired"}


def test_pixels_that_are_not_compressed_though_the_syntax_says_so(make_dicom: Make) -> None:
    image, notes = read(with_syntax(make_dicom(GREY_12, bits=12), JPEG_2000))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["TransferSyntaxUID-repaired"]


@pytest.mark.parametrize(("marker", "said"), [(0xC9, "JPEG of a kind"), (0xC2, "JPEG, marker FFC2, 8 bits")])
def test_jpeg_that_no_decoder_reads_is_told_by_its_kind(make_dicom: Make, marker: int, said: str) -> None:
    frame = cv2.imencode(".jpg", GREY_8)[1].tobytes()
    changed = frame.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
    message = refusal(encapsulated(make_dicom, item(b"") + item(changed) + END, "1.2.840.10008.1.2.4.50", GREY_8))
    assert said in message
    assert "save it uncompressed" in message


def test_a_compression_without_a_decoder_is_named(make_dicom: Make) -> None:
    for syntax, name in (
        ("1.2.840.10008.1.2.4.102", "MPEG-4"),
        ("1.2.840.10008.1.2.4.110", "an unknown transfer syntax"),
    ):
        content = encapsulated(make_dicom, item(b"") + item(b"unknown" * 99) + END, syntax, GREY_8)
        message = refusal(content)
        assert name in message
        assert "save it uncompressed" in message
        assert "damaged" not in message


@pytest.mark.parametrize("name", ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_compressed_values_may_be_justified_to_the_left(make_dicom: Make, compress: Make, name: str) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    content = compress(make_dicom(GREY_12 << 4, bits=16, **window), name)
    stored, high = b"\x28\0\1\1US\2\0", b"\x28\0\2\1US\2\0"
    assert high + b"\x0f" in content
    image, notes = read(content.replace(stored + b"\x10", stored + b"\x0c"))
    np.testing.assert_array_equal(image, read(make_dicom(GREY_12, bits=12, **window))[0])
    assert notes == ["HighBit-repaired"]


@pytest.mark.parametrize("name", ["JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless"])
def test_compressed_values_with_a_sign_or_a_contradicting_depth(make_dicom: Make, compress: Make, name: str) -> None:
    for pixels, bits in ((SIGNED_12, 12), (SIGNED_12, 16), (GREY_12, 16)):
        content = compress(make_dicom(pixels, bits=bits), name)
        np.testing.assert_array_equal(read(content)[0], stretched(pixels), err_msg=f"{pixels.dtype} {bits}")
    content = compress(make_dicom(GREY_12, bits=12), name)
    stored = b"\x28\0\1\1US\2\0"
    image, notes = read(
        content.replace(stored + b"\x0c", stored + b"\x0a").replace(b"\x28\0\2\1US\2\0\x0b", b"\x28\0\2\1US\2\0\x09")
    )
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["BitsStored-repaired"]
    image, notes = read(content.replace(b"\x28\0\2\1US\2\0\x0b", b"\x28\0\2\1US\2\0\x0f"))
    np.testing.assert_array_equal(image, stretched(GREY_12))
