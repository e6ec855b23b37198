"""Ranges of settings, and their places in a configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

Kind = Literal["log_uniform", "uniform", "int", "choice"]

SECTIONS = ("model.init_args.", "data.init_args.", "trainer.")
"""Prefixes of settings that can be searched."""

_NUMBERS = {"log_uniform": "numbers above 0", "uniform": "numbers", "int": "whole numbers"}


@dataclass(frozen=True)
class Range:
    """Values that a setting may take.

    >>> print(Range("trainer.max_epochs", "int", (1, 9)))
    trainer.max_epochs: int [1, 9]

    Attributes:
        name: Dotted name in the configuration, such as ``model.init_args.learning_rate``.
        kind: ``log_uniform``, ``uniform`` or ``int`` between two numbers, both included, or ``choice`` of a list.
        values: The two ends, or the list.
    """

    name: str
    kind: Kind
    values: tuple[Any, ...]

    def suggest(self, trial: BaseTrial) -> Any:
        """A value that Optuna proposes for a trial."""
        if self.kind == "choice":
            # As text, because a choice may be a list, which Optuna refuses.
            return json.loads(str(trial.suggest_categorical(self.name, [json.dumps(value) for value in self.values])))
        low, high = self.values
        if self.kind == "int":
            return trial.suggest_int(self.name, low, high)
        return trial.suggest_float(self.name, low, high, log=self.kind == "log_uniform")

    def decode(self, stored: Any) -> Any:
        """The value of a trial from its stored form."""
        return json.loads(stored) if self.kind == "choice" else stored

    def __str__(self) -> str:
        listed = ", ".join(str(value) for value in self.values)
        return f"{self.name}: {self.kind} [{listed}]"


@dataclass(frozen=True)
class Space:
    """All ranges of a search, in the order in which values are proposed."""

    ranges: tuple[Range, ...]

    def suggest(self, trial: BaseTrial) -> dict[str, Any]:
        """Values by name that Optuna proposes for a trial."""
        return {item.name: item.suggest(trial) for item in self.ranges}

    def decode(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Values by name from the stored values of a trial, which may lack some."""
        return {item.name: item.decode(stored[item.name]) for item in self.ranges if item.name in stored}


def read_space(content: Any, where: str) -> Space:
    """Reads ranges: a mapping of a dotted name to a mapping of one kind to its values.

    >>> read_space({"trainer.max_epochs": {"int": [1, 9]}}, "search.yaml").ranges[0].values
    (1, 9)
    """
    if not isinstance(content, dict) or not content:
        raise XrayError(
            f"{where} has no ranges; name settings to search, such as "
            "model.init_args.learning_rate: {log_uniform: [1.0e-5, 1.0e-3]}."
        )
    return Space(tuple(_read_range(str(name), value, where) for name, value in content.items()))


def _read_range(name: str, content: Any, where: str) -> Range:
    kinds = get_args(Kind)
    if not name.startswith(SECTIONS):
        raise XrayError(
            f"The range {name} in {where} is in no searchable section; names begin with {', '.join(SECTIONS)}."
        )
    if not isinstance(content, dict) or len(content) != 1 or next(iter(content)) not in kinds:
        raise XrayError(f"The range {name} in {where} is {content!r}; give one of {', '.join(kinds)} with a list.")
    ((kind, values),) = content.items()
    if not isinstance(values, list) or not values or (kind != "choice" and len(values) != 2):
        needed = "a list of values" if kind == "choice" else "a list of two numbers"
        raise XrayError(f"The range {name} in {where} has the {kind} {values!r}; it takes {needed}.")
    if kind != "choice":
        values = _ends(cast("Kind", kind), values, f"The range {name} in {where}")
    return Range(name, cast("Kind", kind), tuple(values))


def _ends(kind: Kind, values: Sequence[Any], what: str) -> list[float]:
    """The two ends as numbers: YAML reads 1e-5 without a point as text."""
    number = int if kind == "int" else float
    try:
        low, high = (number(value) for value in values)
    except (TypeError, ValueError) as error:
        raise XrayError(f"{what} has the ends {values!r}; they are two {_NUMBERS[kind]}.") from error
    whole = kind != "int" or all(float(value) == number(value) for value in values)
    if not low < high or not whole or (kind == "log_uniform" and low <= 0):
        raise XrayError(f"{what} has the ends {values!r}; they are two {_NUMBERS[kind]}, the smaller one first.")
    return [low, high]


def with_values(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with some settings changed, given by dotted name.

    >>> with_values({"trainer": {"devices": 1}}, {"trainer.max_epochs": 3})
    {'trainer': {'devices': 1, 'max_epochs': 3}}
    """
    changed = deepcopy(dict(config))
    for name, value in values.items():
        *parents, last = name.split(".")
        place = changed
        for depth, parent in enumerate(parents, start=1):
            if parent in ("init_args", "trainer") and place.get(parent) is None:
                place[parent] = {}
            if not isinstance(place.get(parent), dict):
                missing = ".".join(parents[:depth])
                raise XrayError(f"The range {name} has no place: the configuration has no settings under {missing}.")
            place = place[parent]
        place[last] = value
    return changed


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lays settings over others, as several ``--config`` of the stock command.

    Another ``class_path`` brings its own ``init_args``.

    >>> merged({"trainer": {"devices": 1, "max_epochs": 9}}, {"trainer": {"max_epochs": 3}})
    {'trainer': {'devices': 1, 'max_epochs': 3}}
    """
    if "class_path" in over and over["class_path"] != under.get("class_path"):
        return deepcopy(dict(over))
    result = deepcopy(dict(under))
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else deepcopy(value)
    return result
