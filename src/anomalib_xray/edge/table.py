"""Predictions as rows of a table, as JSON and as sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_xray import NOTICE
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.result import Result

COLUMNS = ("path", "score", "normalised", "threshold", "label", "error")
"""First columns of the table of one bundle; scores are raw, unknown values are empty cells. The percentile, the flags,
the overlay's path below the table's folder, and every score by its name follow. Of several bundles, ``path``, ``fused``
and ``error`` come first, then the columns of each bundle under its label."""


def printable(value: object) -> str:
    r"""Text without control characters; bytes that are not UTF-8 become escapes (``\udcf6``).

    >>> printable("hand\x1b[2J.png")
    'hand\ufffd[2J.png'
    """
    return "".join(map(_printable, str(value)))


def _printable(character: str) -> str:
    if character.isprintable():
        return character
    return f"\\u{ord(character):x}" if "\udc80" <= character <= "\udcff" else "\N{REPLACEMENT CHARACTER}"


def columns_of(ensemble: Ensemble) -> list[str]:
    """Columns of the table of a prediction."""
    further = ("percentile", "flags", "overlay")
    names = {label: predictor.bundle.scores for label, predictor in ensemble.predictors.items()}
    scores = [f"{label}/{name}" for label, own in names.items() for name in own]
    if len(names) == 1:
        return [*COLUMNS, *further, *scores]
    of_each = [f"{label} {column}" for label in names for column in (*COLUMNS[1:-1], *further)]
    return ["path", "fused", "error", *of_each, *scores]


def row_of(
    path: Path, results: Mapping[str, Result], fused: float | None, overlays: Mapping[str, Path]
) -> dict[str, str]:
    """The row of an image: raw scores, empty cells for unknown values."""
    row = {"path": printable(path)}
    several = len(results) > 1
    if several:
        row["fused"] = _cell(fused)
    for label, result in results.items():
        cells = {
            "score": _cell(result.value),
            "normalised": _cell(result.normalised),
            "threshold": _cell(result.threshold),
            "label": _verdict(result) or "",
            "percentile": _cell(result.percentile),
            "flags": " ".join(result.flags),
            "overlay": printable(overlays[label].as_posix()),
        }
        row |= {f"{label} {name}" if several else name: cell for name, cell in cells.items()}
        row |= {f"{label}/{name}": _cell(value) for name, value in result.scores.items()}
    return row


def summary_of(ensemble: Ensemble, entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Summary of a run as JSON values: the bundles, and the entry of each image as of :func:`entry_of`."""
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
    return {"notice": NOTICE, "bundles": bundles, "fusion": fusion, "images": list(entries)}


def entry_of(
    path: Path,
    results: Mapping[str, Result] | None = None,
    fused: float | None = None,
    overlays: Mapping[str, Path] | None = None,
    *,
    uid: str | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """The entry of an image as JSON values; the path is exact, with escapes where it is not printable.

    Results, and overlays below the folder of the table, are those of each bundle by its label. Without results
    ``error`` is the reason; ``uid`` is the unique identifier of a DICOM file.
    """
    entry: dict[str, Any] = {"path": str(path), "error": error, "sop_instance_uid": uid}
    if results is not None:
        if len(results) > 1:
            entry["fused"] = fused
        entry["bundles"] = {label: _values(result) for label, result in results.items()}
        for label, overlay in (overlays or {}).items():
            entry["bundles"][label]["overlay"] = overlay.as_posix()
    return entry


def sentence_of(path: Path, results: Mapping[str, Result], fused: float | None) -> str:
    """The sentence on an image, for a terminal."""
    parts = [] if fused is None else [f"fused percentile {fused:.4g}"]
    for label, result in results.items():
        name = f"{label} " if len(results) > 1 else ""
        threshold = "none" if result.threshold is None else f"{result.threshold:.4g}"
        rank = f"{result.rank}, " if result.rank else ""
        parts.append(f"{name}score {result.value:.4g}, threshold {threshold}, {rank}{result.verdict}")
    return f"{printable(path)}: {'; '.join(parts)}"


def _values(result: Result) -> dict[str, Any]:
    return {
        "model": result.model,
        "bundle_digest": result.bundle_digest,
        "score": result.score,
        "value": result.value,
        "threshold": result.threshold,
        "percentile": result.percentile,
        "finest": result.finest,
        "label": _verdict(result),
        "not_comparable": list(result.not_comparable),
        "scores": result.scores,
        "percentiles": result.percentiles,
        "pixel_threshold": result.pixel_threshold,
        "flags": result.flags,
        "views": [
            {
                "name": view.name,
                "scores": view.scores,
                "flags": view.flags,
                "outline": None if view.outline is None else view.outline.round(1).tolist(),
            }
            for view in result.views
        ],
    }


def _verdict(result: Result) -> str | None:
    return None if result.is_anomalous is None and not result.not_comparable else result.verdict


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
