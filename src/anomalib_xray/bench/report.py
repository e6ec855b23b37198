"""What a measurement of speed says: a table for people and JSON for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from anomalib_xray.bench.turns import Measured
from anomalib_xray.edge.device_bundle import DeviceBundle

_COLUMNS = ("backend", "fastest\nms", "median\nms", "95 %\nms", "images\n/ s", "times\ntorch", "memory\nMB", "start\ns")
_ABSENT = "-"


def rows_of(results: Sequence[Measured]) -> list[dict[str, Any]]:
    """Figures of every backend.

    Args:
        results: What was measured; the first one is what the others are compared with.

    Returns:
        For each: ``backend``, and either ``problem`` or ``fastest_ms``, ``median_ms``, ``p95_ms``,
        ``images_per_second`` (one after the other), ``speed_up`` over the first (of the medians), ``memory_mb``
        (largest resident) and ``start_s`` (from the start of the process to the first answer).
    """
    first = float(np.median(results[0].seconds)) if results[0].seconds else None
    return [_row(result, first) for result in results]


def _row(result: Measured, reference: float | None) -> dict[str, Any]:
    if result.problem:
        return {"backend": result.backend.name, "problem": result.problem}
    median, high = (float(value) for value in np.quantile(result.seconds, (0.5, 0.95)))
    is_model = not result.backend.takes_raw
    return {
        "backend": result.backend.name,
        "fastest_ms": min(result.seconds) * 1000,
        "median_ms": median * 1000,
        "p95_ms": high * 1000,
        "images_per_second": len(result.seconds) / sum(result.seconds),
        "speed_up": reference / median if reference is not None and is_model else None,
        "memory_mb": None if result.memory is None else result.memory / 1e6,
        "start_s": result.start,
    }


def as_table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """The figures as a table; a backend that was not measured is a row of dashes."""
    table = Table(title=title, pad_edge=False)
    for number, column in enumerate(_COLUMNS):
        table.add_column(column, justify="right" if number else "left", no_wrap=number > 0)
    for row in rows:
        cells = [_ABSENT] * (len(_COLUMNS) - 1) if "problem" in row else _cells(row)
        table.add_row(Text(row["backend"]), *cells)
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    speed_up, memory = row["speed_up"], row["memory_mb"]
    return [
        f"{row['fastest_ms']:.1f}",
        f"{row['median_ms']:.1f}",
        f"{row['p95_ms']:.1f}",
        f"{row['images_per_second']:.1f}",
        "" if speed_up is None else f"{speed_up:.1f}",
        "unknown" if memory is None else f"{memory:.0f}",
        f"{row['start_s']:.1f}",
    ]


def as_json(rows: Sequence[dict[str, Any]], bundle: DeviceBundle, runs: int, threads: int, note: str) -> dict[str, Any]:
    """Everything about a measurement that can stand in JSON."""
    return {
        "model": bundle.model,
        "settings": bundle.settings,
        "runs": runs,
        "threads": threads,
        "pictures": note,
        "machine": f"{platform.system()} {platform.machine()}, {processor()}",
        "versions": _versions(),
        "rows": list(rows),
    }


def processor() -> str:
    """What the system calls its processor."""
    try:
        with open("/proc/cpuinfo", encoding="ascii") as file:  # noqa: PTH123  # read line by line
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration, UnicodeDecodeError):
        return platform.processor() or "unknown processor"


def _versions() -> dict[str, str]:
    found = {}
    for name in ("anomalib-xray", "openvino", "torch", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
