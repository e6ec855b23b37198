from __future__ import annotations

import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import decode_radiograph, read_anomaly_mask, read_radiograph, to_unit_interval
from anomalib_xray.io.write import write_png

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8) * 5


def encoded(extension: str, image: np.ndarray) -> bytes:
    return cv2.imencode(extension, image)[1].tobytes()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def png(width: int, height: int, depth: int, colour_type: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written from its specification (ISO/IEC 15948), for the kinds that OpenCV does not write."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, colour_type, 0, 0, 0])
    chunks = [png_chunk(b"IHDR", header), *extra, png_chunk(b"IDAT", zlib.compress(rows)), png_chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_grey_png_keeps_every_level_and_its_depth(tmp_path: Path, depth: type) -> None:
    image = RAMP.astype(depth) * (1 if depth is np.uint8 else 87)
    file = tmp_path / "a.png"
    file.write_bytes(encoded(".png", image))
    read = read_radiograph(file)
    assert read.dtype == depth
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_grey_stored_as_colour_is_that_grey_and_alpha_is_dropped(depth: type, channels: int) -> None:
    image = RAMP.astype(depth)
    layers = np.dstack([image] * 3 + [np.full_like(image, 7)] * (channels - 3))
    read = decode_radiograph(encoded(".png", layers), name="a.png")
    assert read.dtype == depth
    np.testing.assert_array_equal(read, image)


def test_colour_becomes_weighted_grey() -> None:
    blue_green_red = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    read = decode_radiograph(encoded(".png", blue_green_red), name="a.png")
    np.testing.assert_allclose(read, [[0.114 * 255, 0.587 * 255, 0.299 * 255]], atol=0.5)  # ITU-R BT.601


def test_palette_is_looked_up() -> None:
    palette = png_chunk(b"PLTE", bytes([0, 0, 0, 90, 90, 90, 200, 200, 200]))
    content = png(3, 1, 8, 3, bytes([0, 2, 0, 1]), palette)
    np.testing.assert_array_equal(decode_radiograph(content, name="a.png"), [[200, 0, 90]])


def test_grey_with_alpha_and_one_bit_pictures_are_read() -> None:
    grey_alpha = png(2, 1, 8, 4, bytes([0, 50, 0, 60, 255]))
    np.testing.assert_array_equal(decode_radiograph(grey_alpha, name="a.png"), [[50, 60]])
    one_bit = png(3, 1, 1, 0, bytes([0, 0b10100000]))
    np.testing.assert_array_equal(decode_radiograph(one_bit, name="a.png"), [[255, 0, 255]])


@pytest.mark.parametrize("as_colour", [False, True])
def test_jpeg_is_recognised_by_content_not_by_name(tmp_path: Path, as_colour: bool) -> None:
    image = np.repeat(np.repeat(RAMP, 8, 0), 8, 1)
    file = tmp_path / "wrong_name.png"
    file.write_bytes(encoded(".jpg", np.dstack([image] * 3) if as_colour else image))
    read = read_radiograph(file)
    assert read.shape == image.shape
    assert np.abs(read.astype(int) - image).max() <= 6


def test_progressive_jpeg_and_segments_before_the_frame_header_are_walked_over() -> None:
    image = np.repeat(np.repeat(RAMP, 8, 0), 8, 1)
    content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    comment = b"\xff\xfe\x00\x08\xff\xc0\x00\x11\x08\x00"  # a comment that holds what looks like a frame header
    read = decode_radiograph(content[:2] + b"\xff" + comment + content[2:], name="a.jpg")
    assert read.shape == image.shape


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9])
def test_truncated_file_is_refused_by_name(tmp_path: Path, extension: str, kept: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 40), dtype=np.uint8)
    content = encoded(extension, noise)
    file = tmp_path / f"cut{extension}"
    file.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(XrayError, match=f"cut{extension}"):
        read_radiograph(file)


def test_corrupted_png_is_refused() -> None:
    content = bytearray(encoded(".png", RAMP))
    content[-20] ^= 0xFF
    with pytest.raises(XrayError, match=r"bad\.png is damaged"):
        decode_radiograph(bytes(content), name="bad.png")


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x10JFIF", png(0, 4, 8, 0, b"")],
)
def test_what_is_no_picture_is_refused_by_name(content: bytes) -> None:
    with pytest.raises(XrayError, match=r"some\.png"):
        decode_radiograph(content, name="some.png")


@pytest.mark.parametrize(
    ("content", "way_out"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "git lfs pull"),
        (b"/annex/objects/MD5E-s12--abc.png\n", "git annex get"),
        (b"", "is empty; copy or download it again"),
        (bytes(5000), "nothing but zeros; copy"),
        (b"\n<!DOCTYPE html><title>403", "is a web page.* download it again"),
        (b"\xef\xbb\xbf<html>", "is a web page"),
        (b"<?xml version='1.0'?><Error>", "is XML"),
        (b"\x1f\x8b\x08\0", "unpack it"),
        (b"PK\3\4", "unpack it"),
        (b"GIF89a", "convert it to PNG"),
    ],
)
def test_what_stands_in_a_pictures_place_is_named_with_the_way_out(content: bytes, way_out: str) -> None:
    with pytest.raises(XrayError, match=rf"^some\.png .*{way_out}"):
        decode_radiograph(content, name="some.png")


@pytest.mark.parametrize("extension", [".png", ".jpg"])
def test_size_is_limited_from_the_header_before_decoding(extension: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(extension, np.zeros((30, 20), np.uint8))
    assert decode_radiograph(content, name="a", max_pixels=600).shape == (30, 20)

    def must_not_decode(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(cv2, "imdecode", must_not_decode)
    with pytest.raises(XrayError, match="20 x 30 pixels"):
        decode_radiograph(content, name="a", max_pixels=599)


def test_bytes_are_limited_before_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded(".png", RAMP))
    with pytest.raises(XrayError, match=r"a\.png has \d+ bytes"):
        read_radiograph(file, max_bytes=10)


def test_missing_file_and_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"gone\.png"):
        read_radiograph(tmp_path / "gone.png")
    with pytest.raises(XrayError, match=str(tmp_path)):
        read_radiograph(tmp_path)


def test_every_8_bit_level_is_divided_by_255() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    unit = to_unit_interval(levels)
    assert unit.dtype == np.float32
    np.testing.assert_allclose(unit, levels / 255, rtol=1e-6)


def test_12_bits_in_a_16_bit_file_fill_the_range_and_stay_distinct() -> None:
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    unit = to_unit_interval(levels)
    assert unit.max() == 1
    assert len(np.unique(unit[levels >= 17])) == 4096 - 17


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_background_stays_0_and_foreground_is_at_least_one_grey_level(depth: type) -> None:
    image = np.array([[0, 1, 2], [0, 3, np.iinfo(depth).max]], depth)
    unit = to_unit_interval(image)
    np.testing.assert_array_equal(unit == 0, image == 0)
    assert unit[image > 0].min() >= np.float32(1 / 255)
    assert unit.max() == 1


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_black_picture_stays_black(depth: type) -> None:
    assert not to_unit_interval(np.zeros((3, 4), depth)).any()


def test_other_depths_are_refused() -> None:
    with pytest.raises(XrayError, match="float64"):
        to_unit_interval(np.ones((2, 2)))  # type: ignore[arg-type]  # the wrong type is the test


def test_reading_needs_no_torch() -> None:
    code = "import sys, anomalib_xray.io.read, anomalib_xray.io.write; print({'torch', 'anomalib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def ellipse(value: int = 255) -> np.ndarray:
    mask = np.zeros((512, 400), np.uint8)
    cv2.ellipse(mask, (200, 250), (40, 25), 20, 0, 360, value, -1)
    return mask


@pytest.mark.parametrize("quality", [60, 75, 95, 100])
def test_a_mask_saved_as_jpeg_keeps_its_area(tmp_path: Path, quality: int) -> None:
    cv2.imwrite(str(tmp_path / "mask.jpg"), ellipse(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    found = read_anomaly_mask(tmp_path / "mask.jpg")
    assert found.sum() == pytest.approx((ellipse() > 0).sum(), rel=0.02)
    assert (found != (ellipse() > 0)).sum() < 0.02 * found.sum()


def test_a_mask_with_a_smooth_outline_keeps_its_area_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_png(tmp_path / "mask.png", cv2.GaussianBlur(ellipse(), (9, 9), 2))
    assert read_anomaly_mask(tmp_path / "mask.png").sum() == pytest.approx((ellipse() > 0).sum(), rel=0.02)
    assert "grey levels; pixels from half" in caplog.text


@pytest.mark.parametrize("values", [(1,), (255,), (1, 2, 3), (85, 170, 255), tuple(range(1, 15)), (60000,)])
def test_every_label_of_a_map_is_anomalous(tmp_path: Path, values: tuple[int, ...]) -> None:
    labels = np.zeros((4, len(values) + 1), np.uint16 if max(values) > 255 else np.uint8)
    labels[:, 1:] = values
    write_png(tmp_path / "mask.png", labels)
    np.testing.assert_array_equal(read_anomaly_mask(tmp_path / "mask.png"), labels > 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipes_devices_and_broken_links_are_named_and_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("store/abc")
    for path in (tmp_path / "pipe.png", Path("/dev/zero")):
        with pytest.raises(XrayError, match=f"{path} is a pipe or a device"):
            read_radiograph(path)
    with pytest.raises(XrayError, match=r"gone\.png is a link to store/abc, which is not there"):
        read_radiograph(tmp_path / "gone.png")
