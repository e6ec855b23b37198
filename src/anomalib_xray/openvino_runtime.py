"""The one OpenVINO runtime of a process, and the reports of its converter, which are switched off."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any


@cache
def openvino_core() -> Any:
    """The process's ``openvino.Core``; OpenVINO is loaded at the first call.

    It is made once and kept. On processors with AMX each core gives the thread that makes it a stack for signals, and
    takes it away when it goes; of two cores that go in the order in which they came, the second leaves the thread with
    the stack of the first, which is no longer there. The next signal, such as that of an ended child where torch's data
    loader listens for it, would then end the process without a word.
    """
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

    return openvino.Core()


def silence_telemetry() -> None:
    """Keep OpenVINO's converter and NNCF from reporting each use to a server of their maker.

    They do so unless a file in the user's home forbids it, from a fork of the whole process.
    """
    with suppress(ImportError):  # OpenVINO works without the package that reports
        from openvino_telemetry.backend.backend_ga4 import GA4Backend  # type: ignore[import-untyped]

        GA4Backend.send = lambda *_: None
