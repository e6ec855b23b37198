"""The kind of radiographs that a model was made for, and reasons against comparing another one with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from anomalib_xray.io.dicom_tags import known_word, read_tags
from anomalib_xray.io.formats import is_dicom

BODY_PART, VIEW = "BodyPartExamined", "ViewPosition"
"""DICOM's keywords that are compared."""

_SMALLEST, _LARGEST = 0.5, 4.0
"""Times the smallest and the largest side of known images: below, detail is missing; above, a picture is reduced by
more than any known one."""

_MURA_FOLDER = re.compile(r"XR_([A-Z]+)")

_SAME: Mapping[str, Mapping[str, str]] = {
    BODY_PART: {
        "CSPINE": "CERVICALSPINE", "TSPINE": "THORACICSPINE", "LSPINE": "LUMBARSPINE", "SSPINE": "SACRUM",
        "RADIUSULNA": "FOREARM", "UPPERARM": "HUMERUS", "THIGH": "FEMUR", "LOWERLEG": "TIBIAFIBULA",
        "THUMB": "FINGER", "MANDIBLE": "JAW",
    },
    VIEW: {
        "DP": "PA", "DORSOPALMAR": "PA", "PALMODORSAL": "AP", "LATERAL": "LAT", "LL": "LAT", "RL": "LAT", "ML": "LAT",
        "LM": "LAT", "OBLIQUE": "OBL", "LAO": "OBL", "RAO": "OBL", "LPO": "OBL", "RPO": "OBL", "LLO": "OBL",
        "RLO": "OBL", "TANGENTIAL": "AXIAL", "SUNRISE": "AXIAL",
    },
}  # fmt: skip
"""Words that mean the same, by keyword."""

_EXTREMITIES = frozenset(
    {
        "ANKLE", "ARM", "CALCANEUS", "ELBOW", "FEMUR", "FINGER", "FOOT", "FOREARM", "HAND", "HIP", "HUMERUS", "KNEE",
        "LEG", "PATELLA", "SHOULDER", "TIBIAFIBULA", "TOE", "WRIST",
    }
)  # fmt: skip
"""Body parts that do not contradict the word EXTREMITY, which many devices write for any of them."""

_Words = tuple[Annotated[str, Meta(min_length=1, max_length=100)], ...]
_Side = Annotated[int, Meta(gt=0)]


class Scope(Struct, frozen=True, forbid_unknown_fields=True):
    """Kind of radiographs that a model was made for.

    Attributes:
        body_parts: DICOM's words, such as ``HAND``; empty where unknown.
        views: DICOM's words, such as ``PA``; empty where unknown.
        sides: Shortest and longest side in pixels among the known images; ``None`` where unknown.

    Example:
        >>> Scope(("HAND",)).contradictions({"BodyPartExamined": "FOOT"}, (512, 400))
        ['its body part is FOOT, and the model was made for HAND']
    """

    body_parts: _Words = ()
    views: _Words = ()
    sides: tuple[_Side, _Side] | None = None

    @classmethod
    def of(cls, tags: Iterable[Mapping[str, str]], shapes: Iterable[tuple[int, int]]) -> Scope:
        """The scope of images of these tags and shapes; a word is known if at least half of the images name theirs."""
        named = list(tags)
        sides = [side for shape in shapes for side in shape]
        return cls(_words(named, BODY_PART), _words(named, VIEW), (min(sides), max(sides)) if sides else None)

    def contradictions(self, tags: Mapping[str, str], shape: tuple[int, int]) -> list[str]:
        """Reasons why a radiograph is of another kind, in words; missing tags contradict nothing."""
        reasons = []
        for what, keyword, known in (("body part", BODY_PART, self.body_parts), ("view", VIEW, self.views)):
            found = normalised(tags.get(keyword, ""), keyword)
            if found and known and not _agree(found, known):
                reasons.append(f"its {what} is {found}, and the model was made for {', '.join(known)}")
        if self.sides is not None:
            low, high = self.sides
            if min(shape) < _SMALLEST * low or max(shape) > _LARGEST * high:
                reasons.append(
                    f"it has {shape[1]} x {shape[0]} pixels, and the model was made for sides of {low} to {high}"
                )
        return reasons


def tags_of(content: bytes, path: Path) -> dict[str, str]:
    """Tags of a file's radiograph: those of DICOM, or the body part of MURA's folder that it lies in.

    Raises:
        XrayError: The file is a damaged DICOM file, or pydicom is missing.

    Example:
        >>> tags_of(b"", Path("train/XR_HAND/patient1/image1.png"))
        {'BodyPartExamined': 'HAND'}
    """
    if is_dicom(content):
        return read_tags(content)
    folders = (match for part in reversed(path.parts[:-1]) if (match := _MURA_FOLDER.fullmatch(part)))
    found = next(folders, None)
    word = known_word(found[1], BODY_PART) if found else ""
    return {BODY_PART: word} if word else {}


def normalised(text: str, keyword: str) -> str:
    """DICOM's word for a body part or a view, the same for all synonyms; empty for an unknown one.

    >>> normalised("dorso-palmar", VIEW)
    'PA'
    """
    word = known_word(text, keyword)
    return _SAME[keyword].get(word, word)


def _words(tags: Sequence[Mapping[str, str]], keyword: str) -> tuple[str, ...]:
    words = [normalised(of_image.get(keyword, ""), keyword) for of_image in tags]
    return () if 2 * words.count("") > len(words) else tuple(sorted({*words} - {""}))


def _agree(found: str, known: Iterable[str]) -> bool:
    if found == "EXTREMITY":
        return any(word in _EXTREMITIES for word in known)
    return found in known or ("EXTREMITY" in known and found in _EXTREMITIES)
