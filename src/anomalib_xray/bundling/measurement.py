"""Backends as tasks in fresh interpreters that take turns: what slows the machine down slows all of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from anomalib_xray.bundling.backends import Backend, serve
from anomalib_xray.io.progress import track
from anomalib_xray.jobs import Process, read_result, write_task

WARM_UP = 3
"""Rounds that are not counted."""


@dataclass
class Measured:
    """What came of a backend.

    Attributes:
        backend: The backend.
        start: Seconds from the start of the process to its first answer; ``None`` if it never gave one.
        seconds: Of each answer.
        memory: Largest resident memory of the process in bytes; ``None`` if unknown.
        problem: Why it was not measured; empty if it was.
    """

    backend: Backend
    start: float | None = None
    seconds: list[float] = field(default_factory=list)
    memory: int | None = None
    problem: str = ""


def measure(
    backends: Sequence[Backend], prepared: Sequence[Path], raw: Sequence[Path], runs: int, threads: int
) -> list[Measured]:
    """Starts one backend after the other and then lets them take turns, with this number of threads each.

    Args:
        backends: The rows.
        prepared: Pictures for the models.
        raw: Radiographs for the whole path.
        runs: Counted answers of each backend.
        threads: Number of CPU threads of each.

    Returns:
        What came of each, in order.
    """
    results = [Measured(backend, problem=backend.missing) for backend in backends]
    with TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        processes: list[tuple[Measured, Process, int]] = []
        for result in track(results, "Starting"):
            if not result.problem:
                pictures = raw if result.backend.takes_raw else prepared
                arguments = {"backend": asdict(result.backend), "threads": threads, "pictures": pictures}
                task = write_task(Path(name, str(len(processes))), serve, arguments)
                begin = perf_counter()
                process = stack.enter_context(Process(task))
                if _noted(result, process, process.answer()):
                    result.start = perf_counter() - begin
                processes.append((result, process, len(pictures)))
        for number in track(range(WARM_UP + runs), "Taking turns"):
            for result, process, count in processes:
                if not result.problem:
                    answer = _noted(result, process, process.ask(number % count))
                    if answer and number >= WARM_UP:
                        result.seconds.append(answer["seconds"])
    return results


def _noted(result: Measured, process: Process, answer: dict[str, Any] | None) -> dict[str, Any]:
    """Notes the memory of a backend, or why it gave no answer; returns the answer, empty if there is none."""
    if answer is not None:
        result.memory = answer["memory"]
        return answer
    process.wait()
    result.problem = (read_result(process.folder) or {"reason": "its process died"})["reason"]
    return {}
