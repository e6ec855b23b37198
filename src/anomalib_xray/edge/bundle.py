"""Bundles: an exported model, its weights, and the ``metadata.json`` that says what its numbers mean."""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError

BUNDLE_FORMAT = 1
"""Version of the layout of ``metadata.json``; a runtime reads its own and older ones."""

METADATA_NAME = "metadata.json"
"""File beside the model that describes it."""

CHECKSUMS_NAME = "metadata.sha256"
"""File beside it with the checksums of it and of the model's files, as ``sha256sum`` writes and checks them."""

NOTICE = "Research use only. Not a medical device."
"""Stands wherever a score is shown."""

_MODEL_NAMES = ("model.xml", "model.onnx")
_FOLDERS = (".", "weights/openvino", "weights/onnx")  # a bundle itself, or the run folder that anomalib exports into
# protobuf's StringStringEntryProto: key (field 1) "location", value (field 2) of a length in base 128
_EXTERNAL_DATA = re.compile(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])")


@dataclass(frozen=True)
class Scale:
    """What the values of one level (image or pixel) mean.

    Attributes:
        threshold: Raw value from which on an image or pixel is anomalous; ``None`` if there is none.
        limits: Smallest and largest raw value of the validation set, with which the graph normalises; ``None`` if the
            graph returns raw values.
    """

    threshold: float | None
    limits: tuple[float, float] | None


@dataclass(frozen=True)
class Bundle:
    """An exported model whose files are complete and whose metadata are valid.

    Attributes:
        path: Model file, ``.xml`` (OpenVINO) or ``.onnx``.
        model: Name of the model, e.g. ``Cae``.
        settings: Settings that the model was built with.
        score: Name of the score that it returns, e.g. ``mse_top_k``.
        image: Scale of the score.
        pixel: Scale of the anomaly map.
        parity: Difference from torch as measured by the export.
        versions: Versions of the packages that exported it.
    """

    path: Path
    model: str
    settings: dict[str, Any]
    score: str
    image: Scale
    pixel: Scale
    parity: dict[str, Any]
    versions: dict[str, Any]

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Checks the files of a bundle and reads its metadata; the model itself is not loaded.

        Args:
            path: Folder of a bundle, folder of a run (``weights/openvino`` goes before ``weights/onnx``), or the
                ``.xml`` or ``.onnx`` file itself.

        Returns:
            The bundle.

        Raises:
            XrayError: A file is missing or changed, or the metadata are broken, incomplete or of a newer format.
        """
        model = _find_model(Path(path))
        _check_weights(model)
        _check_unchanged(model.parent)
        metadata = _read_metadata(model.parent / METADATA_NAME)
        return cls(
            path=model,
            model=metadata["model"],
            settings=metadata["settings"],
            score=metadata["score"],
            image=_scale(metadata, "image", model.parent / METADATA_NAME),
            pixel=_scale(metadata, "pixel", model.parent / METADATA_NAME),
            parity=metadata["parity"],
            versions=metadata["versions"],
        )


def checksums_of(files: Iterable[Path]) -> str:
    """Text of the file of checksums."""
    return "".join(f"{sha256(file)}  {file.name}\n" for file in files)


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_unchanged(folder: Path) -> None:
    """Refuses an export whose files are not what they were; one of an earlier version has no checksums."""
    path = folder / CHECKSUMS_NAME
    if not path.is_file():
        return
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            expected, _, name = line.partition("  ")
            if Path(name).name != name or "\\" in name or not (folder / name).is_file():
                raise XrayError(f"{path} lists {name!r}, which does not lie beside it: copy all files of the export.")
            if sha256(folder / name) != expected:
                raise XrayError(f"{folder / name} is not what it was when it was exported: copy or export it again.")
    except OSError as error:
        raise XrayError(f"{error.filename or path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise XrayError(f"{path} holds no checksums: copy or export the model again.") from error


def _find_model(path: Path) -> Path:
    """The model file that a path given by the user means."""
    if not path.exists():
        raise XrayError(f"There is no bundle {path}: give the folder or the file that an export wrote.")
    if path.is_file():
        if path.suffix not in (".xml", ".onnx"):
            raise XrayError(f"{path} is not a model: give an .xml or .onnx file, or its folder.")
        return path
    for folder in _FOLDERS:
        for name in _MODEL_NAMES:
            if (path / folder / name).is_file():
                return path / folder / name
    raise XrayError(
        f"{path} holds no model ({' or '.join(_MODEL_NAMES)}, in it or in weights/openvino or weights/onnx below): "
        "export one into it, or give the model file itself."
    )


def _check_weights(model: Path) -> None:
    """Refuses a model whose weights, kept in a second file, are missing or lie outside of the bundle."""
    names = {model.with_suffix(".bin").name} if model.suffix == ".xml" else _external_data(model)
    for name in sorted(names):
        if Path(name).name != name or "\\" in name:
            raise XrayError(f"{model} refers to weights outside of its folder ({name}): export it again.")
        if not (model.parent / name).is_file():
            raise XrayError(f"{model} lacks its weights {name}: copy both files, and keep their names.")


def _external_data(model: Path) -> set[str]:
    """Names of the files that an ONNX model keeps its weights in.

    Found by their protobuf key, because the device has no ``onnx`` package.
    """
    if model.stat().st_size == 0:
        raise XrayError(f"{model} is empty: export the model again.")
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        names = set()
        for match in _EXTERNAL_DATA.finditer(content):
            length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(match[1]))
            names.add(content[match.end() : match.end() + length].decode(errors="replace"))
        return names


def _read_metadata(path: Path) -> dict[str, Any]:
    """Reads metadata whose keys are all there and of the right type."""
    try:
        metadata = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise XrayError(
            f"{path.parent} holds a model but no {METADATA_NAME}: export it again with a model of anomalib-xray."
        ) from error
    except OSError as error:
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise XrayError(f"{path} is not valid JSON: export the model again.") from error
    if not isinstance(metadata, dict):
        raise XrayError(f"{path} holds no JSON object: export the model again.")
    version: Any = metadata.get("format")
    if _is_number(version) and version > BUNDLE_FORMAT:
        raise XrayError(
            f"{path} is of format {version}, and this version reads up to {BUNDLE_FORMAT}: upgrade anomalib-xray."
        )
    for key, (is_valid, wanted) in _KEYS.items():
        if key not in metadata:
            raise XrayError(f"{path} lacks the key {key!r}: export the model again.")
        if not is_valid(metadata[key]):
            raise XrayError(f"{key!r} in {path} must be {wanted}: export the model again.")
    return metadata


def _scale(metadata: dict[str, Any], level: str, path: Path) -> Scale:
    """The scale of one level, whose values are numbers in order."""
    for key in ("threshold", "normalization"):
        if level not in metadata[key]:
            raise XrayError(f"{path} lacks the key '{key}.{level}': export the model again.")
    threshold, limits = metadata["threshold"][level], metadata["normalization"][level]
    if threshold is not None and not _is_number(threshold):
        raise XrayError(f"'threshold.{level}' in {path} must be a finite number or null: export the model again.")
    if limits is None:
        return Scale(threshold, None)
    if not (isinstance(limits, list) and len(limits) == 2 and all(map(_is_number, limits)) and limits[0] < limits[1]):
        raise XrayError(
            f"'normalization.{level}' in {path} must be [smallest, largest] of different validation scores, or null: "
            "validate on more images and export the model again."
        )
    return Scale(threshold, (limits[0], limits[1]))


def _is_number(value: object) -> bool:
    """Whether a JSON value is a finite number; Python's own reader accepts NaN and counts true as 1."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "format": (lambda value: _is_number(value) and value >= 1, f"a number from 1 to {BUNDLE_FORMAT}"),
    "model": (_is_text, "a text"),
    "settings": (_is_object, "an object"),
    "score": (_is_text, "a text"),
    "threshold": (_is_object, "an object with 'image' and 'pixel'"),
    "normalization": (_is_object, "an object with 'image' and 'pixel'"),
    "parity": (_is_object, "an object"),
    "versions": (_is_object, "an object"),
}
