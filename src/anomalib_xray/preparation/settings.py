"""The YAML file of a pipeline: read, checked key by key, and turned into steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

from anomalib_xray.errors import XrayError, refusal
from anomalib_xray.io.text import load_yaml
from anomalib_xray.preparation.step import Step

STEP_GROUP = "anomalib_xray.preparation_steps"
"""Entry-point group of preparation steps."""

_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class NamedStep:
    """A step with the name of its entry point, and all its settings as JSON values; paths are as they were written."""

    name: str
    settings: dict[str, Any]
    step: Step


def read_settings(path: Path) -> list[dict[str, dict[str, Any]]]:
    """Read a pipeline's YAML file: a name and unchecked settings per step.

    The file is a mapping with the key ``steps``, a list. An entry is a step's name, or a mapping of one name to the
    step's settings::

        steps:
          - inversion
          - resize: {longest_side: 512}

    Raises:
        XrayError: The file is missing, no YAML, or of another form.
    """
    content = load_yaml(path, advice="give a YAML file such as those of configs/preparation", max_bytes=_MAX_BYTES)
    if not isinstance(content, dict) or "steps" not in content:
        raise XrayError(f"{path} has no key 'steps'; list the preparation steps under it.")
    if unknown := sorted(str(key) for key in content if key != "steps"):
        raise XrayError(f"{path} has the unknown key {unknown[0]!r}; a pipeline has only the key 'steps'.")
    if not isinstance(content["steps"], list):
        raise XrayError(f"{path} has no list under 'steps'; write one step a line, as '- inversion'.")
    return [_entry(entry, f"{path}, step {number}") for number, entry in enumerate(content["steps"], 1)]


def build_steps(settings: Sequence[dict[str, dict[str, Any]]], folder: Path, name: str) -> list[NamedStep]:
    """Make the steps of a pipeline, from settings as of :func:`read_settings`.

    Relative paths in the settings start in ``folder``; ``name`` is the pipeline in messages, for example its file.

    Raises:
        XrayError: A step or a setting is unknown or has an impossible value; the message names it.
    """
    return [
        _build(step, arguments, folder, f"{name}, step {number} ({step})")
        for number, entry in enumerate(settings, 1)
        for step, arguments in entry.items()
    ]


@cache
def step_class(name: str) -> type[Step]:
    """Find an installed step by the name of its entry point.

    Raises:
        XrayError: No step has this name, or it cannot be imported.

    >>> step_class("resize").__name__
    'Resize'
    """
    found = {entry_point.name: entry_point for entry_point in entry_points(group=STEP_GROUP)}
    if name not in found:
        raise XrayError(f"there is no preparation step {name!r}; installed are {', '.join(sorted(found))}")
    try:
        loaded = found[name].load()
    except (Exception, SystemExit) as error:  # whatever a third party's import raises
        raise XrayError(f"the step cannot be imported from {found[name].value}: {error}") from error
    if not isinstance(loaded, type) or not issubclass(loaded, Step):
        raise XrayError(f"{found[name].value} is no subclass of anomalib_xray.preparation.step.Step")
    return loaded


def path_settings(step: type[Step]) -> set[str]:
    """Settings of a step that are paths, by the types of its constructor."""
    return {name for name, hint in get_type_hints(step.__init__).items() if "Path" in str(hint)}


def _entry(entry: object, where: str) -> dict[str, dict[str, Any]]:
    """One entry of the list as a mapping of the step's name to its settings."""
    if isinstance(entry, str):
        return {entry: {}}
    if not isinstance(entry, dict) or len(entry) != 1:
        raise XrayError(f"{where} is neither a step's name nor one name with its settings, but {entry!r}.")
    ((name, settings),) = entry.items()
    if settings is not None and not isinstance(settings, dict):
        raise XrayError(f"{where} ({name}) has the settings {settings!r}; write them as 'name: value' pairs.")
    return {str(name): dict(settings or {})}


def _build(name: str, settings: dict[str, Any], folder: Path, where: str) -> NamedStep:
    """Check a step's settings against its constructor and make the step."""
    from jsonargparse import ArgumentError, ArgumentParser

    try:
        cls = step_class(name)
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(cls, as_group=False)
        known = signature(cls).parameters
        if unknown := sorted(set(settings) - set(known)):
            raise XrayError(f"the setting {unknown[0]!r} is unknown; {name} has {', '.join(known) or 'no settings'}")
        try:
            values = parser.parse_object(settings).as_dict()
        except ArgumentError as error:
            raise XrayError(refusal(str(error), "setting")) from error
        step = cls(
            **{key: folder / value.expanduser() if isinstance(value, Path) else value for key, value in values.items()}
        )
    except XrayError as error:
        raise XrayError(f"{where}: {str(error).rstrip('.')}.") from error
    return NamedStep(name, {key: _plain(value) for key, value in values.items()}, step)


def _plain(value: Any) -> Any:
    """A setting as a JSON value."""
    if isinstance(value, Path):
        return value.as_posix()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value
