"""Runs of the stock command as the cells of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import CHOSEN, TEST_SCORES
from anomalib_xray.experiments.grid import RAW, Cell, Grid
from anomalib_xray.io.text import read_yaml
from anomalib_xray.report.results import CellOutputs

CONFIG = "config.yaml"
"""Settings that the stock command leaves in the folder of a run."""

LABEL_FREE, LABELLED = "label-free", "labelled validation"


def outputs_of_runs(runs: Sequence[Path], level: str, title: str | None = None) -> CellOutputs:
    """Takes tested runs of the stock command for the cells of a benchmark, those of one data set for one part of it.

    Args:
        runs: Their folders, each with the score table of a test; with the evidence of
            :class:`anomalib_xray.experiments.evidence.Evidence` there are pictures too.
        level: ``image``, ``study`` or ``patient``.
        title: Heading of the report; by default it names model and data.

    Raises:
        XrayError: A folder has no score table, is named twice, or two runs of a data set tested other images.
    """
    if len({run.resolve() for run in runs}) < len(runs):
        raise XrayError("A run is named twice; name each once.")
    cells: dict[Path, Cell] = {}
    selection = {}
    for run in runs:
        if not (run / TEST_SCORES).is_file():
            raise XrayError(f"{run} has no {TEST_SCORES}; name the folder of a run that anomalib train or test made.")
        settings = read_yaml(run / CONFIG) if (run / CONFIG).is_file() else {}
        model, data = (dict(settings.get(key) or {}) for key in ("model", "data"))
        name = _last(model) or run.resolve().name
        if name in {cell.model for cell in cells.values()}:
            name = f"{name} {run}"
        selection[name] = _selection(model)
        cells[run] = _cell(name, model, data, dict(settings.get("trainer") or {}))
    names = list(dict.fromkeys(cell.data for cell in cells.values()))
    heading = title or f"{' and '.join(selection)} on {' and '.join(names)}"
    grid = Grid(heading, list(cells.values()), {RAW: None}, None, level, {}, selection)
    outputs = CellOutputs(grid, Path(), {cell.key: run for run, cell in cells.items()})
    for cell in grid.cells:
        outputs.results[cell.key] = outputs.result(cell) or {"status": "done"}
    _check_tests(outputs)
    return outputs


def _cell(name: str, model: dict[str, Any], data: dict[str, Any], trainer: Mapping[str, Any]) -> Cell:
    """The cell that would have been this run; settings that the command fills in with nothing are left out."""
    settings = model.get("init_args") or {}
    of_data = _given(data.get("init_args") or {})
    return Cell(
        model=name,
        data=_last(data) or "data",
        preparation="prepared" if of_data.get("prepared_root") else RAW,
        equalize=bool(settings.get("equalize", False)),
        seed=int(settings.get("seed") or 0),
        model_config={"class_path": str(model.get("class_path", "")), "init_args": _given(settings)},
        data_config={"class_path": str(data.get("class_path", "")), "init_args": of_data},
        trainer=_given(trainer),
    )


def _last(settings: Mapping[str, Any]) -> str:
    """Name of a class, without its modules."""
    return str(settings.get("class_path", "")).rpartition(".")[2]


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): value for name, value in settings.items() if value is not None}


def _selection(model: Mapping[str, Any]) -> str:
    """Rule by which the threshold of a model was chosen: that of this project's post-processor, or anomalib's."""
    processor = (model.get("init_args") or {}).get("post_processor")
    chosen = (processor.get("init_args") or {}).get("threshold") if isinstance(processor, Mapping) else None
    own = str(model.get("class_path", "")).startswith("anomalib_xray")
    return LABEL_FREE if own and chosen != "f1" else LABELLED


def _check_tests(outputs: CellOutputs) -> None:
    """Refuses runs that cannot stand in one table."""
    first: dict[tuple[str, str, bool], Cell] = {}
    for cell in outputs.grid.cells:
        other = first.setdefault((cell.data, cell.preparation, cell.equalize), cell)
        if outputs.units(cell, CHOSEN)["id"].tolist() != outputs.units(other, CHOSEN)["id"].tolist():
            raise XrayError(
                f"{outputs.folder(cell)} and {outputs.folder(other)} tested other images of {cell.data}, so that they"
                " cannot be compared; make a report of each."
            )
