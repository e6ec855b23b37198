from __future__ import annotations

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.jpeg import JpegFrame, jpeg_ends, jpeg_frame, jpeg_is_plain
from anomalib_xray.io.read import decode_radiograph

GREY = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8), (72, 96))
COLOUR = np.dstack([GREY, GREY[::-1], GREY[:, ::-1]])
KINDS = {
    "baseline": (GREY, []),
    "colour": (COLOUR, []),
    "progressive": (COLOUR, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "restarts": (GREY, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
}


def encoded(kind: str) -> bytes:
    picture, settings = KINDS[kind]
    return cv2.imencode(".jpg", picture, settings)[1].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_frame_header_is_found(kind: str) -> None:
    content = encoded(kind)
    assert jpeg_frame(content) == JpegFrame(96, 72, 1 if KINDS[kind][0].ndim == 2 else 3, 8)
    assert jpeg_frame(content[:20]) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_cut_is_noticed_and_trailing_bytes_are_not(kind: str) -> None:
    content = encoded(kind)
    assert jpeg_ends(content)
    assert jpeg_ends(content + b"\0\0\xff\xd8 a thumbnail")
    assert not any(jpeg_ends(content[:kept]) for kept in range(len(content)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.5, 0.9])
@pytest.mark.parametrize("filling", [b"", b"\0" * 4000])
def test_a_truncated_file_is_refused_even_if_its_place_on_the_disk_is_filled(
    kind: str, kept: float, filling: bytes
) -> None:
    content = encoded(kind)
    with pytest.raises(XrayError, match=r"a\.jpg is damaged or truncated"):
        decode_radiograph(content[: int(len(content) * kept)] + filling, name="a.jpg")


def recovered(content: bytes, kind: str, share: float) -> bytes:
    """A stream of which data were lost and that ends in an end marker all the same."""
    scan = content.index(b"\xff\xda")
    kept = scan + 20 + int((len(content) - scan) * share)
    start = content[:kept].rstrip(b"\xff")
    return (
        start
        + {
            "cut": b"\xff\xd9",
            "zeros": bytes(len(content) - kept) + b"\xff\xd9",
            "gap": content[kept + len(content) // 15 :],
        }[kind]
    )


@pytest.mark.parametrize("picture", ["baseline", "colour", "restarts", "optimised", "odd"])
@pytest.mark.parametrize("kind", ["cut", "zeros", "gap"])
def test_what_was_lost_before_an_end_marker_is_noticed(picture: str, kind: str) -> None:
    grey = cv2.resize(GREY, (300, 401) if picture == "odd" else (304, 400))
    noisy = np.clip(grey + np.random.default_rng(1).normal(0, 6, grey.shape), 0, 255).astype(np.uint8)
    settings = KINDS[picture][1] if picture in KINDS else [cv2.IMWRITE_JPEG_OPTIMIZE, int(picture == "optimised")]
    content = cv2.imencode(".jpg", np.dstack([noisy] * 3) if picture == "colour" else noisy, settings)[1].tobytes()
    decode_radiograph(content, name="a.jpg")
    for share in (0.1, 0.3, 0.6, 0.9):
        with pytest.raises(XrayError, match=r"^a\.jpg is damaged or truncated"):
            decode_radiograph(recovered(content, kind, share), name="a.jpg")


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("picture", KINDS)
def test_whole_pictures_with_an_even_end_are_read(picture: str, level: int) -> None:
    image = KINDS[picture][0].copy()
    image[40:] = level
    settings = [*KINDS[picture][1], cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    for even in (image, np.full((800, 1200), level, np.uint8)):  # the second is coded as nothing but zeros
        content = cv2.imencode(".jpg", even, settings)[1].tobytes()
        assert np.abs(decode_radiograph(content, name="a")[-20:].astype(int) - level).max() <= 1


def test_a_progressive_stream_needs_all_its_scans() -> None:
    content = encoded("progressive")
    last = content.rindex(b"\xff\xda")
    with pytest.raises(XrayError, match="damaged or truncated"):
        decode_radiograph(content[:last] + b"\xff\xd9", name="a.jpg")


@pytest.mark.parametrize(
    ("kind", "precision", "said"),
    [
        (0xC1, 12, "is a JPEG of 12 bits"),
        (0xC3, 16, "is a lossless JPEG of 16 bits"),
        (0xF7, 12, "is a JPEG-LS of 12 bits"),
    ],
)
def test_kinds_that_are_not_decoded_are_named(kind: int, precision: int, said: str) -> None:
    content = encoded("baseline")
    header = content.index(b"\xff\xc0")
    other = content[: header + 1] + bytes([kind]) + content[header + 2 : header + 4] + bytes([precision])
    with pytest.raises(XrayError, match=rf"^a\.jpg {said}, which is not decoded outside of DICOM; convert it to PNG"):
        decode_radiograph(other + content[header + 5 :], name="a.jpg")


def test_an_end_marker_inside_a_segment_does_not_end_the_file() -> None:
    content = encoded("progressive")
    scan = content.rindex(b"\xff\xda")
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    assert not jpeg_ends(content[:scan] + comment)
    assert jpeg_ends(content[:scan] + comment + content[scan:])


def test_scans_without_end_are_not_followed() -> None:
    content = encoded("progressive")
    scan, end = content.rindex(b"\xff\xda"), content.rindex(b"\xff\xd9")
    assert not jpeg_ends(content[:scan] + content[scan:end] * 200 + content[end:])


def test_exif_orientation_is_ignored() -> None:
    content = encoded("baseline")
    orientation = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"Exif\0\0" + orientation
    rotated = content[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + content[2:]
    assert cv2.imdecode(np.frombuffer(rotated, np.uint8), cv2.IMREAD_GRAYSCALE).shape == (72, 96)  # a viewer turns it
    np.testing.assert_array_equal(decode_radiograph(rotated, name="a"), decode_radiograph(content, name="a"))


def test_headers_that_decoders_warn_of_are_not_plain() -> None:
    content = encoded("baseline")
    version = content.index(b"JFIF\0") + 5
    adobe = b"\xff\xee\x00\x0eAdobe\0\x64\0\0\0\0"
    assert jpeg_is_plain(content)
    assert jpeg_is_plain(content[:2] + adobe + b"\x01" + content[2:])
    assert not jpeg_is_plain(content[:2] + adobe + b"\x07" + content[2:])
    assert not jpeg_is_plain(content[:version] + b"\xff" + content[version + 1 :])
    assert not jpeg_is_plain(content[:20] + b"\0" + content[20:])
    assert not jpeg_is_plain(content[:2] + b"\xff\0\0\x04ab" + content[2:])
    assert not jpeg_is_plain(content[:100])
