"""The manifest: one table of all that was prepared, and of all that was not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from anomalib_xray.io.text import csv_text, read_csv
from anomalib_xray.io.write import holds, write_atomically
from anomalib_xray.preparation.history import History, flags_of, summarised
from anomalib_xray.preparation.record import MANIFEST, Record
from anomalib_xray.preparation.sources import Source

Row: TypeAlias = dict[str, str]

COLUMNS = (
    "image_path", "source_path", "part", "parts", "patient", "study", "mask_path", "source_sha256", "config_sha256",
    "height", "width", "body_part", "body_part_confidence", "flags", "parameters", "error",
)  # fmt: skip
"""Columns of the manifest.

``image_path`` and ``mask_path`` are relative to the manifest's folder, ``source_path`` to the root of the originals.
``part`` counts from 1; ``parts`` is 0 where the original failed. ``body_part`` and its confidence, 0 to 1, are what a
step such as ``recognise`` found, and empty without one. ``flags`` are words with spaces between them;
``parameters`` is JSON, in which a mask is only its share of the picture. Bytes of file names that are no UTF-8 are
escapes such as ``\\udcf6``, which :func:`read_manifest` reads back.
"""


def rows_of(source: Source, record: Record) -> list[Row]:
    """The rows of an original: one per output, or one with the reason why there is none."""
    shared = dict.fromkeys(COLUMNS, "") | {
        "source_path": source.name,
        "patient": source.patient,
        "study": source.study,
        "parts": str(len(record.outputs)),
        "source_sha256": record.sha256,
        "config_sha256": record.key,
    }
    if not record.outputs:
        return [shared | {"error": record.error}]
    return [
        shared
        | {
            "image_path": output.name,
            "part": str(part),
            "mask_path": output.mask,
            "height": str(output.shape[0]),
            "width": str(output.shape[1]),
            **_body_part(output.history),
            "flags": " ".join(dict.fromkeys([*record.flags, *flags_of(output.history)])),
            "parameters": json.dumps(summarised(output.history), sort_keys=True, separators=(",", ":")),
        }
        for part, output in enumerate(record.outputs, 1)
    ]


def _body_part(history: History) -> Row:
    """What the last step that named the body part of a picture found."""
    for action in reversed(history):
        if "body_part" in action.plan.parameters:
            found = action.plan.parameters
            return {"body_part": str(found["body_part"]), "body_part_confidence": str(found.get("confidence", ""))}
    return {}


def write_manifest(out: Path, rows: Iterable[Row]) -> None:
    """Write the manifest, sorted, in one step; one with the same content is left alone."""
    ordered = sorted(rows, key=lambda row: (row["source_path"], int(row["part"] or 0)))
    path, content = out / MANIFEST, csv_text(COLUMNS, ordered)
    if not holds(path, content):
        write_atomically(path, content)


def read_manifest(out: Path) -> list[Row]:
    """Read the manifest of a folder of prepared pictures."""
    return read_csv(out / MANIFEST)
