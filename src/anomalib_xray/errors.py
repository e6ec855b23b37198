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
    """A message of jsonargparse as a sentence without its full stop; values are called ``kind``.

    >>> refusal("Option 'width' is required but not provided.", "setting")
    'The setting width is missing'
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

    anomalib's command has no hook for errors of plugins, so the interpreter's own is used; other programs keep it.
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
        # The interpreter would end with 1.
        raise SystemExit(2)

    excepthook.prints_xray_errors = True  # type: ignore[attr-defined]  # functions take attributes; mypy does not model it
    sys.excepthook = excepthook


def user_error_behind(error: BaseException, trace: TracebackType | None) -> XrayError | None:
    """The user's error behind another one, if there is one.

    jsonargparse tries each type of a union, keeps their errors in a list, and raises one of its own that does not name
    them as causes; they are found in the frames of its traceback.
    """
    if isinstance(error, XrayError):
        return error
    for frame, _ in traceback.walk_tb(trace):
        for value in frame.f_locals.values():
            for item in value if isinstance(value, list) else ():
                if isinstance(item, XrayError):
                    return item
    return None
