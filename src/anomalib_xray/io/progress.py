"""Progress of a long job: a bar in a terminal, else at most a line per minute and one at the end.

Loops name their work with :func:`track`, steps that cannot be counted with :func:`status`. A command runs under
:func:`reported`, which writes the lines, also between items that take long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

SECONDS = 60.0
"""Seconds from one line to the next."""

Item = TypeVar("Item")


def track(items: Iterable[Item], what: str, total: int | None = None, *, done: int = 0) -> Iterator[Item]:
    """Hand items on and note how many are done.

    Args:
        items: The items.
        what: The work, the first word of each line.
        total: Number of all items, by default those in ``items``; unknown if they cannot be counted.
        done: Number of items that were done before.

    >>> [2 * number for number in track([1, 2], "doubling")]
    [2, 4]
    """
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    with _bar(what, total, done) if sys.stderr.isatty() else nullcontext(_Lines.begin(what, total, done)) as advance:
        for item in items:
            yield item
            advance()


@contextmanager
def status(what: str) -> Iterator[None]:
    """Name a step that cannot be counted while it lasts."""
    if sys.stderr.isatty():
        from rich.console import Console

        with Console(stderr=True).status(what):
            yield
        return
    before = _Lines.current.state if _Lines.current else None
    _Lines.begin(what, None, 0)
    yield
    if _Lines.current and before:
        _Lines.current.state = before


@contextmanager
def reported(
    wait: Callable[[Event, float], bool] = Event.wait, clock: Callable[[], float] = monotonic
) -> Iterator[None]:
    """Write to standard error how far the job within is, unless that is a terminal, where bars show it.

    Within another it changes nothing. A job that fails has its error as its last line. ``wait`` and ``clock`` are those
    of the system unless a test has its own.
    """
    if sys.stderr.isatty() or _Lines.current is not None:
        yield
        return
    lines = _Lines.current = _Lines(wait, clock)
    try:
        yield
        lines.end()
    finally:
        lines.stop()
        _Lines.current = None


@dataclass
class _State:
    """Progress of a loop: the work (nothing between loops), how many of how many, how many before, since when."""

    what: str = ""
    total: int | None = None
    done: int = 0
    before: int = 0
    began: float = 0.0

    def advance(self) -> None:
        """Count one item."""
        self.done += 1

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        return f"{self.what}: {self.done}{of}" if self.done or of else self.what

    def seconds_left(self, now: float) -> float | None:
        """Estimated time of the open items, by that of the finished ones."""
        fresh, left = self.done - self.before, (self.total or 0) - self.done
        return (now - self.began) / fresh * left if fresh > 0 and left > 0 else None


class _Lines:
    """The lines of one job; its thread starts with the first loop, so that a job without loops has none."""

    current: _Lines | None = None

    def __init__(self, wait: Callable[[Event, float], bool], clock: Callable[[], float]) -> None:
        self._wait, self._clock, self._began = wait, clock, clock()
        self._stopped, self._thread = Event(), Thread(target=self._beat, daemon=True)
        self.state = _State()

    @classmethod
    def begin(cls, what: str, total: int | None, done: int) -> Callable[[], None]:
        """Note the work from now on; returns the function that counts one item of it."""
        state = _State(what, total, done, done)
        if (lines := cls.current) is not None:
            state.began, lines.state = lines._clock(), state
            if lines._thread.ident is None:
                lines._thread.start()
        return state.advance

    def end(self) -> None:
        """Write the last line."""
        self.stop()
        if self.state.what:
            took = duration(self._clock() - self._began)
            print(f"{self.state}; ended after {took}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Write no more lines."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _beat(self) -> None:
        while not self._wait(self._stopped, SECONDS):
            state, now = self.state, self._clock()
            left = state.seconds_left(now)
            remaining = "" if left is None else f", about {duration(left)} left"
            if state.what:
                print(f"{state} after {duration(now - state.began)}{remaining}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds in words.

    >>> duration(40), duration(11_100)
    ('40 s', '3 h 5 min')
    """
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


@contextmanager
def _bar(what: str, total: int | None, done: int) -> Iterator[Callable[[], None]]:
    """A bar that vanishes at its end; yields the function that moves it on by one item."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    progress = Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True,
        redirect_stdout=sys.stdout.isatty(),  # what is piped on must not end beside the bar
    )  # fmt: skip
    with progress:
        bar = progress.add_task(what, total=total, completed=done)
        yield lambda: progress.advance(bar)
