"""The grid of a benchmark, models times data sets, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import LEVELS
from anomalib_xray.io.text import check_keys, read_yaml

SHORTCUTS = "Shortcuts"
"""Name of the row whose scores are numbers that need no model."""

RAW = "raw"
"""Name of the preparation that leaves pictures as they are."""

SCORES, TOP_K, MARKS, CASES = "scores.csv", "top_k.csv", "marks.csv", "cases"
"""In a cell's folder: scores of each image, scores for several k, and a folder of the best and worst cases."""

CHARACTERISTICS = "characteristics.csv"
"""In the same folder: what the data set says of each test image, such as its view or the patient's age."""

_KEYS = {
    *("title", "data", "models", "preparations", "equalize", "seeds", "training_sizes", "trainer"),
    *("baseline", "level", "selection"),
}
_OBJECT_KEYS = {"config", "class_path", "init_args", "preparations"}
_ENTRY_KEYS = {
    "data": _OBJECT_KEYS,
    "model": _OBJECT_KEYS | {"trainer", "scores", "selection", "image_size", "weights", "data", "seeds"},
}

_TRAINING_DATA = {
    *("train_batch_size", "eval_batch_size", "num_workers", "train_augmentations"),
    *("image_size", "drop_flagged", "pool", "labelled_abnormal", "cache_gib"),
}
"""Settings of the data that a model may have of its own: none of them changes the pictures of its test."""


@dataclass(frozen=True)
class Cell:
    """One training with its test: a model on a data set, prepared in one way, with one seed.

    >>> Cell("Cae", "hands", "raw", equalize=False, seed=42).key
    'hands-raw-Cae-42-0f580018'

    Attributes:
        model: Name of the model in the grid.
        data: Name of the data set in the grid.
        preparation: Name of the preparation.
        equalize: Whether the foreground's histogram is equalised.
        seed: Seed of the model.
        model_config: ``class_path`` and ``init_args``; empty for the shortcuts.
        data_config: ``class_path`` and ``init_args``, those of the model laid over those of the data set.
        trainer: Arguments of the trainer.
        image_size: Side in pixels to which anomalib's own pre-processing of a model resizes; ``None`` for its default.
        weights: Local file with the weights of a timm backbone, in place of a download.
        training_size: Number of training images, drawn from all of them; ``None`` for all.
    """

    model: str
    data: str
    preparation: str
    equalize: bool
    seed: int
    model_config: dict[str, Any] = field(default_factory=dict)
    data_config: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    weights: str | None = None
    training_size: int | None = None

    @property
    def key(self) -> str:
        """Name of the cell's folder, with a hash of all settings."""
        settings = json.dumps(asdict(self), sort_keys=True, default=str)
        names = [self.data, self.preparation, *(["equalized"] if self.equalize else []), self.model, str(self.seed)]
        names += [] if self.training_size is None else [f"n{self.training_size}"]
        return re.sub(r"[^\w.-]+", "_", "-".join(names)) + "-" + hashlib.sha256(settings.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Grid:
    """All cells of a benchmark, and the terms of their comparison.

    Attributes:
        title: Heading of the report.
        cells: The cells, in the order in which they run.
        preparations: Pipeline file of each preparation, ``None`` for :data:`RAW`.
        baseline: Model that the others are compared with.
        level: ``image``, ``study`` or ``patient``.
        scores: Scores of each model that the tables show; the model's own choice where it names none.
        selection: Rule by which the settings of each model were chosen: ``label-free`` or ``as published``.
        curve_cells: Cells with fewer training images, which only the curve of AUROC against training size shows.
    """

    title: str
    cells: list[Cell]
    preparations: dict[str, Path | None]
    baseline: str | None
    level: str
    scores: dict[str, list[str]]
    selection: dict[str, str]
    curve_cells: list[Cell] = field(default_factory=list)

    @property
    def all_cells(self) -> list[Cell]:
        """Cells of the tables and of the curves."""
        return [*self.cells, *self.curve_cells]


def read_grid(path: Path) -> Grid:
    """Reads a benchmark.

    Files that it names are relative to its own folder. Every entry of ``data`` and ``models`` has a ``config``, a file
    as the stock command takes it, or a ``class_path``; ``init_args`` change single settings. A data set or a
    model that is not to have every preparation names its own under ``preparations``; a model that is not to have the
    data set's settings, such as the size of a batch, its own under ``data``; one that does the same with every seed,
    one of the ``seeds``.
    The data section of a model's file does not count.

    Raises:
        XrayError: The file, or one that it names, cannot be read or is malformed.
    """
    content = read_yaml(path, _KEYS)
    for key in ("data", "models"):
        if not isinstance(content.get(key), dict) or not content[key]:
            raise XrayError(f"{path} names no {key}; list at least one under {key}:.")
    data = {name: _entry(entry, "data", path, name) for name, entry in content["data"].items()}
    models = {name: _entry(entry, "model", path, name) for name, entry in content["models"].items()}
    preparations = {
        name: None if file is None else (path.parent / file).resolve()
        for name, file in (content.get("preparations") or {RAW: None}).items()
    }
    cells = []
    for (data_name, data_entry), preparation in product(data.items(), preparations):
        if preparation not in _preparations_of(data_entry, preparations, f"{data_name} in {path}"):
            continue
        cells.append(Cell(SHORTCUTS, data_name, preparation, False, 0, {}, _settings(data_entry)))
        seeds = content.get("seeds", [42])
        treatments = product(content.get("equalize", [False]), seeds, models.items())
        for equalize, seed, (name, entry) in treatments:
            where = f"{name} in {path}"
            if seed not in _seeds_of(entry, seeds, where) or preparation not in _preparations_of(
                entry, preparations, where
            ):
                continue
            _check_reserve(data_entry, entry, f"{name} on {data_name} in {path}")
            trainer = {**content.get("trainer", {}), **entry.get("trainer", {})}
            settings = _settings(entry), _settings(data_entry, entry.get("data")), trainer
            of_others = entry.get("image_size"), entry.get("weights")
            cells.append(Cell(name, data_name, preparation, bool(equalize), int(seed), *settings, *of_others))
    baseline = content.get("baseline")
    if baseline is not None and baseline not in models:
        raise XrayError(f"{path} compares with {baseline}, which is none of its models: {', '.join(models)}.")
    level = content.get("level", "image")
    if level not in list(LEVELS):
        raise XrayError(f"{path} evaluates by {level}; choose image, study or patient.")
    return Grid(
        title=str(content.get("title", path.stem)),
        cells=cells,
        preparations=preparations,
        baseline=baseline,
        level=level,
        scores={name: _listed(entry["scores"]) for name, entry in models.items() if "scores" in entry},
        selection={
            name: str(entry.get("selection", content.get("selection", "label-free"))) for name, entry in models.items()
        },
        curve_cells=_curve_cells(content.get("training_sizes"), cells, path),
    )


def _preparations_of(entry: Mapping[str, Any], preparations: Mapping[str, Any], where: str) -> list[str]:
    """Names of the preparations of a data set or a model; all by default."""
    names = _listed(entry.get("preparations", list(preparations)))
    unknown = sorted(set(names) - set(preparations))
    if unknown:
        raise XrayError(f"{where} names the preparation {unknown[0]}; there are {', '.join(preparations)}.")
    return names


def _seeds_of(entry: Mapping[str, Any], seeds: Sequence[int], where: str) -> Sequence[int]:
    """Seeds of a model; all by default."""
    own: Sequence[int] = entry.get("seeds", seeds)
    unknown = sorted(set(own) - set(seeds))
    if unknown:
        raise XrayError(f"{where} has the seed {unknown[0]}; the grid has {', '.join(map(str, seeds))}.")
    return own


def _curve_cells(settings: Any, cells: Sequence[Cell], path: Path) -> list[Cell]:
    """The cells of some models once more, with fewer training images."""
    if settings is None:
        return []
    where = f"training_sizes in {path}"
    if not isinstance(settings, dict):
        raise XrayError(f"{where} is no mapping; give it models: and sizes:.")
    check_keys(settings, {"models", "sizes"}, where)
    chosen, sizes = _listed(settings.get("models", [])), settings.get("sizes", [])
    unknown = sorted(set(chosen) - {cell.model for cell in cells})
    if unknown:
        raise XrayError(f"{where} names {unknown[0]}, which is none of the models.")
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise XrayError(f"{where} needs sizes: a list of numbers of images.")
    return [replace(cell, training_size=size) for size in sizes for cell in cells if cell.model in chosen]


def _listed(value: Any) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _entry(entry: Any, kind: str, path: Path, name: str) -> dict[str, Any]:
    """One data set or model; settings given here replace those of its file."""
    where = f"{name} in {path}"
    if not isinstance(entry, dict):
        raise XrayError(f"{where} is no mapping; give it a config or a class_path.")
    check_keys(entry, _ENTRY_KEYS[kind], where)
    if "data" in entry:
        _check_data(entry["data"], where)
    found: dict[str, Any] = {"init_args": {}}
    if "config" in entry:
        file = path.parent / str(entry["config"])
        content = read_yaml(file)
        if not isinstance(content.get(kind), dict) or "class_path" not in content[kind]:
            raise XrayError(f"{file}, which {where} names, has no {kind} with a class_path.")
        found |= {"class_path": content[kind]["class_path"], "init_args": dict(content[kind].get("init_args") or {})}
    found["init_args"] |= entry.get("init_args") or {}
    found |= {key: entry[key] for key in _ENTRY_KEYS[kind] - {"config", "init_args"} if key in entry}
    if "class_path" not in found:
        raise XrayError(f"{where} has neither a config nor a class_path.")
    return found


def _settings(entry: Mapping[str, Any], over: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"class_path": entry["class_path"], "init_args": {**entry["init_args"], **(over or {})}}


def _check_data(content: Any, where: str) -> None:
    """Refuses settings of the data that change the pictures of a model's test."""
    if not isinstance(content, dict):
        raise XrayError(f"data of {where} is {content!r}; give settings by name, such as train_batch_size: 16.")
    other = sorted(set(map(str, content)) - _TRAINING_DATA)
    if other:
        raise XrayError(
            f"data of {where} sets {other[0]}, but all models of a grid are tested on the same pictures; a model may "
            f"set {', '.join(sorted(_TRAINING_DATA))}."
        )
    for key, least in (("train_batch_size", 1), ("eval_batch_size", 1), ("num_workers", 0)):
        value = content.get(key, least)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise XrayError(f"{key} in data of {where} is {value!r}; give a whole number from {least}.")
    if not isinstance(content.get("pool") or {}, dict):
        raise XrayError(f"pool in data of {where} is {content['pool']!r}; give size: and anomaly_rate:, or null.")


def _check_reserve(data: Mapping[str, Any], model: Mapping[str, Any], where: str) -> None:
    """Refuses a pool that reserves other patients than the data set's does."""
    if "pool" not in model.get("data", {}):
        return
    own, common = ((pool or {}).get("reserve", 0) for pool in (model["data"]["pool"], data["init_args"].get("pool")))
    if own != common:
        raise XrayError(
            f"The pool of {where} reserves {own} of the abnormal patients, that of its data set {common}, so that "
            "their tests would differ; give both the same reserve."
        )
