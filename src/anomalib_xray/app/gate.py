"""How much the viewer does at once: a few radiographs are worked on, some wait, the rest is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from anomalib_xray.app.refusal import RequestError


class Gate:
    """A bounded queue in front of a few threads.

    The threads are our own, because a limiter that gives its token back when the time is up would let the next
    radiograph in beside the one that is still being worked on.

    Args:
        workers: Radiographs worked on at once.
        places: Requests that are let in at once: those that are read, wait or are worked on.
        seconds: Time limit of a radiograph, waiting included.
        budget: Bytes that all bodies together may hold.
    """

    def __init__(self, *, workers: int, places: int, seconds: float, budget: int) -> None:
        self.seconds = seconds
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="radiograph")
        self._free = places
        self._budget = budget

    def place(self) -> Place:
        """A place in the queue; enter it with ``with``."""
        return Place(self)

    def take(self) -> None:
        """Takes a place.

        Raises:
            RequestError: All are taken (503).
        """
        if self._free < 1:
            raise _busy()
        self._free -= 1

    def hold(self, size: int) -> None:
        """Makes room for a piece of a body.

        Args:
            size: In bytes.

        Raises:
            RequestError: The bodies that are held already leave no room (503).
        """
        if size > self._budget:
            raise _busy()
        self._budget -= size

    def give_back(self, size: int) -> None:
        """Gives a place and the room of its body back."""
        self._free += 1
        self._budget += size

    def submit(self, job: Callable[[], bytes]) -> Future[bytes]:
        """Queues a job."""
        return self._pool.submit(job)


class Place:
    """One request's place, from before its body is read until its thread has ended.

    A radiograph that exceeds the time limit keeps its place until its thread is done: threads cannot be stopped.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._held = 0
        self._job: Future[bytes] | None = None

    def __enter__(self) -> Place:
        self._gate.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._job is None or self._job.done():
            self._gate.give_back(self._held)
            return
        loop = asyncio.get_running_loop()
        gate, held = self._gate, self._held

        def ended(_: Future[bytes]) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(gate.give_back, held)

        self._job.add_done_callback(ended)

    def hold(self, size: int) -> None:
        """Makes room for a piece of the body, as :meth:`Gate.hold`."""
        self._gate.hold(size)
        self._held += size

    async def run(self, job: Callable[[], bytes]) -> bytes:
        """Runs a job in one of the threads.

        Args:
            job: What to do.

        Returns:
            What it returned.

        Raises:
            RequestError: It took too long (504).
        """
        self._job = self._gate.submit(job)
        try:
            async with asyncio.timeout(self._gate.seconds):
                return await asyncio.wrap_future(self._job)
        except TimeoutError as error:
            raise RequestError(
                504, f"The radiograph took longer than {self._gate.seconds:g} seconds: try again."
            ) from error


def _busy() -> RequestError:
    return RequestError(503, "The viewer is busy with other radiographs: try again in a moment.")
