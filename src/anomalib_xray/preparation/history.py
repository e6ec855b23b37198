"""The actions of the steps on a picture, as they are recorded and replayed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.step import Plan

_MASK = "$mask"


@dataclass(frozen=True)
class Action:
    """The action of one step on a picture.

    Attributes:
        step: The step's name.
        fingerprint: Hash of the step and its settings; plans of another fingerprint are made anew.
        plan: The plan.
        part: The part of the plan that this picture is, counted from 0.
    """

    step: str
    fingerprint: str
    plan: Plan
    part: int = 0


History: TypeAlias = tuple[Action, ...]
"""One action per step of the pipeline, in order."""


def flags_of(history: History) -> list[str]:
    """All flags of a history, each once, in order."""
    return list(dict.fromkeys(flag for action in history for flag in action.plan.flags))


def settled(plan: Plan) -> Plan:
    """The plan as it comes back from a record, so that a first run and a replay apply exactly the same."""
    return Plan(_walked(plan.parameters, _checked), plan.flags)


def encode_history(history: History) -> list[dict[str, Any]]:
    """Turn a history into JSON values; masks become PNG files in base 64."""
    return [
        {
            "step": action.step,
            "fingerprint": action.fingerprint,
            "part": action.part,
            "flags": list(action.plan.flags),
            "parameters": _walked(action.plan.parameters, _encoded),
        }
        for action in history
    ]


def decode_history(entries: list[dict[str, Any]]) -> History:
    """Read the output of :func:`encode_history`.

    Raises:
        KeyError, TypeError, ValueError: The entries are not a history.
        XrayError: A mask is damaged.
    """
    return tuple(
        Action(
            entry["step"],
            entry["fingerprint"],
            Plan(_walked(entry["parameters"], _decoded), tuple(entry["flags"])),
            int(entry["part"]),
        )
        for entry in entries
    )


def summarised(history: History) -> dict[str, Any]:
    """The parameters of each step that did something, for people to read: a mask is only its share of the picture."""
    return {
        action.step: ({"part": action.part + 1} if action.part else {}) | _walked(action.plan.parameters, _readable)
        for action in history
        if action.plan.parameters
    }


def _walked(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """A value with its leaves, recorded masks among them, replaced by the results of ``leaf``."""
    if isinstance(value, Mapping) and _MASK not in value:
        return {str(key): _walked(item, leaf) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_walked(item, leaf) for item in value]
    return leaf(value)


def _checked(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.bool_ and value.ndim == 2:
        return value
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a plan holds JSON values and boolean masks, not {type(value).__name__}")


def _encoded(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    # One bit per pixel: a hand of 512 x 400 pixels takes about 2 KB.
    _, content = cv2.imencode(".png", value.astype(np.uint8) * np.uint8(255), [cv2.IMWRITE_PNG_BILEVEL, 1])
    return {_MASK: base64.b64encode(content.tobytes()).decode("ascii")}


def _decoded(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    mask = cv2.imdecode(np.frombuffer(base64.b64decode(value[_MASK]), np.uint8), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise XrayError("A recorded mask is damaged; prepare the picture again.")
    return np.asarray(mask > 0)


def _readable(value: Any) -> Any:
    return f"mask of {value.mean():.1%}" if isinstance(value, np.ndarray) else value
