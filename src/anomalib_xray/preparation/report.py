"""The summary of a run and contact sheets of radiographs stage by stage, for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.history import flags_of
from anomalib_xray.preparation.manifest import Row, read_manifest
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.record import MANIFEST, Output, read_record
from anomalib_xray.preparation.runner import Summary
from anomalib_xray.preparation.view import small_view
from anomalib_xray.shards import Shard

_SHOWN_ERRORS = 10

_CELL = 176  # pixels, so that six stages fit on a screen
_CAPTION = 18
_ROWS = 12  # per page
_WHITE = 255
Sheet = NDArray[np.uint8]


def print_summary(summary: Summary, out: Path, shard: Shard | None = None) -> None:
    """Print how many pictures were prepared, how many carry each flag, and the failures."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if summary.flags:
        table = Table(title="Flags")
        table.add_column("flag")
        table.add_column("pictures", justify="right")
        table.add_column("share", justify="right")
        for flag, count in sorted(summary.flags.items(), key=lambda item: (-item[1], item[0])):
            table.add_row(flag, str(count), f"{count / summary.outputs:.1%}")
        console.print(table)
    for name, error in list(summary.errors.items())[:_SHOWN_ERRORS]:
        # Text, because a reason may hold brackets, which rich would take for its markup.
        console.print(Text(error if name in error else f"{name}: {error}", style="red"), soft_wrap=True)
    if len(summary.errors) > _SHOWN_ERRORS:
        console.print(f"… and {len(summary.errors) - _SHOWN_ERRORS} more{'' if shard else f', in {MANIFEST}'}.")
    done = summary.done
    print(
        f"{done.total()} radiographs: {done['prepared']} prepared, {done['kept']} done before, {done['failed']} failed."
        f" {summary.outputs} pictures{'' if shard else f' and {MANIFEST}'} are in {out}."
    )
    if shard is not None:
        print(f"Shard {shard} has ended; the same command without --shard writes {MANIFEST}.")


def write_preview(pipeline: Pipeline, root: Path, out: Path, count: int) -> Iterator[Path]:
    """Draw contact sheets of prepared radiographs, the worst first; yields ``out``/preview_1.png and so on.

    A row is a prepared picture: the original and the picture after each step, replayed from its record. The cell of a
    step that did nothing is empty.
    """
    for old in out.glob("preview_*.png"):
        old.unlink(missing_ok=True)
    chosen = _worst_first(out, pipeline.failures, count)
    names = ["original", *(named.name for named in pipeline.steps)]
    for page, start in enumerate(range(0, len(chosen), _ROWS), 1):
        rows = [_row(pipeline, root, source, output) for source, output in chosen[start : start + _ROWS]]
        path = out / f"preview_{page}.png"
        write_png(path, np.vstack([_header(names), *rows]))
        yield path


def _worst_first(out: Path, failures: frozenset[str], count: int) -> list[tuple[str, Output]]:
    """Originals' names and outputs: those where a step failed, then by doubt, then those with rare flags.

    Doubt is the highest ``doubt``, from 0 to 1, that a step planned with, to a tenth; a common flag says little.
    """
    rows = [row for row in read_manifest(out) if row["image_path"]]
    frequency = Counter(flag for row in rows for flag in row["flags"].split())

    def goodness(row: Row) -> tuple[bool, float, int]:
        flags = row["flags"].split()
        rarest = min((frequency[flag] for flag in flags), default=len(rows) + 1)
        return failures.isdisjoint(flags), -round(_doubt(row), 1), rarest

    found: list[tuple[str, Output]] = []
    for row in sorted(rows, key=goodness):
        if len(found) == count:
            break
        record = read_record(out, row["source_path"])
        if record is not None and int(row["part"]) <= len(record.outputs):
            found.append((row["source_path"], record.outputs[int(row["part"]) - 1]))
    return found


def _doubt(row: Row) -> float:
    return max((float(planned.get("doubt", 0)) for planned in json.loads(row["parameters"]).values()), default=0.0)


def _row(pipeline: Pipeline, root: Path, source: str, output: Output) -> Sheet:
    try:
        stages = list(pipeline.stages(read_radiograph(root / source), output.history))
    except XrayError as error:
        return _captioned(np.zeros((_CELL, _CELL * (len(pipeline.steps) + 1)), np.uint8), str(error))
    cells = [_cell(stages[0].image)]
    for stage, action in zip(stages[1:], output.history, strict=True):
        cells.append(_cell(stage.image) if action.plan.parameters else np.zeros((_CELL, _CELL), np.uint8))
    flags = ", ".join(flags_of(output.history))
    return _captioned(np.hstack(cells), f"{source}  [{flags}]" if flags else source)


def _cell(image: Radiograph) -> Sheet:
    """The picture, reduced to a cell with black around it."""
    view = small_view(image, _CELL - 4)
    cell = np.zeros((_CELL, _CELL), np.uint8)
    top, left = (_CELL - view.shape[0]) // 2, (_CELL - view.shape[1]) // 2
    cell[top : top + view.shape[0], left : left + view.shape[1]] = view
    return cell


def _header(names: Sequence[str]) -> Sheet:
    header = np.full((_CAPTION + 4, _CELL * len(names)), _WHITE, np.uint8)
    for number, name in enumerate(names):
        _write(header, name, number * _CELL + 4, 0)
    return header


def _captioned(cells: Sheet, caption: str) -> Sheet:
    strip = np.full((_CAPTION, cells.shape[1]), _WHITE, np.uint8)
    _write(strip, caption, 4, 0)
    return np.vstack([strip, cells])


def _write(strip: Sheet, text: str, x: int, colour: int) -> None:
    cv2.putText(strip, text, (x, _CAPTION - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
