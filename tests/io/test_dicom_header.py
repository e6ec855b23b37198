"""Header values that contradict each other or the pixels: repaired, left out with a word, or refused by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from .conftest import read, refusal, stretched

pydicom = pytest.importorskip("pydicom")

Make = Callable[..., bytes]

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).random((24, 18)), (0, 0), 3)
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
GREY_8 = np.rint(20 + 200 * SMOOTH).astype(np.uint8)
GREY_12 = np.rint(100 + 3900 * SMOOTH).astype(np.uint16)
SIGNED_12 = np.rint(-2000 + 3900 * SMOOTH).astype(np.int16)
COLOUR = np.dstack([GREY_8, GREY_8[::-1], 255 - GREY_8])


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("overlay", [0, 5])
def test_pixels_justified_to_the_left_are_read_from_their_bits(make_dicom: Make, signed: bool, overlay: int) -> None:
    pixels = SIGNED_12 if signed else GREY_12
    left = ((pixels.astype(np.int64) << 4) + overlay).astype(pixels.dtype)
    image, notes = read(make_dicom(left, bits=12, HighBit=15))
    np.testing.assert_array_equal(image, stretched(pixels))
    assert notes == ["HighBit-repaired"]


def test_a_window_is_meant_for_the_bits_that_are_stored(make_dicom: Make) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    left, _ = read(make_dicom(GREY_12 << 4, bits=12, HighBit=15, **window))
    np.testing.assert_array_equal(left, read(make_dicom(GREY_12, bits=12, **window))[0])


@pytest.mark.parametrize(("bits", "high"), [(12, 15), (12, 13), (12, 10), (12, None), (12, 16), (16, 11)])
def test_a_high_bit_that_the_pixels_belie_is_not_believed(make_dicom: Make, bits: int, high: int | None) -> None:
    image, notes = read(make_dicom(GREY_12, bits=bits, HighBit=high))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["HighBit-repaired"]


def test_values_beyond_the_bits_stored_do_not_wrap_around(make_dicom: Make) -> None:
    image, notes = read(make_dicom(GREY_12, bits=11))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["BitsStored-repaired"]
    image, notes = read(make_dicom(SIGNED_12, bits=9))
    np.testing.assert_array_equal(image, stretched(SIGNED_12))
    assert notes == ["BitsStored-repaired"]
    image, notes = read(make_dicom(GREY_8.astype(np.uint16) * 3, bits=8))
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image, stretched(GREY_8))


@pytest.mark.parametrize("bits", [10, 11])
def test_values_with_sharp_edges_do_not_wrap_around_either(make_dicom: Make, bits: int) -> None:
    y, x = np.mgrid[:96, :80]
    film = np.where((x - 40) ** 2 + (y - 48) ** 2 < 600, 3000 + 8 * y, 200 + 5 * x + 3 * y).astype(np.uint16)
    image, notes = read(make_dicom(film, bits=bits))
    np.testing.assert_array_equal(image, stretched(film))
    assert notes == ["BitsStored-repaired"]


def test_rubbish_above_the_bits_stored_is_no_value(make_dicom: Make) -> None:
    rubbish = np.random.default_rng(0).integers(0, 16, GREY_12.shape).astype(np.uint16) << 12
    window = {"WindowCenter": 2000, "WindowWidth": 1000}
    for above in (rubbish, np.uint16(0xF000)):
        image, notes = read(make_dicom(GREY_12 | above, bits=12, **window))
        np.testing.assert_array_equal(image, read(make_dicom(GREY_12, bits=12, **window))[0])
        assert notes == ["BitsStored-repaired"]


@pytest.mark.parametrize("signed", [False, True])
def test_marks_beyond_the_bits_stored_do_not_eat_the_range(make_dicom: Make, signed: bool) -> None:
    pixels = np.rint((-2048 if signed else 0) + 4095 * SMOOTH).astype(np.int16 if signed else np.uint16)
    lettered, hot = pixels.copy(), pixels.copy()
    lettered[2:6, 2:5] = np.iinfo(pixels.dtype).max
    hot[0, 0], hot[5, 5], hot[7, 1] = np.iinfo(pixels.dtype).max, 9000, 20000
    for marked in (lettered, hot):
        image, notes = read(make_dicom(marked, bits=12))
        np.testing.assert_array_equal(image, stretched(np.minimum(marked, 2047 if signed else 4095)))
        assert notes == ["BitsStored-repaired"]


def test_bright_parts_that_go_on_beyond_the_bits_stored_are_kept(make_dicom: Make) -> None:
    brighter = np.rint(4600.0 * SMOOTH).astype(np.uint16)
    assert 0 < (brighter > 4095).mean() < 0.05
    image, notes = read(make_dicom(brighter, bits=12))
    np.testing.assert_array_equal(image, stretched(brighter))
    assert notes == ["BitsStored-repaired"]


def test_overlays_in_unused_bits_are_no_values(make_dicom: Make) -> None:
    drawn = GREY_12 | (np.arange(18) > 9).astype(np.uint16) << 12
    content = make_dicom(drawn, bits=12)
    position = content.rindex(b"\xe0\x7f\x10\x00")
    declared = content[:position] + b"\0\x60\2\1US\2\0\x0c\0" + content[position:]
    image, notes = read(declared)
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == []
    assert read(content)[1] == ["BitsStored-repaired"]


def test_signed_values_without_the_bits_of_their_sign_are_extended(make_dicom: Make) -> None:
    image, notes = read(make_dicom((SIGNED_12 & 0xFFF).astype(np.int16), bits=12))
    np.testing.assert_array_equal(image, stretched(SIGNED_12))
    assert notes == []


def test_signed_values_of_8_bits_do_not_lose_the_negative_ones(make_dicom: Make) -> None:
    signed = (GREY_8.astype(int) - 120).astype(np.int8)
    np.testing.assert_array_equal(read(make_dicom(signed))[0], stretched(signed, 255))


@pytest.mark.parametrize(
    ("elements", "named"),
    [
        ({"Rows": 0}, "Rows"),
        ({"Columns": None}, "without a picture"),
        ({"Rows": 25}, "Rows"),
        ({"Columns": 17}, "Columns"),
        ({"Rows": 12}, "NumberOfFrames"),
        ({"NumberOfFrames": 3}, "NumberOfFrames"),
        ({"BitsAllocated": 16, "BitsStored": 8}, "BitsAllocated"),
        ({"BitsAllocated": 12, "BitsStored": 8}, "BitsAllocated"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "BitsAllocated"),
        ({"BitsStored": 0}, "BitsStored"),
        ({"BitsStored": None}, "BitsStored"),
        ({"BitsStored": 9}, "BitsStored"),
        ({"PixelRepresentation": 7}, "PixelRepresentation"),
        ({"PixelRepresentation": None}, "PixelRepresentation"),
        ({"PixelRepresentation": 1, "HighBit": 3}, "HighBit"),
        ({"PhotometricInterpretation": None}, "PhotometricInterpretation"),
        ({"PhotometricInterpretation": "RGB"}, "PhotometricInterpretation"),
        ({"SamplesPerPixel": 3}, "SamplesPerPixel"),
        ({"SamplesPerPixel": 2}, "SamplesPerPixel"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "RedPaletteColorLookupTableDescriptor"),
        ({"RescaleSlope": "1e307", "RescaleIntercept": "1e308"}, "RescaleSlope"),
    ],
)
def test_what_the_picture_depends_on_is_refused_by_its_name(
    make_dicom: Make, elements: dict[str, Any], named: str
) -> None:
    assert named in refusal(make_dicom(GREY_8, **elements))


@pytest.mark.parametrize("planar", [None, 2])
def test_colours_of_unknown_order_are_refused(make_dicom: Make, planar: int | None) -> None:
    assert "PlanarConfiguration" in refusal(make_dicom(COLOUR, interpretation="RGB", PlanarConfiguration=planar))


@pytest.mark.parametrize("keyword", ["FloatPixelData", "DoubleFloatPixelData"])
def test_pixels_that_are_no_whole_numbers_are_refused(make_dicom: Make, keyword: str) -> None:
    vr, size = ("OF", 4) if keyword == "FloatPixelData" else ("OD", 8)
    content = make_dicom(GREY_8, PixelData=None)
    tag = pydicom.tag.Tag(keyword)
    element = b"\xe0\x7f" + tag.element.to_bytes(2, "little") + vr.encode() + b"\0\0" + (size * 4).to_bytes(4, "little")
    assert f"holds its picture as {keyword}" in refusal(content + element + bytes(size * 4))


@pytest.mark.parametrize(
    ("elements", "noted"),
    [
        ({"NumberOfFrames": 0}, ["NumberOfFrames-ignored"]),
        ({"NumberOfFrames": None, "PatientID": "1"}, []),
        ({"SamplesPerPixel": None}, ["SamplesPerPixel-repaired"]),
        ({"PhotometricInterpretation": "monochrome2"}, []),
        ({"PlanarConfiguration": 1}, []),
        ({"PresentationLUTShape": "INVERSE"}, ["PresentationLUTShape-ignored"]),
        ({"PresentationLUTShape": "IDENTITY"}, []),
        ({"PresentationLUTSequence": [pydicom.Dataset()]}, ["PresentationLUTSequence-ignored"]),
        ({"PixelAspectRatio": [2, 1]}, ["PixelAspectRatio-ignored"]),
        ({"PixelAspectRatio": [0, -1]}, []),
        ({"PixelSpacing": [0.1, 0.2]}, ["PixelSpacing-ignored"]),
        ({"PixelSpacing": [0.143, 0.143], "ImagerPixelSpacing": ""}, []),
        ({"PixelData": GREY_8.tobytes() + b"\1\0"}, ["PixelData-repaired"]),
        ({"PixelData": GREY_8.tobytes() + bytes(5000)}, ["PixelData-repaired"]),
        ({"HighBit": 9}, ["HighBit-repaired"]),
    ],
)
def test_what_it_does_not_depend_on_is_repaired_or_left_out_with_a_word(
    make_dicom: Make, elements: dict[str, Any], noted: list[str]
) -> None:
    if elements.get("NumberOfFrames", 0) is None:
        elements = {**elements, "NumberOfFrames": ""}
    image, notes = read(make_dicom(GREY_8, **elements))
    np.testing.assert_array_equal(image, GREY_8)
    assert notes == noted
