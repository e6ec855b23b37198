"""``bundle.json``: what a bundle of format 3 says about itself, read and checked key by key."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from anomalib_xray.edge.bundle import sha256
from anomalib_xray.errors import XrayError

MANIFEST_NAME = "bundle.json"
"""File of a bundle that describes it and all its other files."""

DIGEST_NAME = "bundle.sha256"
"""File beside it with its checksum, as ``sha256sum`` writes and checks it."""

MANIFEST_FORMAT = 3
"""Version of its layout; format 1 is the ``metadata.json`` of a stock export, and format 2 had neither a checksum of
its own nor a scope."""

QUANTILES = 101
"""Length of a distribution: its quantiles at 0, 1, ..., 100 per cent."""

PRECISIONS = ("fp32", "fp16", "int8")
"""Models that a bundle may hold."""

_MAX_BYTES = 10_000_000
_MAX_FILES = 1000
_MAX_SCORES = 100
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AGAIN = "make the bundle again"


def read_manifest(path: Path) -> dict[str, Any]:
    """Reads a ``bundle.json`` whose keys are all there, known, and of the right form.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        XrayError: The file cannot be read, is too large, no JSON, of another format, or has a wrong value.
    """
    content = _read_json(path)
    version = content.get("format")
    if isinstance(version, int) and version > MANIFEST_FORMAT:
        raise XrayError(
            f"{path} is of format {version}, and this version reads up to {MANIFEST_FORMAT}: upgrade anomalib-xray."
        )
    if version == 2:
        raise XrayError(
            f"{path} is of format 2, which has no checksum of its own: make the bundle again with "
            "anomalib-xray bundle --checkpoint MODEL.ckpt --out NEW_FOLDER."
        )
    if missing := [key for key in _KEYS if key not in content]:
        raise XrayError(f"{path} lacks the key {missing[0]!r}: {_AGAIN}.")
    if unknown := sorted(content.keys() - _KEYS.keys()):
        raise XrayError(f"{path} has the unknown key {unknown[0]!r}: {_AGAIN}, or upgrade anomalib-xray.")
    for key, (is_valid, wanted) in _KEYS.items():
        if not is_valid(content[key]):
            raise XrayError(f"{key!r} in {path} must be {wanted}: {_AGAIN}.")
    _check_names(content, path)
    _check_files(content, path)
    return content


def check_digest(path: Path) -> str:
    """Checks a ``bundle.json`` against the checksum beside it.

    Args:
        path: The file.

    Returns:
        Its SHA-256 in hexadecimal digits.

    Raises:
        XrayError: There is no checksum, or the file is not what it was when the bundle was made.
    """
    beside = path.with_name(DIGEST_NAME)
    try:
        if not beside.is_file():
            raise XrayError(f"The bundle {path.parent} is incomplete: it lacks {DIGEST_NAME}; copy the whole folder.")
        found = sha256(path)
        with beside.open("rb") as file:
            expected = file.read(len(found))
    except OSError as error:
        raise XrayError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    if found.encode() != expected:
        raise XrayError(
            f"{path} is not what it was when the bundle was made: copy or make the bundle again; another threshold is "
            "given to a command with --threshold."
        )
    return found


def usable_precisions(content: dict[str, Any]) -> dict[str, str]:
    """Model file of each precision that the bundle holds and that its maker accepted, by name."""
    return {name: entry["model"] for name, entry in content["precisions"].items() if _is_accepted(entry)}


def _read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object of finite numbers and limited size."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise XrayError(f"{path} is larger than {_MAX_BYTES} bytes: {_AGAIN}.")
        content = json.loads(path.read_bytes(), parse_constant=_number, parse_float=_number, parse_int=_whole_number)
    except OSError as error:
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise XrayError(f"{path} is not valid JSON of finite numbers: {_AGAIN}.") from error
    if not isinstance(content, dict):
        raise XrayError(f"{path} holds no JSON object: {_AGAIN}.")
    return content


def _number(text: str) -> float:
    """A finite number; Python's reader by itself takes NaN, and 1e999 for infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _whole_number(text: str) -> int:
    _number(text)  # one that is too large for arithmetic with fractions is refused too
    return int(text)


def _check_names(content: dict[str, Any], path: Path) -> None:
    """Sees to it that what is said about scores and precisions is said about those that exist."""
    for key in ("thresholds", "distribution"):
        if unknown := sorted(content[key].keys() - set(content["scores"])):
            raise XrayError(f"{key!r} in {path} names {unknown[0]!r}, which is none of the scores: {_AGAIN}.")
    if content["score"] not in content["scores"]:
        raise XrayError(f"'score' in {path} is {content['score']!r}, which is none of the scores: {_AGAIN}.")
    if content["precision"] not in usable_precisions(content):
        raise XrayError(f"'precision' in {path} is {content['precision']!r}, of which there is no model: {_AGAIN}.")


def _check_files(content: dict[str, Any], path: Path) -> None:
    """Sees to it that every file that will be opened has a checksum."""
    needed = set()
    for model in usable_precisions(content).values():
        needed |= {model, PurePosixPath(model).with_suffix(".bin").as_posix()}
    if content["preparation"] is not None:
        needed.add(content["preparation"])
    if missing := sorted(needed - content["files"].keys()):
        raise XrayError(f"'files' in {path} has no checksum of {missing[0]}: {_AGAIN}.")


def is_inner_path(value: object) -> bool:
    """Whether a text is a path of a file below a folder, the same on every system, and can lead nowhere else."""
    if not isinstance(value, str) or not value.isprintable() or any(mark in value for mark in ("\\", ":")):
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and bool(path.parts) and ".." not in path.parts and path.as_posix() == value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_name(value: object) -> bool:
    """Whether a value is a short word that fits into a table's head."""
    return isinstance(value, str) and 0 < len(value) <= 100 and value.isprintable()


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_number_or_null(value: object) -> bool:
    return value is None or _is_number(value)


def _are_scores(value: object) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= _MAX_SCORES
        and all(map(_is_name, value))
        and len(set(value)) == len(value)
    )


def _are_thresholds(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_number_or_null, value.values()))


def _are_distributions(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_distribution, value.values()))


def _is_distribution(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == QUANTILES and all(map(_is_number, value)) and sorted(value) == value
    )


def _are_limits(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)) and value[0] <= value[1]


def _is_scope(value: object) -> bool:
    if not isinstance(value, dict) or value.keys() != {"body_parts", "views", "sides"}:
        return False
    if not all(isinstance(value[key], list) and all(map(_is_name, value[key])) for key in ("body_parts", "views")):
        return False
    sides = value["sides"]
    return sides is None or (_are_limits(sides) and all(isinstance(side, int) and side > 0 for side in sides))


def _are_precisions(value: object) -> bool:
    return isinstance(value, dict) and all(name in PRECISIONS and _is_precision(entry) for name, entry in value.items())


def _is_precision(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("accepted", True), bool):
        return False
    return not _is_accepted(entry) or (is_inner_path(entry.get("model")) and entry["model"].endswith(".xml"))


def _is_accepted(entry: dict[str, Any]) -> bool:
    return bool(entry.get("accepted", True))


def _are_files(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= _MAX_FILES
        and all(
            is_inner_path(name) and isinstance(digest, str) and _SHA256.fullmatch(digest) is not None
            for name, digest in value.items()
        )
    )


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: _is_number(value) and value == MANIFEST_FORMAT, f"{MANIFEST_FORMAT}"),
    "model": (_is_name, "a name"),
    "settings": (_is_object, "an object"),
    "created": (_is_text, "a text"),
    "notice": (_is_text, "a text"),
    "scores": (_are_scores, f"a list of 1 to {_MAX_SCORES} different names"),
    "score": (_is_name, "a name"),
    "thresholds": (_are_thresholds, "an object of numbers and nulls"),
    "pixel_threshold": (_is_number_or_null, "a number or null"),
    "distribution": (_are_distributions, f"an object of lists of {QUANTILES} rising numbers"),
    "map_limits": (_are_limits, "[smallest, largest] or null"),
    "precisions": (_are_precisions, f"an object of {', '.join(PRECISIONS)}, each with its model (an .xml file)"),
    "precision": (_is_name, "a name"),
    "preparation": (lambda value: value is None or is_inner_path(value), "a path inside the bundle or null"),
    "files": (_are_files, f"an object of at most {_MAX_FILES} paths inside the bundle and their SHA-256"),
    "scope": (_is_scope, "an object of body_parts, views, and the shortest and longest side"),
    "versions": (_is_object, "an object"),
    "data": (_is_object, "an object"),
}
