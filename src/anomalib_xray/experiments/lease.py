"""Leases of work that takes long: they tell a process that is gone from one that works on.

A lock alone does not on drives of a network, of which some have no locks and others have them for each machine alone.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

from anomalib_xray.errors import XrayError
from anomalib_xray.io.text import read_text
from anomalib_xray.io.write import lock, write_atomically

RENEWAL = 20.0
"""Seconds between two renewals of a lease."""

LEASE = 180.0
"""Seconds without renewal after which a process on another machine is taken for gone: a drive of a network may show the
time of a file as it was a minute ago, and renewals may fail for a while."""


class Lease:
    """A lease: a locked file with the name of this machine, whose time is renewed until :meth:`close`."""

    def __init__(self, path: Path) -> None:
        write_atomically(path, _machine())
        self._path, self._closed = path, Event()
        self._descriptor = os.open(path, os.O_RDWR)
        lock(self._descriptor)
        Thread(target=self._renew, daemon=True).start()

    def close(self) -> None:
        """Gives the lease back."""
        self._closed.set()
        os.close(self._descriptor)
        self._path.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._closed.wait(RENEWAL):
            with suppress(OSError):  # the next renewal may work
                os.utime(self._path)


def is_gone(path: Path, now: float) -> bool:
    """Whether the process that took a lease has ended.

    On one machine its lock tells; on another one, where a drive of a network may have no locks or have them for each
    machine alone, the time since its last renewal, which the drive's own clock notes.

    Args:
        path: The lease.
        now: The time by the clock of the drive, in seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        locked = lock(descriptor)
        if locked is False:
            return False
        if locked and read_text(path) == _machine():
            return True
        return now - os.fstat(descriptor).st_mtime > LEASE
    finally:
        os.close(descriptor)


def _machine() -> str:
    """Name of this machine and of its start, which containers that share its locks share."""
    with suppress(XrayError):  # on Linux only
        return read_text(Path("/proc/sys/kernel/random/boot_id"))
    return platform.node()
