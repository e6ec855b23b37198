from __future__ import annotations

import zlib
from itertools import islice

import cv2
import numpy as np
from tests.mutations import mutations

GREY = np.arange(480, dtype=np.uint8).reshape(20, 24)
PNG = cv2.imencode(".png", GREY)[1].tobytes()
JPEG = cv2.imencode(".jpg", GREY)[1].tobytes()


def test_a_seed_makes_the_same_files_again_and_another_one_others() -> None:
    assert list(mutations([PNG, JPEG], 50, 3)) == list(mutations([PNG, JPEG], 50, 3))
    assert list(mutations([PNG, JPEG], 50, 3)) != list(mutations([PNG, JPEG], 50, 4))
    assert list(mutations([PNG, JPEG], 50, 3))[:20] == list(islice(mutations([PNG, JPEG], 20, 3), 20))


def test_files_are_damaged_in_many_ways_and_the_originals_are_not() -> None:
    originals = [PNG, JPEG]
    made = list(mutations(originals, 300, 0))
    assert originals == [PNG, JPEG]
    assert len(made) == 300
    assert sum(content not in originals for content in made) > 290
    assert any(len(content) < len(PNG) / 2 for content in made)
    assert any(len(content) > max(len(PNG), len(JPEG)) for content in made)
    assert {content[:2] for content in made} > {PNG[:2], JPEG[:2]}


def test_some_damaged_chunks_have_fitting_checksums() -> None:
    def header_is_changed_and_fits(content: bytes) -> bool:
        return content[:8] == PNG[:8] and content[8:29] != PNG[8:29] and _fits(content[12:33])

    assert any(map(header_is_changed_and_fits, mutations([PNG], 300, 0)))


def _fits(kind_content_and_checksum: bytes) -> bool:
    return zlib.crc32(kind_content_and_checksum[:-4]).to_bytes(4, "big") == kind_content_and_checksum[-4:]


def test_nothing_can_be_damaged_too() -> None:
    assert len(list(mutations([b""], 100, 0))) == 100
