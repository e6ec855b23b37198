"""The error that a user caused and can mend."""

from __future__ import annotations

import re
import sys
import traceback
from pathlib import Path
from types import TracebackType


class XrayError(Exception):
    """Input that cannot be used.

    The message is one sentence that names the file or value and says what to do about it; commands print it instead
    of a traceback.
    """


def refusal(message: str, kind: str) -> str:
    """Says in a few words what jsonargparse says in several lines.

    Args:
        message: Of its error.
        kind: What the values are called, for example ``setting``.

    Returns:
        A sentence without its full stop.
    """
    if missing := re.search(r"Option '(\w+)' is required", message):
        return f"The {kind} {missing[1]} is missing"
    if refused := re.search(r'[Kk]ey "([\w.]+)":.*(?:Given|Got) value: (.*)', message, re.DOTALL):
        return f"{refused[2].strip()!r} is no value for the {kind} {refused[1]}"
    return " ".join(message.split()).rstrip(".")


def runs_anomalib() -> bool:
    """Whether the running program is the stock ``anomalib`` command."""
    return Path(sys.argv[0]).stem == "anomalib"


def print_plainly_under_anomalib() -> None:
    """Lets the stock ``anomalib`` command end at an :class:`XrayError` with its sentence and status 2, no traceback.

    anomalib's command has no hook for errors of plugins, so the interpreter's own is used, and only when the running
    program is that command: a library must not change how another program reports its exceptions.
    """
    if not runs_anomalib() or getattr(sys.excepthook, "prints_xray_errors", False):
        return
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        cause = user_error_behind(error, trace)
        if cause is None:
            previous(kind, error, trace)
            return
        # A worker process wraps the error in its traceback; the sentence is what follows the error's name.
        print(f"error: {str(cause).rpartition('XrayError: ')[2].strip()}", file=sys.stderr)
        # The interpreter would end with 1; what a hook raises to end it decides.
        raise SystemExit(2)

    excepthook.prints_xray_errors = True  # type: ignore[attr-defined]  # functions take attributes; mypy does not model it
    sys.excepthook = excepthook


def user_error_behind(error: BaseException, trace: TracebackType | None) -> XrayError | None:
    """The user's error behind another one, if there is one.

    jsonargparse builds a model to see whether its settings fit a union of types, keeps what each type's attempt raised
    in a list, and raises an error of its own that does not name them as causes; they are found in its frame.

    Args:
        error: What was raised.
        trace: Its traceback.
    """
    if isinstance(error, XrayError):
        return error
    for frame, _ in traceback.walk_tb(trace):
        for value in frame.f_locals.values():
            for item in value if isinstance(value, list) else ():
                if isinstance(item, XrayError):
                    return item
    return None
