"""Work that runs elsewhere: tasks in fresh interpreters, and calls in several processes or on a cluster.

A task is a folder. ``task.json`` names a function and its arguments; a fresh interpreter, whose memory and whose
failures are its own, calls it and leaves ``result.json``, and in ``log.txt`` what was printed. joblib is the only seam
to several processes here, a Dask cluster, or Ray.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal, TextIO, TypeAlias, TypeVar

from anomalib_xray.clusters import dask_cluster, ray_cluster
from anomalib_xray.devices import Device, lend
from anomalib_xray.errors import XrayError
from anomalib_xray.io.text import read_json, write_json

TASK, RESULT, LOG = "task.json", "result.json", "log.txt"

SCRATCH = "run"
"""Folder in that of a task which is removed when the task ends, since checkpoints of many would fill a disk."""

Backend: TypeAlias = Literal["loky", "ray"]
Input = TypeVar("Input")
Output = TypeVar("Output")

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
_terminated = Event()  # in the process of a task that got SIGTERM
_RAY_CHUNK = 64  # calls that are given to Ray together, since it returns their results all at once


@dataclass(frozen=True)
class Task:
    """A task for its function: its folder, its arguments, and the stream of its answers, if any."""

    folder: Path
    arguments: dict[str, Any]
    answers: TextIO | None = None

    def answer(self, content: Any) -> None:
        """Sends content to :meth:`Process.answer`."""
        if self.answers is not None:
            print(json.dumps(content), file=self.answers, flush=True)

    def orders(self) -> Iterator[Any]:
        """Receives the orders of :meth:`Process.ask`."""
        yield from map(json.loads, sys.stdin)


def write_task(
    folder: Path, function: Callable[[Task], Mapping[str, Any] | None], arguments: Mapping[str, Any]
) -> Path:
    """Writes a task in place of an earlier one and its result, and returns its folder.

    Args:
        folder: Its folder, which is made.
        function: Function of a module, whose returned mapping becomes the result.
        arguments: Values that JSON takes.

    Raises:
        XrayError: The folder cannot be written.
    """
    (folder / RESULT).unlink(missing_ok=True)
    shutil.rmtree(folder / SCRATCH, ignore_errors=True)
    content = {"function": f"{function.__module__}:{function.__qualname__}", "arguments": dict(arguments)}
    write_json(folder / TASK, content, default=str)
    return folder


def read_result(folder: Path) -> dict[str, Any] | None:
    """Reads the result of a task, ``None`` if it has none yet.

    It is the mapping that its function returned, with ``status`` (``done`` or ``failed``), the ``reason`` of a failure
    and ``peak_memory_gib`` of its process.

    Raises:
        XrayError: The file cannot be read.
    """
    path = folder / RESULT
    return dict(read_json(path)) if path.is_file() else None


def perform(folder: Path, answers: TextIO | None = None) -> bool:
    """Performs a task in this process, writes its result, and returns whether it was done."""
    task = read_json(folder / TASK)
    try:
        module, _, name = task["function"].partition(":")
        returned = getattr(import_module(module), name)(Task(folder, task["arguments"], answers))
        result = {"status": "done", **(returned or {})}
    except Exception as error:  # any task may fail in any way, and the others go on
        if _terminated.is_set():  # it may be due to the end of a data loader's process
            raise
        reason = str(error) if isinstance(error, XrayError) else f"{type(error).__name__}: {error}"
        result = {"status": "failed", "reason": " ".join(reason.split())}
    with suppress(ImportError):  # on Windows
        import resource

        # Kibibytes on Linux.
        result["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    write_json(folder / RESULT, result)
    return bool(result["status"] == "done")


class Process:
    """A fresh interpreter with a task, of so many threads; it ends with the ``with`` block at the latest.

    With ``devices`` it waits for one that no other task has, and sees no other GPU.
    """

    def __init__(self, folder: Path, threads: int | None = None, devices: Sequence[Device] = ()) -> None:
        self.folder = folder
        limit = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
        self._loan = lend(devices)
        try:
            with (folder / LOG).open("w", encoding="utf-8") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "anomalib_xray.jobs", str(folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env={**os.environ, "PYTHONWARNINGS": "ignore", **limit, **self._loan.environment},
                    pass_fds=self._loan.descriptors if os.name == "posix" else (),
                    text=True,
                )
        except BaseException:
            self._loan.close()
            raise

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends the process and removes its scratch folder."""
        self._process.kill()
        self._process.communicate()
        self._loan.close()
        shutil.rmtree(self.folder / SCRATCH, ignore_errors=True)

    def ask(self, order: Any) -> Any | None:
        """Sends an order and waits for an answer."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Any | None:
        """Waits for an answer; ``None`` if the process ends without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return json.loads(line) if line.endswith("\n") else None

    def wait(self) -> int:
        """Waits for the end of the process; its exit status."""
        return self._process.wait()

    def result(self) -> dict[str, Any]:
        """Waits for the end and returns the result; a process that left none has failed.

        Raises:
            KeyboardInterrupt: The process was terminated, as all of a job are; the task is to run again.
        """
        status = self.wait()
        if not (self.folder / RESULT).is_file():
            if status == -signal.SIGTERM:
                raise KeyboardInterrupt
            reason = f"the process ended with status {status}; see {self.folder / LOG}"
            write_json(self.folder / RESULT, {"status": "failed", "reason": reason})
        return read_result(self.folder) or {}


def run_task(folder: Path, threads: int | None = None, devices: Sequence[Device] = ()) -> dict[str, Any]:
    """Runs a task in a fresh interpreter and returns its result, see :class:`Process` and :func:`read_result`."""
    with Process(folder, threads, devices) as process:
        return process.result()


def main(folder: str) -> int:
    """Performs a task in this interpreter, which was started for it; the exit status is 1 if it failed."""
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    leave_interrupts_to_parent()
    # Lightning, which adds a handler of its own, ends a training after the batch.
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())
    # Output of libraries belongs into the log and not between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        try:
            return 0 if perform(Path(folder), answers) else 1
        except BaseException:
            if not _terminated.is_set():
                raise
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.raise_signal(signal.SIGTERM)
    return 1


def _end_with(parent: int) -> None:
    """Ends this process when its parent was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class WorkerDiedError(XrayError):
    """A worker process ended in the middle of its work, as after a crash in a decoder or for lack of memory."""


def results(
    function: Callable[[Input], Output],
    inputs: Sequence[Input],
    *,
    workers: int,
    backend: Backend = "loky",
    scheduler: str | None = None,
    shared: Path = Path(),
) -> Iterator[Output]:
    """Calls a function for each input and yields what it returns, in the order in which the calls end.

    Args:
        function: A function that worker processes can import.
        inputs: Its arguments, one per call.
        workers: Number of processes on this machine; 1 works in this process. A Dask cluster has its own.
        backend: ``loky`` for processes, ``ray`` for Ray.
        scheduler: Address of the scheduler of a Dask cluster, which is then used instead.
        shared: A folder that the workers of a cluster must see under the same path.

    Raises:
        WorkerDiedError: A worker process died.
        XrayError: A package is missing, or the cluster cannot be used.

    >>> list(results(abs, [-2, 1], workers=1))
    [2, 1]
    """
    from joblib import Parallel, delayed, parallel_config

    try:
        if scheduler is not None:
            with dask_cluster(scheduler, shared):
                yield from Parallel(return_as="generator_unordered")(delayed(function)(one) for one in inputs)
        elif backend == "ray":
            with ray_cluster():
                for start in range(0, len(inputs), _RAY_CHUNK * workers):
                    chunk = inputs[start : start + _RAY_CHUNK * workers]
                    yield from Parallel(n_jobs=workers)(delayed(function)(one) for one in chunk)
        else:
            with parallel_config(backend="loky", initializer=leave_interrupts_to_parent):
                in_parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
                with _interrupts_wait():  # the processes start with the first call
                    returned = in_parallel(delayed(function)(one) for one in inputs)
                yield from returned
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "A worker process died, perhaps because memory ran out: run the same command again to go on where it"
            " stopped, with fewer --workers."
        ) from error


def leave_interrupts_to_parent() -> None:
    """Lets a worker process ignore Ctrl-C and SIGTERM, which all may get: its parent ends it, without a traceback."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Holds Ctrl-C and SIGTERM back in this thread and in the processes that it starts."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such masks
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
