"""Pipelines: steps in a row, as a YAML file lists them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.read import Radiograph
from anomalib_xray.preparation.history import Action, History, flags_of, settled
from anomalib_xray.preparation.settings import NamedStep, build_steps, read_settings
from anomalib_xray.preparation.step import Matrix, Place, Plan


@dataclass(frozen=True)
class Prepared:
    """A prepared picture with its history.

    Attributes:
        image: (H, W), of the depth of the original.
        history: An action for each step.
        matrix: (3, 3), leads from the original's pixel coordinates (x, y, 1) to those of ``image``.
    """

    image: Radiograph
    history: History
    matrix: Matrix

    @property
    def flags(self) -> list[str]:
        """The flags of all steps, each once."""
        return flags_of(self.history)


class Pipeline:
    """Preparation steps in a row.

    Args:
        steps: Settings of the steps, as of :func:`anomalib_xray.preparation.settings.read_settings`.
        folder: Folder in which relative paths in the settings start; the current folder by default.
        name: Name of the pipeline in messages, for example its file.

    Raises:
        XrayError: A step or a setting is unknown or has an impossible value; the message names it.

    Example:
        >>> pipeline = Pipeline([{"resize": {"longest_side": 4}}])
        >>> (prepared,) = pipeline.prepare(np.full((8, 6), 200, np.uint8))
        >>> prepared.image.shape
        (4, 3)
    """

    def __init__(
        self, steps: Sequence[dict[str, dict[str, Any]]], folder: Path = Path(), name: str = "the pipeline"
    ) -> None:
        self.settings = list(steps)
        self.folder = folder
        self.steps: list[NamedStep] = build_steps(steps, folder, name)

    @classmethod
    def load(cls, path: str | Path) -> Pipeline:
        """Read a pipeline from a YAML file; relative paths in it start from its folder.

        Raises:
            XrayError: The file is missing or wrong; the message names the offending key.
        """
        path = Path(path)
        return cls(read_settings(path), path.parent, str(path))

    @property
    def failures(self) -> frozenset[str]:
        """Flags that say that a step failed."""
        return frozenset().union(*(named.step.failures for named in self.steps))

    def as_json(self) -> dict[str, Any]:
        """The pipeline as JSON values: every setting of its ``steps``, their ``folder``, and their ``fingerprints``."""
        return {
            "steps": [{named.name: named.settings} for named in self.steps],
            "folder": str(absolute(self.folder)),
            "fingerprints": self.fingerprints(""),
        }

    def fingerprints(self, name: str) -> list[str]:
        """A hash per step of everything beside the picture that its result depends on.

        That is its name, version, settings, and the files that these name for an original, by its path below its root.
        """
        return [
            _hash([named.name, named.step.version, named.settings, named.step.fingerprint(name)])
            for named in self.steps
        ]

    def prepare(self, image: Radiograph, name: str = "", known: Sequence[History] = ()) -> list[Prepared]:
        """Prepare a picture.

        Args:
            image: The original, (H, W), uint8 or uint16.
            name: Its path below its root, with forward slashes.
            known: Histories of the same original; plans of steps that are still the same are used again.

        Returns:
            The prepared pictures: one, or several if a step divides the picture; never none.

        Raises:
            XrayError: The picture cannot be prepared.
        """
        plans = _recorded_plans(known)
        states = [Prepared(image, (), np.eye(3))]
        for number, fingerprint in enumerate(self.fingerprints(name)):
            states = [
                after for before in states for after in self._advance(number, fingerprint, before, image, name, plans)
            ]
        return states

    def replay(self, image: Radiograph, history: History) -> Prepared:
        """Do to a picture (H, W) what was done to another of its size, without looking.

        Raises:
            XrayError: The history is of another pipeline.
        """
        *_, last = self.stages(image, history)
        return last

    def stages(self, image: Radiograph, history: History) -> Iterator[Prepared]:
        """Replay a history step by step: yields the original (H, W), then the picture after each step.

        Raises:
            XrayError: The history is of another pipeline.
        """
        if [action.step for action in history] != [named.name for named in self.steps]:
            raise XrayError("What was recorded belongs to another pipeline; prepare the picture again.")
        state = Prepared(image, (), np.eye(3))
        yield state
        for number, action in enumerate(history):
            state = self._apply(number, action, state)
            yield state

    def _advance(
        self,
        number: int,
        fingerprint: str,
        before: Prepared,
        original: Radiograph,
        name: str,
        plans: dict[tuple[object, ...], Plan],
    ) -> Iterator[Prepared]:
        """Plan and apply one step."""
        named = self.steps[number]
        plan = plans.get(_place_in_history(before.history, fingerprint))
        if plan is None:
            place = Place(name, (original.shape[0], original.shape[1]), before.matrix)
            plan = settled(named.step.plan_at(before.image, place))
        for part in range(len(named.step.parts(plan)) if plan.parameters else 1):
            yield self._apply(number, Action(named.name, fingerprint, plan, part), before)

    def _apply(self, number: int, action: Action, before: Prepared) -> Prepared:
        """Do one step as planned."""
        history = (*before.history, action)
        if not action.plan.parameters:
            return Prepared(before.image, history, before.matrix)
        step = self.steps[number].step
        plan = step.parts(action.plan)[action.part]
        return Prepared(step.apply(before.image, plan), history, step.matrix(plan) @ before.matrix)


def _recorded_plans(histories: Sequence[History]) -> dict[tuple[object, ...], Plan]:
    """The plans of earlier runs, by the step that made them and everything that was done before it."""
    plans = {}
    for history in histories:
        for number, action in enumerate(history):
            plans[_place_in_history(history[:number], action.fingerprint)] = action.plan
    return plans


def _place_in_history(before: History, fingerprint: str) -> tuple[object, ...]:
    return (*((action.fingerprint, action.part) for action in before), fingerprint)


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
