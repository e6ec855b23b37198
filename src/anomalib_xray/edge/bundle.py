"""Bundles: exported models with a ``bundle.json`` that gives their numbers a meaning."""

from __future__ import annotations

import hashlib
import json
import mmap
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import msgspec
from msgspec import Struct

from anomalib_xray import NOTICE
from anomalib_xray.edge.description import (
    REMAKE,
    Data,
    Description,
    Normalization,
    Precision,
    check_consistency,
    decode,
    is_inner_path,
    read_description,
    read_limited,
)
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import absolute, leads_out
from anomalib_xray.io.write import write_atomically

DESCRIPTION_NAME = "bundle.json"
"""File of a bundle that describes it and all its other files."""

DIGEST_NAME = "bundle.sha256"
"""File beside it with its checksum, as ``sha256sum`` writes and checks it."""

_OLD_NAME, _OLD_CHECKSUMS = "metadata.json", "metadata.sha256"
_FOLDERS = (".", "weights/openvino", "weights/onnx")  # a bundle itself, or the run folder that anomalib exports into
_MODEL_NAMES = ("model.xml", "model.onnx")
_MAX_BYTES = 4_000_000_000
"""Of all files together; the largest model of this project has less than a tenth."""
# protobuf's StringStringEntryProto: key (field 1) "location", value (field 2) of a length in base 128
_EXTERNAL_DATA = re.compile(rb"\x0a\x08location\x12([\x80-\xff]*[\x00-\x7f])")


class Bundle(Description, frozen=True, kw_only=True):
    """A bundle whose files are complete and unchanged, and whose description is valid.

    Attributes:
        folder: Its folder.
        digest: SHA-256 of its description, in hexadecimal digits.
    """

    folder: Path
    digest: str

    @property
    def models(self) -> dict[str, Path]:
        """Model file of each precision that was accepted."""
        return {name: self.folder / model for name, model in self.accepted.items()}

    @property
    def pipeline(self) -> Path | None:
        """File of the preparation; ``None`` without one."""
        return None if self.preparation is None else self.folder / self.preparation

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Reads a bundle's description and checks every file against its checksum; no model is loaded.

        Args:
            path: Folder with a ``bundle.json``, or that file; or a stock export: its folder, the folder of its run
                (``weights/openvino`` goes before ``weights/onnx``), or the ``.xml`` or ``.onnx`` file itself.

        Raises:
            XrayError: A file is missing, changed or outside of the folder, or the description is broken, incomplete or
                of a newer format.
        """
        given = Path(path)
        file = _find(given)
        if file.name == _OLD_NAME:
            description, digest = _read_old(file, given), sha256(file)
        else:
            # The checksum goes first, since a changed file may be of a wrong form too; earlier formats have none.
            digest = _check_digest(file) if file.with_name(DIGEST_NAME).is_file() else ""
            description = read_description(file)
            digest = digest or _check_digest(file)
        _check_files(file.parent, description)
        bundle = cls(**msgspec.structs.asdict(description), folder=file.parent, digest=digest)
        if given.suffix in (".xml", ".onnx") and given not in bundle.models.values():
            raise XrayError(f"{file} describes another model than {given}: {REMAKE}.")
        return bundle


def seal(description: Description, folder: Path, files: Iterable[Path]) -> Description:
    """Writes the description of a bundle with the checksums of its files, then its own; returns it with them."""
    checksums = {file.relative_to(folder).as_posix(): sha256(file) for file in files}
    sealed = msgspec.structs.replace(description, files=checksums)
    text = json.dumps(msgspec.to_builtins(sealed), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / DESCRIPTION_NAME, text)
    write_atomically(folder / DIGEST_NAME, f"{hashlib.sha256(text.encode()).hexdigest()}  {DESCRIPTION_NAME}\n")
    return sealed


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise XrayError(f"{path} cannot be read: {error.strerror}.") from error


def _find(path: Path) -> Path:
    """The description that a path given by the user means."""
    if not path.exists():
        raise XrayError(f"There is no bundle {path}: give the folder or the file that an export wrote.")
    names = (DESCRIPTION_NAME, _OLD_NAME)
    if path.is_file() and path.name in names:
        return path
    if path.is_file() and path.suffix not in (".xml", ".onnx"):
        raise XrayError(f"{path} is not a model: give an .xml or .onnx file, or its folder.")
    folders = [path.parent] if path.is_file() else [path / folder for folder in _FOLDERS]
    if found := next((folder / name for folder in folders for name in names if (folder / name).is_file()), None):
        return found
    if path.is_file() or any((folder / name).is_file() for folder in folders for name in _MODEL_NAMES):
        raise XrayError(f"{path} has no {DESCRIPTION_NAME}: export it again with a model of anomalib-xray.")
    raise XrayError(
        f"{path} holds no model with its {DESCRIPTION_NAME}, in it or in weights/openvino or weights/onnx below: "
        "export one into it, or give the model file itself."
    )


def _check_digest(path: Path) -> str:
    """SHA-256 of a description, which must be that beside it."""
    beside = path.with_name(DIGEST_NAME)
    if not beside.is_file():
        raise XrayError(f"The bundle {path.parent} is incomplete: it lacks {DIGEST_NAME}; copy the whole folder.")
    found = sha256(path)
    if not read_limited(beside).startswith(found.encode()):
        raise XrayError(
            f"{path} is not what it was when the bundle was made: copy or make the bundle again; another threshold is "
            "given to a command with --threshold."
        )
    return found


def _check_files(folder: Path, about: Description) -> None:
    """Refuses a bundle of which a file is missing, outside of the folder, or changed."""
    total = 0
    # Hugging Face's cache has a folder of links, snapshots/REVISION, into the store of the same repository.
    home = absolute(folder).parent
    blobs = home.with_name("blobs") if home.name == "snapshots" else None
    for name, expected in sorted(about.files.items()):
        path = folder / name
        if not path.is_file():
            raise XrayError(f"The bundle {folder} is incomplete: it lacks {name}; copy the whole folder.")
        if leads_out(path, folder) and (blobs is None or leads_out(path, blobs)):
            raise XrayError(f"The bundle {folder} is not whole: {name} lies outside of it; copy the files themselves.")
        total += path.stat().st_size
        if total > _MAX_BYTES:
            raise XrayError(f"The bundle {folder} has more than {_MAX_BYTES} bytes, which no bundle needs.")
        if sha256(path) != expected:
            raise XrayError(f"{path} is not what it was when the bundle was made: copy or make the bundle again.")
    for model in about.accepted.values():
        for name in sorted(_weights_of(folder / model)):
            if about.format > 1 and PurePosixPath(model).with_name(name).as_posix() not in about.files:
                raise XrayError(f"{folder / DESCRIPTION_NAME} has no checksum of the weights {name}: {REMAKE}.")


def _weights_of(model: Path) -> set[str]:
    """Names of the files with a model's weights; refuses missing ones and those outside of its folder."""
    names = {model.with_suffix(".bin").name} if model.suffix == ".xml" else _external_data(model)
    for name in names:
        if Path(name).name != name or "\\" in name:
            raise XrayError(f"{model} refers to weights outside of its folder ({name}): export it again.")
        if not (model.parent / name).is_file():
            raise XrayError(f"{model} lacks its weights {name}: copy both files, and keep their names.")
    return names


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


class _Levels(Struct):
    image: float | None
    pixel: float | None


class _OldDescription(Struct):
    """``metadata.json`` of a stock export of an earlier version."""

    format: Literal[1]
    model: str
    settings: dict[str, Any]
    score: str
    threshold: _Levels
    normalization: Normalization
    versions: dict[str, Any]


def _read_old(path: Path, given: Path) -> Description:
    """The description of a stock export of an earlier version, with the checksums that it may have."""
    old = decode(read_limited(path), _OldDescription, path)
    names = [given.name] if given.suffix in (".xml", ".onnx") else _MODEL_NAMES
    model = next((name for name in names if (path.parent / name).is_file()), None)
    if model is None:
        raise XrayError(f"{path.parent} holds no model: export one into it, or give the model file itself.")
    description = Description(
        format=1,
        model=old.model,
        settings=old.settings,
        created="",
        notice=NOTICE,
        scores=(old.score,),
        score=old.score,
        thresholds={old.score: old.threshold.image},
        pixel_threshold=old.threshold.pixel,
        normalization=old.normalization,
        distribution={},
        map_limits=old.normalization.pixel,
        precisions={"fp32": Precision(model=model)},
        precision="fp32",
        preparation=None,
        scope=Scope(),
        versions=old.versions,
        data=Data(),
        files=_old_checksums(path.with_name(_OLD_CHECKSUMS)),
    )
    check_consistency(description, path)
    return description


def _old_checksums(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    checksums = {}
    for line in read_limited(path).decode(errors="replace").splitlines():
        expected, _, name = line.partition("  ")
        if Path(name).name != name or not is_inner_path(name):
            raise XrayError(f"{path} lists {name!r}, which does not lie beside it: copy all files of the export.")
        checksums[name] = expected
    return checksums
