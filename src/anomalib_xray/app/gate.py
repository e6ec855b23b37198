"""A bounded queue for the viewer: one radiograph is worked on, some wait or arrive, the rest is sent away."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from anomalib_xray.app.guard import RequestError


@dataclass(frozen=True)
class Limits:
    """Limits of the server's load.

    Attributes:
        body: Largest file in bytes.
        capture: Largest picture in bytes that a secondary capture is made of; its source comes on top.
        bodies: Bytes of all files that are in memory at once.
        places: Requests that wait or are worked on at once.
        arrivals: Files that arrive at once; beyond that the slowest is given up.
        grace: Seconds that a file arrives before it may be found too slow.
        read_seconds: Time limit for receiving a file.
        wait_seconds: Time limit for waiting for one's turn.
    """

    body: int = 64_000_000
    capture: int = 48_000_000
    bodies: int = 256_000_000
    places: int = 16
    arrivals: int = 32
    grace: float = 2
    read_seconds: float = 60
    wait_seconds: float = 60


class Gate:
    """A bounded queue in front of one thread.

    Bodies that arrive do not take the places of those that wait, so a slow sender blocks no other. Where too many
    arrive at once, a newcomer takes the place of the slowest.
    """

    def __init__(self, limits: Limits) -> None:
        self.pool = ThreadPoolExecutor(1, thread_name_prefix="radiograph")
        self.limits = limits
        self._places = limits.places
        self._budget = limits.bodies
        self._arriving: set[Place] = set()

    def let_in(self, place: Place) -> None:
        """Lets a body arrive, in the place of the slowest if there are too many; refuses (503) if none is slow."""
        if len(self._arriving) >= self.limits.arrivals:
            self._give_up_slowest()
        self._arriving.add(place)

    def hold(self, place: Place, size: int) -> None:
        """Makes room for a piece of a body, if need be that of the slowest other; refuses (503) where none is slow."""
        while size > self._budget:
            self._give_up_slowest(but=place)
        self._budget -= size
        place.held += size

    def queue(self, place: Place) -> None:
        """Lets a body that has arrived wait for its turn; refuses it (503) where too many wait already."""
        self._arriving.discard(place)
        if self._places < 1:
            raise busy()
        self._places -= 1
        place.is_queued = True

    def release(self, place: Place) -> None:
        """Gives the room of a body back, and its place if it waited or was worked on."""
        self._arriving.discard(place)
        self._budget += place.held
        self._places += place.is_queued
        place.held, place.is_queued = 0, False

    def _give_up_slowest(self, but: Place | None = None) -> None:
        """Takes the room of the body that arrives the slowest; refuses (503) where none is slow."""
        now = time.monotonic()
        slow = [place for place in self._arriving if place is not but and now - place.since >= self.limits.grace]
        if not slow:
            raise busy()
        slowest = min(slow, key=lambda place: place.held / max(now - place.since, 1e-9))
        slowest.give_up()
        self.release(slowest)


class Place:
    """One request's place, from before its body is read until its answer is ready; entered with ``async with``.

    Attributes:
        since: Beginning of the body's arrival, as of :func:`time.monotonic`.
        held: Bytes of its body.
        is_queued: Whether it waits or is worked on.
    """

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._limit = asyncio.timeout(gate.limits.read_seconds)
        self.since = time.monotonic()
        self.held = 0
        self.is_queued = False

    async def __aenter__(self) -> Place:
        self._gate.let_in(self)
        await self._limit.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gate.release(self)
        try:
            await self._limit.__aexit__(kind, error, trace)
        except TimeoutError as late:
            raise RequestError(408, "The file arrived too slowly: send it again.") from late

    def hold(self, size: int) -> None:
        """Makes room for a piece of the body, as :meth:`Gate.hold`."""
        self._gate.hold(self, size)

    def give_up(self) -> None:
        """Ends the wait for the rest of the body."""
        if not self._limit.expired():
            self._limit.reschedule(0)

    async def run(self, job: Callable[[], bytes], gone: Callable[[], Coroutine[Any, Any, None]]) -> bytes:
        """Waits for its turn, then has a job done, which must end by itself.

        Where ``gone`` ends first, the browser has left, and the job is not begun.

        Raises:
            RequestError: Too many wait, or others took too long (503).
        """
        self._gate.queue(self)
        if not self._limit.expired():
            self._limit.reschedule(None)  # the body is here
        queued = self._gate.pool.submit(job)
        answer = asyncio.wrap_future(queued)
        answer.add_done_callback(_noticed)
        leaving: asyncio.Future[Any] = asyncio.ensure_future(gone())
        ends: tuple[asyncio.Future[Any], ...] = (answer, leaving)
        try:
            await asyncio.wait(ends, timeout=self._gate.limits.wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            waited_in_vain = queued.cancel()  # which is refused once it has begun
        if waited_in_vain:
            raise busy()
        return await answer


def _noticed(answer: asyncio.Future[bytes]) -> None:
    """Takes notice of an error, which asyncio prints otherwise if the request has ended before."""
    if not answer.cancelled():
        answer.exception()


def busy() -> RequestError:
    """The answer to a request without a place."""
    return RequestError(503, "The viewer is busy with other radiographs: try again in a moment.")
