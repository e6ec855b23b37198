"""The record of a prepared original: a small JSON file of actions and outputs, written last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import fitted
from anomalib_xray.io.text import read_json
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.history import History, decode_history, encode_history
from anomalib_xray.preparation.step import Matrix

HOUSEKEEPING = ".preparation"
"""Folder beside the prepared pictures that holds the records and the settings."""

MANIFEST = "manifest.csv"
"""Table beside the prepared pictures: a row per output, and a row per original that failed."""

_FORMAT = 1


@dataclass(frozen=True)
class Output:
    """A prepared picture on disk.

    Attributes:
        name: Its path below the folder of prepared pictures, with forward slashes.
        mask: The same of its anomaly mask; empty without one.
        shape: Height and width.
        size: Bytes of its file.
        matrix: (3, 3), leads from the original's pixel coordinates (x, y, 1) to its own.
        history: Its actions.
    """

    name: str
    mask: str
    shape: tuple[int, int]
    size: int
    matrix: Matrix
    history: History


@dataclass(frozen=True)
class Record:
    """The outcome of an original.

    Attributes:
        source: Its path below its root, with forward slashes.
        sha256: Hash of its file; empty if it could not be read.
        key: Hash of everything that the outputs depend on; the same key means that nothing is to be done.
        shape: Height and width of the original; (0, 0) if it could not be read.
        outputs: The prepared pictures.
        error: Reason of a failure; empty without one.
        flags: Notes of reading the file.
    """

    source: str
    sha256: str
    key: str
    shape: tuple[int, int]
    outputs: tuple[Output, ...]
    error: str
    flags: tuple[str, ...] = ()


def record_path(out: Path, source: str) -> Path:
    """Path of the record of an original."""
    path = out / HOUSEKEEPING / "records" / source
    return path.with_name(fitted(path.name, ".json"))


def write_record(out: Path, record: Record) -> None:
    """Write a record in one step."""
    outputs = [
        vars(output) | {"matrix": output.matrix.tolist(), "history": encode_history(output.history)}
        for output in record.outputs
    ]
    content = {"format": _FORMAT, **vars(record), "outputs": outputs}
    write_atomically(record_path(out, record.source), json.dumps(content, sort_keys=True))


def read_record(out: Path, source: str) -> Record | None:
    """The record of an original; None if this version can read none, so that it is prepared anew."""
    try:
        content = read_json(record_path(out, source))
        if content["format"] != _FORMAT or content["source"] != source:
            return None
        return Record(
            source,
            str(content["sha256"]),
            str(content["key"]),
            _shape(content["shape"]),
            tuple(_decoded(entry) for entry in content["outputs"]),
            str(content["error"]),
            tuple(map(str, content.get("flags", ()))),  # older records have none
        )
    except (KeyError, TypeError, ValueError, XrayError):
        return None


def _decoded(entry: dict[str, Any]) -> Output:
    return Output(
        str(entry["name"]),
        str(entry["mask"]),
        _shape(entry["shape"]),
        int(entry["size"]),
        np.array(entry["matrix"], np.float64).reshape(3, 3),
        decode_history(entry["history"]),
    )


def _shape(values: list[int]) -> tuple[int, int]:
    height, width = values
    return int(height), int(width)
