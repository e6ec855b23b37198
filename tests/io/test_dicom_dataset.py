from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_dataset import BoundedReader, read_elements, standard_file
from anomalib_xray.io.read import decode_radiograph

pytest.importorskip("pydicom")

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
FIRST_OF_THE_PICTURE = b"\x28\x00\x02\x00US"  # (0028,0002)
SEQUENCE = b"\x18\x00\x00\xa0SQ\0\0\xff\xff\xff\xff"
ITEM = b"\xfe\xff\x00\xe0"
DEFLATED = "1.2.840.10008.1.2.1.99"

Make = Callable[..., bytes]


def meta_end(content: bytes) -> int:
    """The end of the meta information, whose length its first element tells."""
    return 144 + int.from_bytes(content[140:144], "little")


def with_elements(content: bytes, elements: bytes) -> bytes:
    position = content.index(FIRST_OF_THE_PICTURE)
    return content[:position] + elements + content[position:]


def refused(content: bytes) -> bool:
    try:
        decode_radiograph(content, name="a")
    except XrayError as error:
        return str(error).startswith(("a is ", "a has unusually many or large elements "))
    return False


def test_reading_is_bounded_in_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.io.dicom_dataset._MAX_READS", 3)
    monkeypatch.setattr("anomalib_xray.io.dicom_dataset._MAX_VALUE", 4)
    reader = BoundedReader(b"0123456789")
    assert reader.read(4) == b"0123"
    with pytest.raises(ValueError, match="large"):
        reader.read()
    reader.seek(9)
    assert reader.read(100) == b"9"
    with pytest.raises(ValueError, match="many"):
        reader.read(1)


def test_deep_and_endless_sequences_are_refused(make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    content = make_dicom(GREY)
    assert refused(with_elements(content, (SEQUENCE + ITEM + b"\xff\xff\xff\xff") * 5000))
    items = SEQUENCE + (ITEM + b"\0\0\0\0") * 2000 + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert not refused(with_elements(content, items))
    monkeypatch.setattr("anomalib_xray.io.dicom_dataset._MAX_READS", 1000)
    assert not refused(content)
    with pytest.raises(XrayError, match=r"^a has unusually many or large elements"):  # whole, so not called damaged
        decode_radiograph(with_elements(content, items), name="a")


def test_a_number_of_a_million_values_is_refused(make_dicom: Make) -> None:
    content = make_dicom(GREY, syntax="1.2.840.10008.1.2")
    position = content.rindex(b"\xe0\x7f\x10\x00")

    def with_window(count: int) -> bytes:
        centres = b"1\\" * count
        centre = b"\x28\x00\x50\x10" + len(centres).to_bytes(4, "little") + centres
        return content[:position] + centre + b"\x28\x00\x51\x10\x02\0\0\x009 " + content[position:]

    assert not refused(with_window(100))
    assert refused(with_window(200_000))
    assert refused(with_window(2_000_000))


@pytest.mark.parametrize("length", [b"\xff\xff\xff\x7f", b"\xfe\xff\xff\xff", b"\xff\xff\xff\xff"])
def test_lengths_that_lead_out_of_the_file_are_refused(make_dicom: Make, length: bytes) -> None:
    content = make_dicom(GREY)
    position = content.rindex(b"\xe0\x7f\x10\x00") + 8
    broken = content[:position] + length + content[position + 4 :]
    if length == b"\xff\xff\xff\xff":
        assert refused(broken)
    else:  # the pixels are all there, only more are announced
        np.testing.assert_array_equal(decode_radiograph(broken, name="a"), GREY)
    assert refused(with_elements(content, b"\x19\x00\x10\x10OB\0\0" + length))


def test_a_deflated_file_is_inflated_to_the_same_data_set(make_dicom: Make) -> None:
    content = make_dicom(GREY, syntax=DEFLATED)
    plain = standard_file(content, "a")
    assert plain.endswith(GREY.tobytes())
    assert read_elements(plain, ["Rows"])[0].Rows == 6
    assert standard_file(plain, "a") is plain
    with pytest.raises(ValueError, match="truncated"):
        standard_file(content[:-3], "a")


def test_a_deflated_bomb_is_refused_on_the_way(make_dicom: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.io.dicom_dataset.MAX_BYTES", 3_000_000)
    content = make_dicom(GREY, syntax=DEFLATED)
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(50_000_000)) + deflater.flush()
    with pytest.raises(XrayError, match="a inflates to more than 3000000 bytes"):
        decode_radiograph(content[: meta_end(content)] + bomb, name="a")
