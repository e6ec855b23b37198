"""The display pipeline where tables, windows, rescaling and padding are not as a text-book has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import decode_radiograph

from .conftest import read, stretched

pydicom = pytest.importorskip("pydicom")

Make = Callable[..., bytes]

IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).random((24, 18)), (0, 0), 3)
SMOOTH = (SMOOTH - SMOOTH.min()) / np.ptp(SMOOTH)
GREY_8 = np.rint(20 + 200 * SMOOTH).astype(np.uint8)
GREY_12 = np.rint(100 + 3900 * SMOOTH).astype(np.uint16)
SIGNED_12 = np.rint(-2000 + 3900 * SMOOTH).astype(np.int16)


def table_of(data: bytes, descriptor: list[int], **more: Any) -> Any:
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "SS" if descriptor[1] < 0 else "US", descriptor)
    item.add_new("LUTData", "OW", data)
    for keyword, value in more.items():
        setattr(item, keyword, value)
    return item


def with_text(content: bytes, keyword: str, text: bytes) -> bytes:
    """The file with a text in a number's place; both have 4 bytes."""
    tag = pydicom.tag.Tag(keyword)
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + b"DS\4\0"
    position = content.index(head) + len(head)
    return content[:position] + text + content[position + 4 :]


@pytest.mark.parametrize(
    "window",
    [
        {"WindowCenter": "2048", "WindowWidth": "0"},
        {"WindowCenter": "2048", "WindowWidth": "-100"},
        {"WindowCenter": "2048", "WindowWidth": "0.5"},
        {"WindowCenter": "2048", "WindowWidth": ""},
        {"WindowCenter": "", "WindowWidth": "100"},
        {"WindowCenter": "2048"},
        {"WindowWidth": "2048"},
        {"WindowCenter": "60000", "WindowWidth": "10"},
        {"WindowCenter": "-1e300", "WindowWidth": "1e10"},
        {"WindowCenter": "2048", "WindowWidth": "0", "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": ["2048", ""], "WindowWidth": ["0", ""]},
    ],
)
def test_a_window_that_cannot_be_used_is_left_out_with_a_word(make_dicom: Make, window: dict[str, Any]) -> None:
    image, notes = read(make_dicom(GREY_12, bits=12, **window))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["WindowWidth-ignored"]


@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", [b"NaN ", b"inf ", b"wide", b"\0\0\0\0"])
def test_so_is_one_that_is_no_number(make_dicom: Make, keyword: str, text: bytes) -> None:
    content = make_dicom(GREY_12, bits=12, WindowCenter="2048", WindowWidth="4000")
    image, notes = read(with_text(content, keyword, text))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["WindowWidth-ignored"]


@pytest.mark.parametrize("function", ["", " linear", "LINEAR", None])
def test_an_empty_function_is_linear(make_dicom: Make, function: str | None) -> None:
    more = {} if function is None else {"VOILUTFunction": function}
    image, notes = read(make_dicom(GREY_12, bits=12, WindowCenter=2000, WindowWidth=901, **more))
    expected = np.clip((GREY_12 - 1999.5) / 900 + 0.5, 0, 1)  # PS3.3, section C.11.2.1.2.1
    np.testing.assert_allclose(image, 65535 * expected, atol=0.51)
    assert notes == []


def test_other_functions(make_dicom: Make) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 900}
    image, notes = read(make_dicom(GREY_12, bits=12, VOILUTFunction="LINEAR_EXACT", **window))
    np.testing.assert_allclose(image, 65535 * np.clip((GREY_12 - 2000.0) / 900 + 0.5, 0, 1), atol=0.51)
    assert notes == []
    image, notes = read(make_dicom(GREY_12, bits=12, VOILUTFunction="SIGMOID", **window))
    np.testing.assert_allclose(image, stretched(1 / (1 + np.exp(-4 * (GREY_12 - 2000.0) / 900))), atol=1)
    assert notes == []
    image, notes = read(make_dicom(GREY_12, bits=12, VOILUTFunction="CUBIC", **window))
    np.testing.assert_array_equal(image, read(make_dicom(GREY_12, bits=12, **window))[0])
    assert notes == ["VOILUTFunction-ignored"]


def test_the_first_usable_window_of_several_is_taken(make_dicom: Make) -> None:
    several = make_dicom(GREY_12, bits=12, WindowCenter=[0, 2000, 9], WindowWidth=[0, 901, 9])
    image, notes = read(several)
    np.testing.assert_array_equal(image, read(make_dicom(GREY_12, bits=12, WindowCenter=2000, WindowWidth=901))[0])
    assert notes == ["WindowWidth-ignored"]
    trailing = with_text(
        make_dicom(GREY_12, bits=12, WindowCenter="2000", WindowWidth=[901, 9]), "WindowCenter", b"2e3\\"
    )
    np.testing.assert_array_equal(read(trailing)[0], image)
    more_centres = make_dicom(GREY_12, bits=12, WindowCenter=[2000, 3], WindowWidth=901)
    np.testing.assert_array_equal(read(more_centres)[0], image)


def test_a_window_of_width_1_is_a_threshold(make_dicom: Make) -> None:
    image, _ = read(make_dicom(GREY_12, bits=12, WindowCenter=2000, WindowWidth=1))
    np.testing.assert_array_equal(image, 65535 * (GREY_12 > 1999.5))


@pytest.mark.parametrize("slope", ["0", "", "NaN ", "text", "inf ", "1e-310"])
def test_a_slope_that_cannot_be_is_left_out_with_a_word(make_dicom: Make, slope: str) -> None:
    content = make_dicom(
        GREY_12, bits=12, RescaleSlope="1.00", RescaleIntercept="-9", WindowCenter=900, WindowWidth=801
    )
    expected, notes = read(content)
    assert notes == []
    if len(slope) == 4:
        content = with_text(content, "RescaleSlope", slope.encode())
    else:
        content = make_dicom(
            GREY_12, bits=12, RescaleSlope=slope, RescaleIntercept="-9", WindowCenter=900, WindowWidth=801
        )
    image, notes = read(content)
    np.testing.assert_array_equal(image, expected)
    assert notes == ["RescaleSlope-ignored"]


@pytest.mark.parametrize("intercept", [None, "", "nan ", "1e25"])
def test_an_intercept_that_cannot_be_is_left_out_with_a_word(make_dicom: Make, intercept: str | None) -> None:
    rescaling = {"RescaleSlope": "2"} | ({} if intercept is None else {"RescaleIntercept": "2000"})
    content = make_dicom(GREY_12, bits=12, **rescaling)
    if intercept is not None:
        content = (
            with_text(content, "RescaleIntercept", intercept.encode())
            if intercept
            else make_dicom(GREY_12, bits=12, **(rescaling | {"RescaleIntercept": ""}))
        )
    image, notes = read(content)
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["RescaleIntercept-ignored"]


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("syntax", [IMPLICIT, "1.2.840.10008.1.2.1"])
def test_tables_of_every_depth(make_dicom: Make, depth: int, sequence: str, syntax: str) -> None:
    curve = np.rint(np.sqrt(np.arange(4096) / 4095) * (2**depth - 1)).astype("<u2")
    more = {"ModalityLUTType": "US"} if sequence == "ModalityLUTSequence" else {}
    item = table_of(curve.tobytes(), [4096, 0, depth], **more)
    image, notes = read(make_dicom(GREY_12, bits=12, syntax=syntax, **{sequence: [item]}))
    np.testing.assert_array_equal(image, stretched(curve[GREY_12]))
    assert notes == []


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_table_of_65536_entries_declares_none(make_dicom: Make, sequence: str) -> None:
    curve = (np.arange(65536) ** 2 >> 16).astype("<u2")
    pixels = GREY_12 * np.uint16(16)
    image, _ = read(make_dicom(pixels, bits=16, **{sequence: [table_of(curve.tobytes(), [0, 0, 16])]}))
    np.testing.assert_array_equal(image, stretched(curve[pixels]))


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("first", [-2048, 65536 - 2048])
def test_a_table_may_begin_below_0(make_dicom: Make, sequence: str, first: int) -> None:
    curve = np.rint(np.sqrt(np.arange(4096) / 4095) * 4095).astype("<u2")
    descriptor = [4096, first, 12]
    image, _ = read(make_dicom(SIGNED_12, bits=12, **{sequence: [table_of(curve.tobytes(), descriptor)]}))
    np.testing.assert_array_equal(image, stretched(curve[SIGNED_12.astype(int) + 2048]))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", BIG_ENDIAN])
def test_entries_of_8_bits_may_be_packed(make_dicom: Make, packed: bool, syntax: str) -> None:
    curve = np.rint(np.sqrt(np.arange(256) / 255) * 255).astype(np.uint8)
    big = syntax == BIG_ENDIAN
    words = curve.reshape(-1, 2)[:, ::-1].tobytes() if big else curve.tobytes()
    data = words if packed else curve.astype(">u2" if big else "<u2").tobytes()
    image, _ = read(make_dicom(GREY_8, syntax=syntax, VOILUTSequence=[table_of(data, [256, 0, 8])]))
    np.testing.assert_array_equal(image, stretched(curve[GREY_8], 255))


def test_a_voi_table_that_cannot_be_used_gives_way(make_dicom: Make, make_table: Callable[..., Any]) -> None:
    curve = np.arange(4096)[::-1]
    window = {"WindowCenter": 2000, "WindowWidth": 901}
    windowed = read(make_dicom(GREY_12, bits=12, **window))[0]
    short = table_of(curve[:100].astype("<u2").tobytes(), [4096, 0, 12])
    far = make_table(curve, 12, first=30000)
    for items in ([], [pydicom.Dataset()], [short], [far]):
        image, notes = read(make_dicom(GREY_12, bits=12, VOILUTSequence=items, **window))
        np.testing.assert_array_equal(image, windowed)
        assert notes == (["VOILUTSequence-ignored"] if items else [])
    image, _ = read(make_dicom(GREY_12, bits=12, VOILUTSequence=[pydicom.Dataset(), make_table(curve, 12)], **window))
    np.testing.assert_array_equal(image, stretched(-GREY_12.astype(int)))


def test_a_modality_table_that_cannot_be_used_is_refused(make_dicom: Make, make_table: Callable[..., Any]) -> None:
    curve = np.arange(4096)
    for item in (table_of(bytes(200), [4096, 0, 12]), make_table(curve, 12, first=30000)):
        with pytest.raises(XrayError, match=r"a\.dcm has a ModalityLUTSequence"):
            read(make_dicom(GREY_12, bits=12, ModalityLUTSequence=[item]))
    image, notes = read(make_dicom(GREY_12, bits=12, ModalityLUTSequence=[pydicom.Dataset()]))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["ModalityLUTSequence-ignored"]


@pytest.mark.parametrize("interpretation", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("pixels", "bits", "value"),
    [(SIGNED_12, 16, -32768), (SIGNED_12, 12, -32768), (GREY_12, 12, 65535), (GREY_12, 12, 0), (GREY_12, 16, 30000)],
)
def test_padding_is_dark_and_sets_no_range(
    make_dicom: Make, interpretation: str, pixels: np.ndarray, bits: int, value: int
) -> None:
    padded = pixels.copy()
    padded[:, :5] = value
    image, notes = read(make_dicom(padded, bits=bits, interpretation=interpretation, PixelPaddingValue=value))
    shown = pixels[:, 5:] if interpretation == "MONOCHROME2" else -pixels[:, 5:].astype(int)
    np.testing.assert_array_equal(image[:, 5:], stretched(shown))
    assert not image[:, :5].any()
    assert notes == []


def test_padding_may_be_a_range_and_leaves_8_bits_as_they_are(make_dicom: Make) -> None:
    padded = GREY_8.copy()
    padded[:, :4], padded[:, 4:6] = 255, 250
    image, _ = read(make_dicom(padded, PixelPaddingValue=255, PixelPaddingRangeLimit=248))
    np.testing.assert_array_equal(image[:, 6:], GREY_8[:, 6:])
    assert not image[:, :6].any()


def test_padding_that_leaves_nothing_is_left_out_with_a_word(make_dicom: Make) -> None:
    everything = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}
    image, notes = read(make_dicom(GREY_12, bits=12, **everything))
    np.testing.assert_array_equal(image, stretched(GREY_12))
    assert notes == ["PixelPaddingRangeLimit-ignored"]
    image, notes = read(make_dicom(np.full((3, 4), 7, np.uint8), PixelPaddingValue=7))
    assert (image == 7).all()
    assert notes == ["PixelPaddingValue-ignored"]
    most = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": int(np.quantile(GREY_12, 0.7))}
    assert read(make_dicom(GREY_12, bits=12, **most))[1] == ["PixelPaddingRangeLimit-applied"]


def test_without_a_list_for_notes_they_are_warned_of(make_dicom: Make) -> None:
    content = make_dicom(GREY_12, bits=12, WindowCenter=5, WindowWidth=0)
    with pytest.warns(UserWarning, match=r"^a\.dcm: WindowWidth-ignored$"):
        decode_radiograph(content, name="a.dcm")


def test_an_8_bit_window_over_all_levels_changes_nothing(make_dicom: Make) -> None:
    np.testing.assert_array_equal(read(make_dicom(GREY_8, WindowCenter=128, WindowWidth=256))[0], GREY_8)
    image, _ = read(make_dicom(GREY_8, WindowCenter=128, WindowWidth=230))
    np.testing.assert_array_equal(image, stretched(GREY_8, 255))


def test_a_palette_may_begin_anywhere(make_dicom: Make) -> None:
    entries = np.random.default_rng(1).integers(0, 256, (3, 100), dtype=np.uint8)
    elements: dict[str, Any] = {}
    for colour, row in zip(("Red", "Green", "Blue"), entries, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [100, 50, 8]
        elements[f"{colour}PaletteColorLookupTableData"] = row.tobytes()
    image, _ = read(make_dicom(GREY_8, interpretation="PALETTE COLOR", **elements))
    red, green, blue = entries[:, np.clip(GREY_8.astype(int) - 50, 0, 99)].astype(float)
    np.testing.assert_allclose(image, 0.299 * red + 0.587 * green + 0.114 * blue, atol=0.6)


def nested(**elements: Any) -> list[Any]:
    """A sequence of one item with these elements."""
    item = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return [item]


@pytest.mark.parametrize("group", ["SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"])
@pytest.mark.parametrize("syntax", [IMPLICIT, BIG_ENDIAN])
def test_functional_groups_of_a_single_frame_count(make_dicom: Make, group: str, syntax: str) -> None:
    window = {"WindowCenter": 2000, "WindowWidth": 900}
    table = table_of(np.arange(4095, -1, -1).astype(">u2" if syntax == BIG_ENDIAN else "<u2").tobytes(), [4096, 0, 12])
    for macro, elements in (
        ("PixelValueTransformationSequence", {"RescaleSlope": -1, "RescaleIntercept": 4095, "RescaleType": "US"}),
        ("FrameVOILUTSequence", window),
        ("FrameVOILUTSequence", {**window, "VOILUTFunction": "SIGMOID"}),
        ("FrameVOILUTSequence", {"VOILUTSequence": [table]}),
        ("PixelMeasuresSequence", {"PixelSpacing": [0.1, 0.2]}),
    ):
        groups = nested(**{macro: nested(**elements)})
        image, notes = read(make_dicom(GREY_12, bits=12, syntax=syntax, NumberOfFrames=1, **{group: groups}))
        plain, expected = read(make_dicom(GREY_12, bits=12, syntax=syntax, **elements))
        np.testing.assert_array_equal(image, plain)
        assert notes == expected
        assert macro == "PixelMeasuresSequence" or not np.array_equal(image, stretched(GREY_12))


def test_functional_groups_go_before_plain_elements_with_a_word(make_dicom: Make) -> None:
    groups = nested(PixelValueTransformationSequence=nested(RescaleSlope=-1, RescaleIntercept=0))
    plain = {"RescaleSlope": 1, "RescaleIntercept": 0}
    image, notes = read(make_dicom(GREY_12, bits=12, PerFrameFunctionalGroupsSequence=groups, **plain))
    np.testing.assert_array_equal(image, stretched(-GREY_12.astype(int)))
    assert notes == ["RescaleSlope-ignored"]


def test_a_rescaling_beside_a_modality_table_is_left_out_with_a_word(make_dicom: Make) -> None:
    table = table_of(np.arange(4096, dtype="<u2").tobytes(), [4096, 0, 16])
    for slope, noted in ((-1, ["RescaleSlope-ignored"]), (1, [])):
        content = make_dicom(GREY_12, bits=12, ModalityLUTSequence=[table], RescaleSlope=slope, RescaleIntercept=0)
        image, notes = read(content)
        np.testing.assert_array_equal(image, stretched(GREY_12))
        assert notes == noted
