"""The GPUs of this machine, lent to one task at a time through ``CUDA_VISIBLE_DEVICES``.

A GPU is lent by the lock of a file, so that all commands of a user on a machine share its GPUs, and a task that is
killed gives its own back. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import lock

VISIBLE = "CUDA_VISIBLE_DEVICES"
"""Environment variable by which CUDA shows a process some GPUs only."""

AUTO, CPU = "auto", "cpu"
"""Words for all GPUs that this process sees, and for none."""

_LISTED = re.compile(r"^(?P<within>\s*)(?:GPU|MIG) .*\(UUID: (?P<name>[\w-]+)")
_NO_LIST = 30.0  # seconds after which nvidia-smi, which may hang with a broken driver, is given up
_POLL = 0.5  # seconds between looks for a GPU that was given back; tasks take minutes


@dataclass(frozen=True)
class Device:
    """What one task is lent: a GPU, several, or none.

    Attributes:
        visible: Value of ``CUDA_VISIBLE_DEVICES`` for the task.
        locks: Names of the locks that its borrower holds.
    """

    visible: str
    locks: tuple[str, ...] = ()


class Loan:
    """A device that is lent until :meth:`close`.

    Attributes:
        environment: What the borrower's environment has besides; empty without devices.
        descriptors: Open files that hold the locks, for a child process to hold too, so that a GPU is given back when
            both have ended.
    """

    def __init__(self, environment: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()) -> None:
        self.environment, self.descriptors = dict(environment or {}), tuple(descriptors)

    def close(self) -> None:
        """Gives the device back."""
        descriptors, self.descriptors = self.descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)


def find_devices(asked: str = AUTO, per_task: int = 1) -> list[Device]:
    """Finds the devices that tasks may be lent.

    Args:
        asked: ``auto`` for all GPUs that this process sees: those of ``CUDA_VISIBLE_DEVICES`` or else all of the
            machine; a number for so many of them; numbers or names with commas for some of them (``0,2``, and ``1,``
            for the second alone); ``cpu`` for none. One that is named twice has two tasks at once.
        per_task: Number of GPUs that a task gets.

    Returns:
        One entry per task that may run at once. Empty where there is no GPU, so that tasks run as this process would; a
        single one without a GPU for ``cpu``.

    Raises:
        XrayError: A GPU that is asked for is not there, or ``asked`` means nothing.

    >>> find_devices("cpu")
    [Device(visible='', locks=())]
    """
    if asked == CPU:
        return [Device("")]
    if per_task < 1:
        raise XrayError("--devices_per_cell is a number of GPUs: give 1 or more.")
    there = _visible()
    chosen = _chosen(asked, there)
    groups = [chosen[start : start + per_task] for start in range(0, len(chosen) - per_task + 1, per_task)]
    if chosen and not groups:
        raise XrayError(f"{per_task} GPUs a cell are asked for, and {len(chosen)} are to be used: ask for fewer.")
    seen: Counter[str] = Counter()
    devices = []
    for group in groups:
        locks = []
        for name in group:
            seen[name] += 1
            locks.append(f"{there.get(name, name)}.{seen[name]}")
        devices.append(Device(",".join(group), tuple(locks)))
    return devices


def tasks_at_once(devices: Sequence[Device], asked: int = 0) -> int:
    """Number of tasks to run at once: as many as ``asked``, but one per GPU at most where there are GPUs.

    0 asks for one per GPU, or one task without any.

    >>> tasks_at_once(find_devices("cpu"), 3), tasks_at_once([Device("0", ("0",)), Device("1", ("1",))])
    (3, 2)
    """
    gpus = sum(bool(device.locks) for device in devices)
    return min(asked or gpus, gpus) if gpus else asked or 1


def lend(devices: Sequence[Device]) -> Loan:
    """Lends a device that no task of this user on this machine has, the first that is free, and waits for one.

    Raises:
        XrayError: The folder of the locks cannot be used.
    """
    if not devices:
        return Loan()
    while True:
        for device in devices:
            descriptors = _locked(device.locks)
            if descriptors is not None:
                return Loan({VISIBLE: device.visible}, descriptors)
        time.sleep(_POLL)


def _visible() -> dict[str, str]:
    """The GPUs that this process sees, as ``CUDA_VISIBLE_DEVICES`` names them, each with a name of its own.

    The number of a GPU is no such name: a job of SLURM's may see another GPU under the same number.
    """
    listed = _nvidia_smi()
    set_to = os.environ.get(VISIBLE)
    if set_to is None:
        return {name: name for name in listed}
    names = []
    for name in map(str.strip, set_to.split(",")):
        if not name or name == "-1":  # CUDA sees none from an invalid one on
            break
        names.append(name)
    return {name: listed[int(name)] if name.isdecimal() and int(name) < len(listed) else name for name in names}


@lru_cache(maxsize=1)
def _nvidia_smi() -> list[str]:
    """Names of all GPUs that the driver lists, and of the parts of those that are divided (MIG) instead of them."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_NO_LIST, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return _names(listed)


def _names(listed: str) -> list[str]:
    r"""Names in a list of ``nvidia-smi -L``.

    >>> _names("GPU 0: A (UUID: GPU-1)\n  MIG 1g Device 0: (UUID: MIG-2)\nGPU 1: B (UUID: GPU-3)")
    ['MIG-2', 'GPU-3']
    """
    names: list[str] = []
    whole = ""
    for found in filter(None, map(_LISTED.match, listed.splitlines())):
        if found["within"] and names[-1:] == [whole]:
            names.pop()
        names.append(found["name"])
        whole = whole if found["within"] else found["name"]
    return names


def _chosen(asked: str, there: Mapping[str, str]) -> list[str]:
    """The GPUs of those that are there that are asked for."""
    names = list(there)
    if asked == AUTO:
        return names
    if asked.isdecimal() and int(asked) > 0:
        if int(asked) > len(names):
            raise XrayError(f"--devices asks for {asked} GPUs, and there are {len(names)}: ask for fewer, or for cpu.")
        return names[: int(asked)]
    parts = [part.strip() for part in asked.removesuffix(",").split(",")]
    chosen = []
    for part in parts:
        if part.isdecimal() and int(part) < len(names) and "," in asked:
            chosen.append(names[int(part)])
        elif part in names and not part.isdecimal():
            chosen.append(part)
        else:
            known = f"0 to {len(names) - 1}" if names else "none"
            raise XrayError(
                f"--devices {asked} names {part!r}, and the GPUs here are {known}: give auto, cpu, a number of GPUs"
                " such as 2, or a list such as 0,2 (1, for the second alone)."
            )
    return chosen


def _locked(names: Sequence[str]) -> list[int] | None:
    """Open files that lock all names, ``None`` if another task holds one of them."""
    folder = Path(tempfile.gettempdir()) / f"anomalib-xray-devices-{getattr(os, 'getuid', int)()}"
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    held: list[int] = []
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        for name in names:
            held.append(os.open(folder / name, flags, 0o600))
            if lock(held[-1]) is False:
                Loan(descriptors=held).close()
                return None
    except OSError as error:
        Loan(descriptors=held).close()
        raise XrayError(
            f"{folder} cannot be written ({error.strerror}), where GPUs are lent: set TMPDIR to another folder."
        ) from error
    return held
