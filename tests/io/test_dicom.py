from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom import decode_dicom
from anomalib_xray.io.read import decode_radiograph, read_radiograph

pydicom = pytest.importorskip("pydicom")

SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "big endian": "1.2.840.10008.1.2.2",
    "deflated": "1.2.840.10008.1.2.1.99",
}
SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).random((22, 17)), (0, 0), 3)
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
GREY_8 = np.rint(20 + 200 * SMOOTH).astype(np.uint8)
GREY_12 = np.rint(300 + 3000 * SMOOTH).astype(np.uint16)
SIGNED = np.rint(-700 + 2000 * SMOOTH).astype(np.int16)
COLOUR = np.dstack([GREY_8, GREY_8[::-1], 255 - GREY_8])  # red, green, blue

Make = Callable[..., bytes]


def decoded(content: bytes) -> np.ndarray:
    return decode_radiograph(content, name="a.dcm")


def stretched(values: np.ndarray, highest: int = 65535) -> np.ndarray:
    values = values.astype(float)
    return np.rint((values - values.min()) * (highest / np.ptp(values)))


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(("pixels", "bits"), [(GREY_12, 12), (GREY_12, 16), (SIGNED, 16), (SIGNED, 12)])
def test_16_bit_values_fill_the_range(make_dicom: Make, syntax: str, pixels: np.ndarray, bits: int) -> None:
    read = decoded(make_dicom(pixels, syntax=SYNTAXES[syntax], bits=bits))
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, stretched(pixels))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_8_bit_values_are_kept(make_dicom: Make, syntax: str) -> None:
    read = decoded(make_dicom(GREY_8, syntax=SYNTAXES[syntax]))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, GREY_8)
    in_16_bits = decoded(make_dicom(GREY_8.astype(np.uint16), syntax=SYNTAXES[syntax], bits=8))
    assert in_16_bits.dtype == np.uint8
    np.testing.assert_array_equal(in_16_bits, GREY_8)


def test_a_rescaling_that_changes_nothing_keeps_8_bits(make_dicom: Make) -> None:
    np.testing.assert_array_equal(decoded(make_dicom(GREY_8, RescaleSlope=1, RescaleIntercept=0)), GREY_8)


def test_fewer_bits_fill_8(make_dicom: Make) -> None:
    four = (GREY_8 // 16).astype(np.uint8)
    read = decoded(make_dicom(four, bits=4))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, stretched(four, 255))
    one = GREY_8 > 99
    packed = np.packbits(one, axis=None, bitorder="little").tobytes()
    content = make_dicom(GREY_8, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=packed + b"\0" * (len(packed) % 2))
    np.testing.assert_array_equal(decoded(content), one * 255)


@pytest.mark.parametrize("name", ["a", "some.png"])
def test_dicom_is_recognised_by_content(make_dicom: Make, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(make_dicom(GREY_8))
    np.testing.assert_array_equal(read_radiograph(tmp_path / name), GREY_8)


def test_monochrome1_is_mirrored_within_its_range(make_dicom: Make) -> None:
    read = decoded(make_dicom(GREY_8, interpretation="MONOCHROME1"))
    np.testing.assert_array_equal(read, int(GREY_8.max()) + int(GREY_8.min()) - GREY_8.astype(int))
    read = decoded(make_dicom(GREY_12, bits=12, interpretation="MONOCHROME1"))
    np.testing.assert_array_equal(read, stretched(-GREY_12.astype(float)))


@pytest.mark.parametrize("slope", [2.5, -0.5])
def test_rescaling_is_applied(make_dicom: Make, slope: float) -> None:
    read = decoded(make_dicom(GREY_12, bits=12, RescaleSlope=slope, RescaleIntercept=-100))
    np.testing.assert_array_equal(read, stretched(slope * GREY_12 - 100))


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("slope", [1, 2])
def test_window_is_applied_behind_the_rescaling_and_before_the_mirroring(
    make_dicom: Make, interpretation: str, slope: int
) -> None:
    centre, width = 1500 * slope, 901 * slope
    content = make_dicom(
        GREY_12,
        bits=12,
        interpretation=interpretation,
        RescaleSlope=slope,
        RescaleIntercept=0,
        WindowCenter=[centre, 5],
        WindowWidth=[width, 7],
    )
    expected = np.clip((slope * GREY_12 - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)  # PS3.3 C.11.2.1.2.1
    assert 0 < (expected == 0).mean() < 1
    assert 0 < (expected == 1).mean() < 1
    expected = 1 - expected if interpretation == "MONOCHROME1" else expected
    np.testing.assert_allclose(decoded(content), 65535 * expected, atol=0.51)


@pytest.mark.parametrize("depth", [8, 10, 16])
@pytest.mark.parametrize("vague", [True, False])
def test_voi_table_goes_before_the_window(make_dicom: Make, make_table: Make, depth: int, vague: bool) -> None:
    curve = np.rint((2**depth - 1) * (np.arange(4096) / 4095) ** 2)
    content = make_dicom(
        GREY_12,
        bits=12,
        syntax=SYNTAXES["implicit" if vague else "explicit"],
        VOILUTSequence=[make_table(curve, depth)],
        WindowCenter=1000,
        WindowWidth=2,
    )
    np.testing.assert_array_equal(decoded(content), stretched(curve[GREY_12]))


def test_modality_table_is_applied(make_dicom: Make, make_table: Make) -> None:
    curve = np.sqrt(np.arange(3000)) * 1000
    item = make_table(curve, 16, first=500)
    item.ModalityLUTType = "US"
    read = decoded(make_dicom(GREY_12, bits=12, ModalityLUTSequence=[item]))
    np.testing.assert_array_equal(read, stretched(np.floor(curve)[np.clip(GREY_12.astype(int) - 500, 0, 2999)]))


def test_constant_pictures(make_dicom: Make) -> None:
    assert not decoded(make_dicom(np.full((3, 4), 700, np.uint16), bits=12)).any()
    for interpretation in ("MONOCHROME1", "MONOCHROME2"):
        content = make_dicom(np.full((3, 4), 70, np.uint8), interpretation=interpretation)
        np.testing.assert_array_equal(decoded(content), np.full((3, 4), 70))


def test_one_pixel(make_dicom: Make) -> None:
    np.testing.assert_array_equal(decoded(make_dicom(np.array([[9]], np.uint8))), [[9]])


def test_colour_becomes_weighted_grey(make_dicom: Make) -> None:
    expected = COLOUR @ [0.299, 0.587, 0.114]  # ITU-R BT.601
    np.testing.assert_allclose(decoded(make_dicom(COLOUR, interpretation="RGB")), expected, atol=0.51)
    planes = COLOUR.transpose(2, 0, 1).tobytes()
    content = make_dicom(COLOUR, interpretation="RGB", PlanarConfiguration=1, PixelData=planes)
    np.testing.assert_allclose(decoded(content), expected, atol=0.51)
    bright_chroma = np.dstack([GREY_8, np.full_like(GREY_8, 128), np.full_like(GREY_8, 128)])
    np.testing.assert_allclose(decoded(make_dicom(bright_chroma, interpretation="YBR_FULL")), GREY_8, atol=1)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_palette_is_looked_up(make_dicom: Make, depth: type) -> None:
    entries = (np.random.default_rng(1).random((3, 256)) * np.iinfo(depth).max).astype(depth)
    elements: dict[str, Any] = {}
    for colour, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 8 * entries.itemsize]
        elements[f"{colour}PaletteColorLookupTableData"] = row.tobytes()
    read = decoded(make_dicom(GREY_8, interpretation="PALETTE COLOR", **elements))
    assert read.dtype == depth
    red, green, blue = entries[:, GREY_8].astype(float)
    np.testing.assert_allclose(read, 0.299 * red + 0.587 * green + 0.114 * blue, rtol=2e-4, atol=0.6)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"])
def test_lossless_compression_changes_nothing(make_dicom: Make, compress: Make, syntax: str) -> None:
    grey = [make_dicom(GREY_8), make_dicom(GREY_12, bits=12, WindowCenter=2000, WindowWidth=800)]
    for content in [*grey, make_dicom(COLOUR, interpretation="RGB")]:
        np.testing.assert_array_equal(decoded(compress(content, syntax)), decoded(content))


def test_lossy_compression_changes_little(make_dicom: Make, compress: Make) -> None:
    read = decoded(compress(make_dicom(GREY_8), "JPEGBaseline8Bit"))
    assert np.abs(read.astype(int) - GREY_8).max() <= 5


@pytest.mark.parametrize(
    ("file", "shape", "depth"),
    [
        ("CT_small.dcm", (128, 128), np.uint16),
        ("MR_small_bigendian.dcm", (64, 64), np.uint16),
        ("MR_small_jp2klossless.dcm", (64, 64), np.uint16),
        ("MR_small_jpeg_ls_lossless.dcm", (64, 64), np.uint16),
        ("MR_small_RLE.dcm", (64, 64), np.uint16),
        ("JPEG2000.dcm", (1024, 256), np.uint16),
        ("693_J2KI.dcm", (512, 512), np.uint16),
        ("examples_jpeg2k.dcm", (480, 640), np.uint8),
        ("examples_palette.dcm", (350, 800), np.uint16),
        ("image_dfl.dcm", (512, 512), np.uint8),
        ("liver_1frame.dcm", (512, 512), np.uint8),
        ("SC_rgb_jpeg_dcmtk.dcm", (100, 100), np.uint8),
        ("SC_rgb_small_odd_big_endian.dcm", (3, 3), np.uint8),
    ],
)
def test_files_of_other_writers(file: str, shape: tuple[int, int], depth: type) -> None:
    read = read_radiograph(pydicom.data.get_testdata_file(file, download=False))
    assert read.shape == shape
    assert read.dtype == depth
    assert np.ptp(read) > 50


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("SC_rgb_rle_2frame.dcm", "several frames"),
        ("test-SR.dcm", "without a picture"),
        ("rtplan.dcm", "without a picture"),
        ("rtdose_1frame.dcm", "depth that is not supported"),
        ("MR_truncated.dcm", "damaged"),
        ("badVR.dcm", "depth that is not supported"),
        ("JPEG2000-embedded-sequence-delimiter.dcm", "damaged"),
        ("no_meta.dcm", "neither a PNG"),
    ],
)
def test_what_is_no_readable_picture_is_refused_by_name(file: str, reason: str) -> None:
    path = pydicom.data.get_testdata_file(file, download=False)
    with pytest.raises(XrayError, match=reason) as caught:
        read_radiograph(path)
    assert str(caught.value).startswith(path)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 2}, "several frames"),
        ({"SamplesPerPixel": 2}, "colours of a kind"),
        ({"PhotometricInterpretation": "HSV"}, "colours of a kind"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "depth"),
        ({"BitsStored": 9}, "depth"),
        ({"Rows": None}, "without a picture"),
        ({"PixelData": None}, "without a picture"),
        ({"Rows": 0}, "no picture size"),
        ({"Rows": 23}, "damaged"),
        ({"RescaleSlope": "1e307", "RescaleIntercept": "1e308"}, "damaged"),
    ],
)
def test_unusable_headers_are_refused(make_dicom: Make, elements: dict[str, Any], reason: str) -> None:
    with pytest.raises(XrayError, match=reason):
        decoded(make_dicom(GREY_8, **elements))


def test_a_single_frame_may_be_counted(make_dicom: Make) -> None:
    np.testing.assert_array_equal(decoded(make_dicom(GREY_8, NumberOfFrames=1)), GREY_8)


def test_size_is_limited_before_decoding(make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_dicom(GREY_8)
    assert decode_dicom(content, name="a", max_pixels=GREY_8.size).shape == GREY_8.shape

    def must_not_decode(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", must_not_decode)
    with pytest.raises(XrayError, match="a declares 17 x 22 pixels"):
        decode_dicom(content, name="a", max_pixels=GREY_8.size - 1)


def test_a_second_size_behind_the_pixels_does_not_count(make_dicom: Make) -> None:
    rows = b"\x28\x00\x10\x00US\x02\x00\xff\xff"
    np.testing.assert_array_equal(decoded(make_dicom(GREY_8) + rows), GREY_8)


@pytest.mark.parametrize("syntax", ["JPEGBaseline8Bit", "JPEGLSLossless", "JPEG2000Lossless"])
def test_a_frame_of_another_size_is_not_decoded(
    make_dicom: Make, compress: Make, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = compress(make_dicom(GREY_8), syntax)
    rows = b"\x28\x00\x10\x00US\x02\x00"
    smaller = content.replace(rows + b"\x16\x00", rows + b"\x10\x00", 1)
    assert smaller != content

    def must_not_decode(*_: object, **__: object) -> None:
        raise SystemExit("decoded")

    monkeypatch.setattr("pydicom.pixels.utils.pixel_array", must_not_decode)
    with pytest.raises(XrayError, match=r"a\.dcm is damaged"):
        decoded(smaller)


@pytest.mark.parametrize("syntax", [*SYNTAXES, "RLELossless", "JPEGBaseline8Bit", "JPEGLSLossless", "JPEG2000Lossless"])
def test_every_cut_through_the_pixels_is_noticed(make_dicom: Make, compress: Make, syntax: str) -> None:
    content = (
        make_dicom(GREY_8, syntax=SYNTAXES[syntax]) if syntax in SYNTAXES else compress(make_dicom(GREY_8), syntax)
    )
    for kept in range(len(content) // 2, len(content) - 8, 7):
        with pytest.raises(XrayError, match=r"a\.dcm"):
            decoded(content[:kept])


def test_nothing_of_the_patient_is_shown(
    make_dicom: Make,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    bad_text = make_dicom(GREY_8).replace(b"1.2.3.4", b"Doe^Joe")
    bad_number = make_dicom(GREY_8, WindowCenter="4444", WindowWidth=5).replace(b"4444", b"Doe^")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decoded(bad_text), GREY_8)
        notes: list[str] = []
        decode_radiograph(bad_number, name="a.dcm", notes=notes)
        with pytest.raises(XrayError) as caught:
            decoded(make_dicom(GREY_8, HighBit=None, PatientName="Doe^").replace(b"\x28\0\0\1US", b"\x28\0\0\1XX"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    output = capfd.readouterr()
    for text in (str(caught.value), *notes, output.out, output.err, caplog.text):
        assert "Doe" not in text
    assert not logging.getLogger("pydicom").disabled


@pytest.mark.parametrize("missing", ["pydicom", "gdcm"])
def test_what_is_missing_can_be_installed(
    make_dicom: Make, compress: Make, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = compress(make_dicom(GREY_8), "JPEG2000Lossless")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(XrayError, match=r"a\.dcm .* pip install 'anomalib-xray\[dicom\]'"):
        decoded(content)
