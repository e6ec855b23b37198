"""What glibc's allocator does with memory that is freed; on systems with another allocator nothing happens here."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
"""Parameters of ``mallopt`` by their numbers in malloc.h: free memory that is kept, size from which an allocation is
mapped on its own, largest number of such allocations."""

_USUAL_TRIM_THRESHOLD, _USUAL_MMAP_MAX = 128 * 1024, 65536
"""Values where nobody sets them."""

_LARGE = 1 << 20
"""Bytes from which an array's memory goes back to the system at once; smaller ones are not worth the call."""


def keep_freed_memory(keep: bool) -> None:
    """Lets the process keep the memory of freed tensors for the next ones, or hands it back as usual.

    The allocator asks the system for each large tensor and hands it back at once, and the system fills each page with
    zeros when it is first written to: a fifth to a third of a training step at 512 pixels.

    Args:
        keep: Whether freed memory is kept from now on; otherwise it is also handed back.

    >>> keep_freed_memory(True)
    >>> keep_freed_memory(False)
    """
    if (libc := _glibc()) is None:
        return
    libc.mallopt(_MMAP_MAX, 0 if keep else _USUAL_MMAP_MAX)
    libc.mallopt(_TRIM_THRESHOLD, -1 if keep else _USUAL_TRIM_THRESHOLD)
    if not keep:
        libc.malloc_trim(0)


def hand_back_large_arrays() -> None:
    """Lets the process hand back each large array when it is freed.

    By default the allocator raises the size from which it does so, up to 32 MB, and arrays of a detector's picture stay
    resident after they are gone.

    >>> hand_back_large_arrays()
    """
    if (libc := _glibc()) is not None:
        libc.mallopt(_MMAP_THRESHOLD, _LARGE)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
