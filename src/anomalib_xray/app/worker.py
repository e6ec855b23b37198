"""A process that works on one radiograph after another, and is ended when one takes too long.

It is the one child process beside those of :mod:`anomalib_xray.jobs`: a task there is written once and leaves its
result as a file, whereas this one loads the models once, takes bodies that must not touch the disk through a pipe, and
is replaced within a request. A fresh interpreter (``spawn``) too, since a fork would copy the locks of other threads.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

from anomalib_xray.app.guard import RequestError, report
from anomalib_xray.errors import XrayError

Jobs: TypeAlias = Mapping[str, Callable[[bytes], bytes]]
"""Jobs by name, each from a request's body to the answer's."""

_DONE, _REFUSED, _FAILED, _TOO_SLOW = 0, 422, 500, 504
_START_SECONDS = 600
"""Time limit for loading the models."""


class Worker:
    """The process, for one thread that asks.

    It calls ``begin`` first, a function that it can import, for the descriptions of the models as JSON values, which
    become ``facts``, and for the jobs. Each job has a time limit in seconds.
    """

    def __init__(self, begin: Callable[[], tuple[Any, Jobs]], *, seconds: float) -> None:
        self._begin = begin
        self._seconds = seconds
        self._is_closed = False
        self._start()
        try:
            self.facts = self._ready()
        except BaseException:
            self.close()
            raise

    def __call__(self, job: str, body: bytes) -> bytes:
        """Has a job done, by its name; the process is begun anew where that ends it.

        Raises:
            XrayError: The job refused the body, or the body ended the process.
            RequestError: The job took too long (504), failed inside, or cannot begin (500).
        """
        try:
            if self._starts:
                self._ready()
        except XrayError as error:
            self._restart()
            raise RequestError(_FAILED, str(error)) from error
        try:
            self._pipe.send((job, body))
            if not self._pipe.poll(self._seconds):
                self._restart()
                raise RequestError(_TOO_SLOW, f"The file took longer than {self._seconds:g} seconds: it is given up.")
            status, answer = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._restart()
            raise XrayError("The file ended what worked on it: it is damaged, or too large for the memory.") from error
        if status == _REFUSED:
            raise XrayError(answer)
        if status == _FAILED:
            raise RequestError(_FAILED, answer)
        return bytes(answer)

    @property
    def process_id(self) -> int:
        """Identifier of the process that works now."""
        return self._process.pid or 0

    def close(self) -> None:
        """Ends the process at once."""
        self._is_closed = True
        self._end()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_work, args=(far, self._begin), name="radiographs", daemon=True)
        self._process.start()
        far.close()  # so that the pipe ends when the process does
        self._starts = True

    def _end(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _restart(self) -> None:
        self._end()
        if not self._is_closed:
            self._start()

    def _ready(self) -> Any:
        """Waits until the process has begun; returns the descriptions of the models."""
        try:
            loaded = self._pipe.poll(_START_SECONDS)
            status, facts = self._pipe.recv() if loaded else (_FAILED, "The models take too long to load.")
        except (EOFError, OSError) as error:
            raise XrayError("The models ended the process that loads them: is there enough memory?") from error
        if status:
            raise XrayError(facts)
        self._starts = False
        return facts


def _work(pipe: Connection, begin: Callable[[], tuple[Any, Jobs]]) -> None:
    """The loop of the process: sends a status and the answer or error, first of its beginning, then of each job."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    try:
        facts, jobs = begin()
        pipe.send((_DONE, facts))
        while True:
            name, body = pipe.recv()
            pipe.send(_done(jobs[name], body))
    except XrayError as error:
        pipe.send((_FAILED, str(error)))
    except (EOFError, OSError):
        return  # the server has ended


def _done(job: Callable[[bytes], bytes], body: bytes) -> tuple[int, bytes | str]:
    try:
        return _DONE, job(body)
    except XrayError as error:
        return _REFUSED, str(error)
    except Exception as error:
        report(error)
        return _FAILED, "The viewer failed inside: try another file."
