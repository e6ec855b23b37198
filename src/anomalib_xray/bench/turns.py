"""Backends in processes of their own that take turns: what slows the machine down slows all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from anomalib_xray.bench.backends import Backend
from anomalib_xray.io.progress import track

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


class Worker:
    """A process with one backend.

    Args:
        job: What :mod:`anomalib_xray.bench.worker` reads first.
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "anomalib_xray.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._first = json.dumps(job)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()

    def first_answer(self) -> dict[str, Any]:
        """Sends the job and waits until the backend has answered once."""
        return self.ask(self._first)

    def ask(self, line: str) -> dict[str, Any]:
        """Sends a line and waits for what comes back; an ``error`` if the process has died."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            return {"error": "its process died"}
        return answer


def measure(
    backends: Sequence[Backend], prepared: Sequence[Path], raw: Sequence[Path], runs: int, threads: int
) -> list[Measured]:
    """Starts one backend after the other and then lets them take turns.

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
    with ExitStack() as stack:
        workers: list[tuple[Measured, Worker, int]] = []
        for result in track(results, "Starting"):
            if not result.problem:
                pictures = raw if result.backend.takes_raw else prepared
                job = {"backend": asdict(result.backend), "threads": threads, "pictures": list(map(str, pictures))}
                begin = perf_counter()
                worker = stack.enter_context(Worker(job))
                _started(result, worker.first_answer(), perf_counter() - begin)
                workers.append((result, worker, len(pictures)))
        for number in track(range(WARM_UP + runs), "Taking turns"):
            for result, worker, count in workers:
                if not result.problem:
                    _answered(result, worker.ask(str(number % count)), is_counted=number >= WARM_UP)
    return results


def _started(result: Measured, answer: dict[str, Any], seconds: float) -> None:
    result.problem = answer.get("error", "")
    if not result.problem:
        result.start, result.memory = seconds, answer["memory"]


def _answered(result: Measured, answer: dict[str, Any], *, is_counted: bool) -> None:
    result.problem = answer.get("error", "")
    if not result.problem:
        result.memory = answer["memory"]
        if is_counted:
            result.seconds.append(answer["seconds"])
