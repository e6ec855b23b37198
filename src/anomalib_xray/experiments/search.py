"""A search for settings, read from a YAML file and checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError, refusal
from anomalib_xray.experiments.configuration import build, class_of
from anomalib_xray.experiments.objective import Objective, read_objective
from anomalib_xray.experiments.space import Range, Space, merged, read_space, with_values
from anomalib_xray.io.text import check_keys, read_yaml
from anomalib_xray.plugins import setting_names

_CHANGED = ("model", "data", "trainer")
_KEYS = {"base", "ranges", "objective", "seed", "pruning", *_CHANGED}


@dataclass(frozen=True)
class Pruning:
    """Rule to give a trial up: its measure is worse than the median of the others at the same epoch.

    The first finished trials and the first epochs do not count.
    """

    startup_trials: int = 5
    warmup_epochs: int = 0


@dataclass(frozen=True)
class Search:
    """A search, with the configuration for ``anomalib train`` into which proposals are filled."""

    config: dict[str, Any]
    space: Space
    objective: Objective
    seed: int = 42
    pruning: Pruning | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that decide the proposals and measures of a search, which its journal must match."""
        return asdict(self)


def read_search(path: Path) -> Search:
    """Reads a search.

    Files that it names are relative to its own folder. ``base`` names one or several configurations, each laid over
    the one before, and ``model``, ``data`` and ``trainer`` change them; ``ranges`` and ``objective`` are the searched
    settings and their measure.

    Raises:
        XrayError: The file, or one that it names, cannot be read or is malformed.
    """
    content = read_yaml(path, _KEYS)
    where = str(path)
    config = _configuration(content, path)
    space = read_space(content.get("ranges"), where)
    # Refuses a range that has no place.
    with_values(config, {item.name: item.values[0] for item in space.ranges})
    return Search(
        config=config,
        space=space,
        objective=read_objective(content.get("objective"), [item.name for item in space.ranges], where),
        seed=_whole(content.get("seed", 42), "seed", where),
        pruning=_pruning(content.get("pruning"), where),
    )


def _configuration(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The configurations of ``base``, laid over each other, with the changes."""
    base = content.get("base")
    files = [base] if isinstance(base, str) else base
    if not isinstance(files, list) or not files:
        raise XrayError(f"{path} names no base; give a configuration as anomalib train takes it, such as ../cae.yaml.")
    changes = {key: content[key] for key in _CHANGED if content.get(key) is not None}
    for key, value in changes.items():
        if not isinstance(value, dict):
            raise XrayError(f"{key} in {path} is {value!r}; give settings by name.")
    config: dict[str, Any] = reduce(_laid_over, [read_yaml(path.parent / str(file)) for file in files], {})
    config = merged(config, changes)
    for key in ("model", "data"):
        if not isinstance(config.get(key), dict) or "class_path" not in config[key]:
            raise XrayError(f"{path} and its base have no {key} with a class_path; name a configuration with one.")
    return config


def _laid_over(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration over another one; data with a class replace those before, as under the stock command."""
    names_data = isinstance(over.get("data"), dict) and "class_path" in over["data"]
    return merged({key: value for key, value in under.items() if key != "data" or not names_data}, over)


def _pruning(content: Any, where: str) -> Pruning | None:
    if content is None or content is False:
        return None
    if not isinstance(content, dict):
        raise XrayError(f"pruning in {where} is {content!r}; give startup_trials and warmup_epochs, or leave it out.")
    check_keys(content, {"startup_trials", "warmup_epochs"}, f"pruning in {where}")
    return Pruning(**{key: _whole(value, key, where) for key, value in content.items()})


def _whole(value: Any, key: str, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise XrayError(f"{key} in {where} is {value!r}; give a whole number from 0.")
    return value


def check_search(search: Search) -> None:
    """Checks the names and ends of all ranges, and builds the model once.

    Raises:
        XrayError: A class does not exist or does not take a setting, a setting does not take a value, or the model
            refuses its settings.
    """
    from anomalib.data import AnomalibDataModule
    from anomalib.models import AnomalibModule
    from jsonargparse import ArgumentParser
    from lightning.pytorch import Trainer

    import anomalib_xray.models  # noqa: F401  # makes the plugins known

    for item in search.space.ranges:
        _check_name(item, search.config)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibModule, "model")
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False)
    # Where the base lacks a setting, the first value of its range.
    filled = with_values(search.config, {item.name: item.values[0] for item in search.space.ranges})
    complete = merged(filled, search.config)
    for item in search.space.ranges:
        for value in item.values:
            config = with_values(complete, {item.name: value})
            trainer = {key: value for key, value in (config.get("trainer") or {}).items() if key != "logger"}
            try:
                parser.parse_object({"model": config["model"], "data": config["data"], "trainer": trainer})
            except Exception as error:  # jsonargparse has errors of several kinds
                reason = refusal(str(error), "setting")
                raise XrayError(f"With {item.name}: {value} the configuration is refused: {reason}.") from error
    try:
        build(AnomalibModule, complete["model"])
    except XrayError:
        raise
    except Exception as error:  # a constructor may fail in any way
        raise XrayError(f"The model cannot be built: {' '.join(str(error).split())}.") from error


def _check_name(item: Range, config: Mapping[str, Any]) -> None:
    """Refuses a setting that its class does not have; deeper names are left to the parser."""
    from lightning.pytorch import Trainer

    section, *rest = item.name.split(".")
    owner = Trainer if section == "trainer" else class_of(str(config[section]["class_path"]))
    name = rest[0] if section == "trainer" else rest[1]
    settings = setting_names(owner)
    if name not in settings:
        raise XrayError(f"The range {item.name} is no setting of {owner.__name__}; there are {', '.join(settings)}.")
