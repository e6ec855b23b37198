"""Predictions as rows of a table, as JSON and as sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_xray import NOTICE
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.result import Result, View
from anomalib_xray.io.text import csv_text

COLUMNS = ("path", "score", "normalised", "threshold", "label", "error")
"""First columns of the table of one bundle; scores are raw, cells of what is unknown are empty. The percentile, the
flags, the overlay's path below the table's folder, and every score by its name follow."""

FUSED_COLUMNS = ("path", "fused", "error")
"""First columns of the table of several bundles; those of each bundle follow, under its label."""


def printable(value: object) -> str:
    r"""Text without the characters that a terminal would obey; bytes that are no UTF-8 become escapes (``\udcf6``)."""
    return "".join(map(_printable, str(value)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):x}" if "\udc80" <= character <= "\udcff" else "\N{REPLACEMENT CHARACTER}"


def as_csv(ensemble: Ensemble, rows: Sequence[Mapping[str, str]]) -> str:
    """The table, with a head, of rows as of :func:`row_of`."""
    return csv_text(_columns(ensemble), rows)


def row_of(
    path: Path, results: Mapping[str, Result], fused: float | None, overlays: Mapping[str, Path]
) -> dict[str, str]:
    """The row of an image: raw scores, empty cells for what is unknown."""
    row = {"path": printable(path)}
    several = len(results) > 1
    if several:
        row["fused"] = _cell(fused)
    for label, result in results.items():
        prefix = f"{label} " if several else ""
        row |= {f"{prefix}{name}": value for name, value in _cells(result).items()}
        row[f"{prefix}overlay"] = printable(overlays[label].as_posix())
        row |= {f"{label}/{name}": _cell(value) for name, value in result.scores.items()}
    return row


def as_json(ensemble: Ensemble, entries: Sequence[Mapping[str, Any]]) -> str:
    """All about a run: the bundles, and what they say of each image, as of :func:`entry_of`."""
    bundles = {
        label: {
            "path": str(predictor.bundle.folder),
            "bundle_digest": predictor.bundle.digest,
            "format": predictor.bundle.format,
            "model": predictor.bundle.model,
            "precision": predictor.precision,
            "score": predictor.score,
        }
        for label, predictor in ensemble.predictors.items()
    }
    fusion = "mean percentile among normal images" if ensemble.fuses else None
    content = {"notice": NOTICE, "bundles": bundles, "fusion": fusion, "images": list(entries)}
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def entry_of(
    path: Path,
    results: Mapping[str, Result] | None = None,
    fused: float | None = None,
    overlays: Mapping[str, Path] | None = None,
    *,
    uid: str | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The entry of an image in JSON; the path is exact, with escapes where it is not printable.

    Args:
        path: The file, as the user's argument leads to it.
        results: What each bundle says, by its label; ``None`` where the image could not be used.
        fused: As of :meth:`Ensemble.fused`.
        overlays: Each bundle's overlay below the folder of the table, by its label; none in a stream.
        uid: Unique identifier of a DICOM file; ``None`` for others.
        error: Why the image could not be used.
    """
    entry: dict[str, Any] = {"path": str(path), "error": error, "sop_instance_uid": uid}
    if results is not None:
        if len(results) > 1:
            entry["fused"] = fused
        entry["bundles"] = {label: _about(result) for label, result in results.items()}
        for label, overlay in (overlays or {}).items():
            entry["bundles"][label]["overlay"] = overlay.as_posix()
    return entry


def sentence_of(path: Path, results: Mapping[str, Result], fused: float | None) -> str:
    """The sentence on an image, for a terminal."""
    said = {label: _sentence(result) for label, result in results.items()}
    if len(said) == 1:
        return f"{printable(path)}: {next(iter(said.values()))}"
    beginning = "" if fused is None else f"fused percentile {fused:.4g}; "
    return f"{printable(path)}: {beginning}{'; '.join(f'{label} {text}' for label, text in said.items())}"


def _columns(ensemble: Ensemble) -> list[str]:
    further = ("percentile", "flags", "overlay")
    names = {label: predictor.bundle.scores for label, predictor in ensemble.predictors.items()}
    scores = [f"{label}/{name}" for label, own in names.items() for name in own]
    if len(names) == 1:
        return [*COLUMNS, *further, *scores]
    of_each = [f"{label} {column}" for label in names for column in (*COLUMNS[1:-1], *further)]
    return [*FUSED_COLUMNS, *of_each, *scores]


def _cells(result: Result) -> dict[str, str]:
    return {
        "score": _cell(result.value),
        "normalised": _cell(result.normalised),
        "threshold": _cell(result.threshold),
        "label": _verdict(result) or "",
        "percentile": _cell(result.percentile),
        "flags": " ".join(result.flags),
    }


def _about(result: Result) -> dict[str, Any]:
    return {
        "model": result.model,
        "bundle_digest": result.bundle_digest,
        "score": result.score,
        "value": result.value,
        "threshold": result.threshold,
        "percentile": result.percentile,
        "label": _verdict(result),
        "not_comparable": list(result.not_comparable),
        "scores": result.scores,
        "percentiles": result.percentiles,
        "pixel_threshold": result.pixel_threshold,
        "flags": result.flags,
        "views": [_view(view) for view in result.views],
    }


def _view(view: View) -> dict[str, Any]:
    outline = None if view.outline is None else view.outline.round(1).tolist()
    return {"name": view.name, "scores": view.scores, "flags": view.flags, "outline": outline}


def _sentence(result: Result) -> str:
    threshold = "none" if result.threshold is None else f"{result.threshold:.4g}"
    percentile = "" if result.percentile is None else f"percentile {result.percentile:.4g}, "
    return f"score {result.value:.4g}, threshold {threshold}, {percentile}{result.verdict}"


def _verdict(result: Result) -> str | None:
    return None if result.is_anomalous is None and not result.not_comparable else result.verdict


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
