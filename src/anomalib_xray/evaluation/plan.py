"""The grid of a benchmark: which models meet which data, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from anomalib_xray.errors import XrayError

SHORTCUTS = "Shortcuts"
"""Name of the row whose scores are numbers that need no model."""

RAW = "raw"
"""Name of the preparation that leaves pictures as they are."""

_KEYS = {"title", "data", "models", "preparations", "equalize", "seeds", "trainer", "baseline", "level", "selection"}
_ENTRY_KEYS = {"config", "class_path", "init_args", "trainer", "score", "selection"}


@dataclass(frozen=True)
class Cell:
    """One training with its test: a model on a data set, prepared in one way, with one seed.

    Attributes:
        model: Name of the model in the grid.
        data: Name of the data set in the grid.
        preparation: Name of the preparation.
        equalize: Whether the foreground's histogram is equalised.
        seed: Seed of the model.
        model_config: ``class_path`` and ``init_args``; nothing for the shortcuts.
        data_config: ``class_path`` and ``init_args``.
        trainer: Arguments of the trainer.
    """

    model: str
    data: str
    preparation: str
    equalize: bool
    seed: int
    model_config: dict[str, Any] = field(default_factory=dict)
    data_config: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Name of the cell's folder: readable, and another one where any setting is another."""
        settings = json.dumps(asdict(self), sort_keys=True, default=str)
        names = [self.data, self.preparation, *(["equalized"] if self.equalize else []), self.model, str(self.seed)]
        return re.sub(r"[^\w.-]+", "_", "-".join(names)) + "-" + hashlib.sha256(settings.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Grid:
    """All cells of a benchmark, and how they are compared.

    Attributes:
        title: Heading of the report.
        cells: The cells, in the order in which they run.
        preparations: Pipeline file of each preparation, nothing for :data:`RAW`.
        baseline: Model that the others are compared with.
        level: ``image``, ``study`` or ``patient``.
        scores: Score of each model that the tables show; the model's own choice where it names none.
        selection: Of each model, what its settings were chosen by: ``label-free`` or ``as published``.
    """

    title: str
    cells: list[Cell]
    preparations: dict[str, Path | None]
    baseline: str | None
    level: str
    scores: dict[str, str]
    selection: dict[str, str]


def read_grid(path: Path) -> Grid:
    """Reads a benchmark.

    Files that it names are relative to its own folder. Every entry of ``data`` and ``models`` has a ``config``, a file
    as the stock command takes it, or a ``class_path``; ``init_args`` change single settings.

    Args:
        path: The YAML file.

    Returns:
        The grid.

    Raises:
        XrayError: The file, or one that it names, cannot be read or says something else.
    """
    content = _read_yaml(path)
    _check_keys(content, _KEYS, str(path))
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
        cells.append(Cell(SHORTCUTS, data_name, preparation, False, 0, {}, _settings(data_entry)))
        for equalize, seed in product(content.get("equalize", [False]), content.get("seeds", [42])):
            for name, entry in models.items():
                trainer = {**content.get("trainer", {}), **entry.get("trainer", {})}
                settings = (_settings(entry), _settings(data_entry), trainer)
                cells.append(Cell(name, data_name, preparation, bool(equalize), int(seed), *settings))
    baseline = content.get("baseline")
    if baseline is not None and baseline not in models:
        raise XrayError(f"{path} compares with {baseline}, which is none of its models: {', '.join(models)}.")
    level = content.get("level", "image")
    if level not in ("image", "study", "patient"):
        raise XrayError(f"{path} evaluates by {level}; choose image, study or patient.")
    return Grid(
        title=str(content.get("title", path.stem)),
        cells=cells,
        preparations=preparations,
        baseline=baseline,
        level=level,
        scores={name: str(entry["score"]) for name, entry in models.items() if "score" in entry},
        selection={
            name: str(entry.get("selection", content.get("selection", "label-free"))) for name, entry in models.items()
        },
    )


def _entry(entry: Any, kind: str, path: Path, name: str) -> dict[str, Any]:  # noqa: ANN401  # what YAML may hold
    """One data set or model, with what its file says laid under what is said here."""
    where = f"{name} in {path}"
    if not isinstance(entry, dict):
        raise XrayError(f"{where} is no mapping; give it a config or a class_path.")
    _check_keys(entry, _ENTRY_KEYS, where)
    found: dict[str, Any] = {"init_args": {}}
    if "config" in entry:
        file = path.parent / str(entry["config"])
        content = _read_yaml(file)
        if not isinstance(content.get(kind), dict) or "class_path" not in content[kind]:
            raise XrayError(f"{file}, which {where} names, has no {kind} with a class_path.")
        found |= {"class_path": content[kind]["class_path"], "init_args": dict(content[kind].get("init_args") or {})}
    found["init_args"] |= entry.get("init_args") or {}
    found |= {key: entry[key] for key in ("class_path", "trainer", "score", "selection") if key in entry}
    if "class_path" not in found:
        raise XrayError(f"{where} has neither a config nor a class_path.")
    return found


def _settings(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"class_path": entry["class_path"], "init_args": dict(entry["init_args"])}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise XrayError(f"{path} cannot be read ({error.strerror}); name a file such as configs/cae.yaml.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise XrayError(f"{path} is no YAML file: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict):
        raise XrayError(f"{path} holds no settings.")
    return content


def _check_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(map(str, content)) - known)
    if unknown:
        raise XrayError(f"{where} has the unknown setting {unknown[0]}; there are {', '.join(sorted(known))}.")
