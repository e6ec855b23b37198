"""Whatever a file holds: it is a radiograph within the limits, or one sentence. Nothing crashes, hangs or escapes.

Set ``XRAY_FUZZ_EXAMPLES`` to try more files of each format than the test suite has time for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.mutations import mutations

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_tags import read_tags
from anomalib_xray.io.read import decode_radiograph

SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).random((40, 30)).astype(np.float32), (0, 0), 3)
SMOOTH = cv2.normalize(SMOOTH, None, 0, 1, cv2.NORM_MINMAX)
GREY_8 = (255 * SMOOTH).astype(np.uint8)
GREY_16 = (4095 * SMOOTH).astype(np.uint16)
COLOUR = np.dstack([GREY_8, GREY_8[::-1], GREY_8[:, ::-1]])
MAX_PIXELS = 1_000_000

fuzzed = settings(max_examples=int(os.environ.get("XRAY_FUZZ_EXAMPLES", "150")), derandomize=True, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def check(contents: Sequence[bytes], seed: int) -> None:
    (content,) = mutations(contents, 1, seed)
    try:
        read = decode_radiograph(content, name="some file", max_pixels=MAX_PIXELS)
    except XrayError:
        return
    assert read.ndim == 2
    assert read.dtype in (np.uint8, np.uint16)
    assert 0 < read.size <= MAX_PIXELS


@fuzzed
@given(seeds)
def test_png(seed: int) -> None:
    pictures = (GREY_8, GREY_16, COLOUR, np.dstack([GREY_16] * 4))
    check([cv2.imencode(".png", picture)[1].tobytes() for picture in pictures], seed)


@fuzzed
@given(seeds)
def test_jpeg(seed: int) -> None:
    kinds = [(GREY_8, []), (COLOUR, []), (COLOUR, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])]
    check([cv2.imencode(".jpg", picture, setting)[1].tobytes() for picture, setting in kinds], seed)


@pytest.fixture(scope="session")
def plain(make_dicom: Callable[..., bytes], make_table: Callable[..., object]) -> list[bytes]:
    pytest.importorskip("pydicom")
    return [
        make_dicom(GREY_8, interpretation="MONOCHROME1"),
        make_dicom(GREY_16, bits=12, RescaleSlope=2, RescaleIntercept=-9, WindowCenter=2000, WindowWidth=999),
        make_dicom(GREY_16, bits=12, VOILUTSequence=[make_table(np.arange(4096) // 4, 10)]),
        make_dicom(GREY_16.astype(np.int16), syntax="1.2.840.10008.1.2", bits=13),
        make_dicom(GREY_16, syntax="1.2.840.10008.1.2.2", bits=12),
        make_dicom(GREY_16, syntax="1.2.840.10008.1.2.1.99", bits=12),
        make_dicom(COLOUR, interpretation="RGB"),
    ]


@fuzzed
@given(seed=seeds)
def test_dicom(plain: list[bytes], seed: int) -> None:
    check(plain, seed)


@fuzzed
@given(seed=seeds)
def test_tags(plain: list[bytes], seed: int) -> None:
    (content,) = mutations(plain, 1, seed)
    try:
        tags = read_tags(content)
    except XrayError:
        return
    assert not any("Doe" in value or "4711" in value for value in tags.values())


@pytest.fixture(
    scope="session", params=["RLELossless", "JPEGBaseline8Bit", "JPEGLosslessSV1", "JPEGLSLossless", "JPEG2000Lossless"]
)
def compressed(
    request: pytest.FixtureRequest, make_dicom: Callable[..., bytes], compress: Callable[[bytes, str], bytes]
) -> list[bytes]:
    return [
        compress(make_dicom(GREY_8), request.param),
        compress(make_dicom(COLOUR, interpretation="RGB"), request.param),
    ]


@pytest.fixture(scope="session")
def unusual() -> list[bytes]:
    """JPEG of 12 bits, and files with no meta information at all."""
    pydicom = pytest.importorskip("pydicom")
    paths = [pydicom.data.get_testdata_file(name, download=False) for name in ("JPGExtended.dcm", "MR_small_RLE.dcm")]
    contents = [Path(path).read_bytes() for path in paths]
    return [*contents, contents[1][144 + int.from_bytes(contents[1][140:144], "little") :]]


@fuzzed
@given(seed=seeds)
def test_unusual_dicom(unusual: list[bytes], seed: int) -> None:
    check(unusual, seed)


@fuzzed
@given(seed=seeds)
def test_compressed_dicom(compressed: list[bytes], seed: int) -> None:
    check(compressed, seed)
