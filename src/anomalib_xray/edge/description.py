"""``bundle.json``, the description of a bundle: its keys, its reading and its checks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError

FORMAT = 4
"""Version of the description. Format 3 has no ``normalization``; format 2 had neither a checksum of its own nor a
scope; format 1 is the ``metadata.json`` that a stock export had."""

QUANTILES = 101
"""Length of a distribution: its quantiles at 0, 1, ..., 100 per cent."""

REMAKE = "make the bundle, or export the model, again"

_MAX_BYTES = 10_000_000
_Name = Annotated[str, Meta(min_length=1, max_length=100)]
_Limits = tuple[float, float]
_Kind = Annotated[str, Meta(pattern=r"\A(fp32|fp16|int8)\Z")]
_Checked = TypeVar("_Checked", bound=Struct)


class Normalization(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Normalisation of a stock export: 1/2 at the threshold, by the smallest and largest validation value.

    Attributes:
        image: Limits of the score; ``None`` where the graph returns it raw.
        pixel: The same of the map.
    """

    image: _Limits | None
    pixel: _Limits | None


class Parity(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Difference of an exported model from torch.

    Attributes:
        images: Number of compared pictures.
        score: Largest relative difference of a score; ``None`` where one is not finite.
        map: Largest relative difference of a map; ``None`` without a map, or where one is not finite.
        scores: Largest relative difference of each score.
        tolerance: Difference up to which both count as the same.
        passed: Whether all are within it.
    """

    images: int
    score: float | None
    map: float | None
    scores: dict[str, float | None]
    tolerance: float
    passed: bool


class Precision(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model of a bundle.

    Attributes:
        model: Its file; ``None`` where it was not accepted.
        auroc: Of the score that decides, over labelled images; ``None`` without them.
        parity: Agreement with torch, by the form of the model.
        accepted: Whether it is good enough to be used.
        reason: Why not.
    """

    model: str | None = None
    auroc: float | None = None
    parity: dict[str, Parity] = {}
    accepted: bool = True
    reason: str | None = None


class Data(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Images that a bundle was measured on; ``None`` and empty where unknown.

    Attributes:
        images: Their number.
        normal: Number of those that are normal or not labelled.
        abnormal: Number of those that are abnormal.
        normal_patients: Number of patients of the normal ones.
        pictures: Number of pictures that the model was shown of them.
        note: Their description.
        licence: Their licence.
        trained_on: The training data, in words.
        warning: Warning to readers of the numbers.
        threshold_origin: Origin of the threshold of each score, in words.
    """

    images: int | None = None
    normal: int | None = None
    abnormal: int | None = None
    normal_patients: int | None = None
    pictures: int | None = None
    note: str = ""
    licence: str = ""
    trained_on: str = ""
    warning: str = ""
    threshold_origin: dict[str, str] = {}


class Description(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Content of ``bundle.json``: the one place that defines its keys.

    Attributes:
        format: Version of the description.
        model: Name of the model, e.g. ``Cae``.
        settings: Settings that the model was built with, and the padding of its pre-processor.
        created: Date of its making.
        notice: Notice that stands wherever a score is shown.
        scores: Names of the scores, in the order in which the model returns them.
        score: Name of the one that decides.
        thresholds: Raw value of each score from which on an image is anomalous; ``None`` without a threshold.
        pixel_threshold: Raw value from which on a pixel of the map is anomalous; ``None`` without a threshold.
        normalization: How the graph normalises its outputs; ``None`` where it returns raw values.
        distribution: Quantiles 0, 1, ..., 100 % of each score over the normal validation images; may lack scores.
        map_limits: Smallest and largest map value of these images; ``None`` if unknown.
        precisions: The models.
        precision: The precision that is used by default.
        preparation: YAML file of the pipeline that pictures go through first; ``None`` if they go in as they are.
        scope: The kind of radiographs that the model was made for.
        versions: Versions of the packages that took part.
        data: The images that it was measured on.
        files: SHA-256 of every file.
    """

    format: int
    model: _Name
    settings: dict[str, Any]
    created: str
    notice: str
    scores: Annotated[tuple[_Name, ...], Meta(min_length=1, max_length=100)]
    score: _Name
    thresholds: dict[str, float | None]
    pixel_threshold: float | None
    normalization: Normalization | None = None
    distribution: dict[str, Annotated[list[float], Meta(min_length=QUANTILES, max_length=QUANTILES)]]
    map_limits: _Limits | None
    precisions: dict[_Kind, Precision]
    precision: _Name
    preparation: str | None
    scope: Scope
    versions: dict[str, Any]
    data: Data
    files: Annotated[dict[str, Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]], Meta(max_length=1000)] = {}

    @property
    def normal_units(self) -> int | None:
        """Number of normal patients, or of normal images where no patients are known; ``None`` if unknown."""
        return self.data.normal if self.data.normal_patients is None else self.data.normal_patients

    @property
    def accepted(self) -> dict[str, str]:
        """Model file of each precision that was accepted; empty where it names none."""
        return {name: entry.model or "" for name, entry in self.precisions.items() if entry.accepted}


def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def read_description(path: Path) -> Description:
    """Reads a ``bundle.json`` whose keys are all there, known, and of the right form.

    Raises:
        XrayError: The file cannot be read, is too large, no JSON, of another format, or has a wrong value.
    """

    class Versioned(Struct):
        format: int

    content = read_limited(path)
    number = decode(content, Versioned, path).format
    if number > FORMAT:
        raise XrayError(f"{path} is of format {number}, and this version reads up to {FORMAT}: upgrade anomalib-xray.")
    if number == 2:
        raise XrayError(
            f"{path} is of format 2, which has no checksum of its own: make the bundle again with "
            "anomalib-xray bundle --checkpoint MODEL.ckpt --out NEW_FOLDER."
        )
    if number < 2:
        raise XrayError(f"'format' in {path} must be 3 or {FORMAT}: {REMAKE}.")
    description = decode(content, Description, path)
    check_consistency(description, path)
    return description


def read_limited(path: Path) -> bytes:
    """Reads a file that must not be large."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise XrayError(f"{path} is larger than {_MAX_BYTES} bytes: {REMAKE}.")
        return path.read_bytes()
    except OSError as error:
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error


def decode(content: bytes, kind: type[_Checked], path: Path) -> _Checked:
    """Reads JSON of finite numbers as a type; an error names the key."""
    try:
        return msgspec.json.decode(content, type=kind)
    except msgspec.ValidationError as error:
        raise XrayError(f"{_sentence(str(error), path)}: {REMAKE}, or upgrade anomalib-xray.") from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise XrayError(f"{path} is not valid JSON of finite numbers: {REMAKE}.") from error


def _sentence(text: str, path: Path) -> str:
    """The beginning of a sentence from an error of msgspec, which ends with the place: ``at `$.scope.sides[0]```."""
    text, _, place = text.partition(" - at ")
    where = place.rpartition("$")[2].strip("`.")
    if found := re.fullmatch(r"Object (missing required|contains unknown) field `(.*)`", text):
        said = "lacks the key" if found[1] == "missing required" else "has the unknown key"
        return f"{path} {said} {f'{where}.{found[2]}'.lstrip('.')!r}"
    if not where:
        return f"{path} holds no JSON object of this kind"
    return f"{re.split(r'[.[]', where)[0]!r} in {path} is wrong ({text}, at {where})"


def check_consistency(about: Description, path: Path) -> None:
    """Checks that values belong together, and that texts may be shown or opened."""
    for problem in chain(_wrong_names(about), _wrong_numbers(about), _wrong_files(about)):
        raise XrayError(f"{path} contradicts itself: {problem}; {REMAKE}.")


def _wrong_names(about: Description) -> Iterator[str]:
    for name in (about.model, *about.scores, *about.scope.body_parts, *about.scope.views):
        if not name.isprintable():
            yield f"{name!r} is no name ('model', 'scores' and 'scope')"
    if len(set(about.scores)) < len(about.scores):
        yield "'scores' names one twice"
    if about.score not in about.scores:
        yield f"'score' is {about.score!r}, which is none of the scores"
    for key, known in (("thresholds", about.thresholds), ("distribution", about.distribution)):
        if unknown := sorted(known.keys() - set(about.scores)):
            yield f"{key!r} names {unknown[0]!r}, which is none of the scores"
    if about.normalization is not None and len(about.scores) > 1:
        yield "'normalization' is that of one score, and 'scores' names several"


def _wrong_numbers(about: Description) -> Iterator[str]:
    if any(sorted(quantiles) != quantiles for quantiles in about.distribution.values()):
        yield "'distribution' must rise"
    for key, limits in (("map_limits", about.map_limits), ("scope", about.scope.sides)):
        if limits is not None and limits[0] > limits[1]:
            yield f"{key!r} must be [smallest, largest]"
    for level in ("image", "pixel"):
        limits = getattr(about.normalization, level, None)
        if limits is not None and limits[0] >= limits[1]:
            yield f"'normalization.{level}' must be [smallest, largest] of different values: validate on more images"


def _wrong_files(about: Description) -> Iterator[str]:
    models = [*about.accepted.values()]
    opened = [*models, *([] if about.preparation is None else [about.preparation])]
    for inner in (*opened, *about.files):
        if not is_inner_path(inner):
            yield f"{inner!r} is no path inside of the bundle ('precisions', 'preparation' and 'files')"
    for model in models:
        if PurePosixPath(model).suffix not in (".xml", ".onnx"):
            yield f"'precisions' names {model!r}, which is no .xml or .onnx file"
    if about.precision not in about.accepted:
        yield f"'precision' is {about.precision!r}, of which there is no model"
    weights = [PurePosixPath(model).with_suffix(".bin").as_posix() for model in models if model.endswith(".xml")]
    missing = sorted({*opened, *weights} - about.files.keys())
    if missing and about.format > 1:
        yield f"'files' has no checksum of {missing[0]}"


def is_inner_path(value: str) -> bool:
    """Whether a text is a path below a folder, the same on every system, that cannot lead out of it.

    >>> is_inner_path("fp32/model.xml"), is_inner_path("../model.xml")
    (True, False)
    """
    if not value.isprintable() or any(mark in value for mark in ("\\", ":")):
        return False
    path = PurePosixPath(value)
    return not path.is_absolute() and bool(path.parts) and ".." not in path.parts and path.as_posix() == value
