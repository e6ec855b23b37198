from __future__ import annotations

import os
from pathlib import Path
from threading import Event

import pytest

from anomalib_xray.experiments import lease as module
from anomalib_xray.experiments.lease import LEASE, Lease, is_gone


def test_a_lease_is_held_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "trial" / ".lease"
    assert is_gone(path, 0.0)
    lease = Lease(path)
    # However long ago it was renewed: the lock is there.
    assert not is_gone(path, path.stat().st_mtime + 10 * LEASE)
    lease.close()
    assert not path.exists()


def test_a_killed_process_of_this_machine_is_seen_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".lease"
    if (child := os.fork()) == 0:
        Lease(path)
        os._exit(0)
    os.waitpid(child, 0)
    assert is_gone(path, path.stat().st_mtime)


@pytest.mark.parametrize("locks", [True, None])
def test_a_process_of_another_machine_is_gone_when_its_lease_ends(
    locks: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drive has locks for each machine alone, or none."""
    path = tmp_path / ".lease"
    path.write_text("another machine")
    monkeypatch.setattr(module, "lock", lambda _: locks)
    renewed = path.stat().st_mtime
    assert not is_gone(path, renewed + LEASE)
    assert is_gone(path, renewed + LEASE + 1)


def test_without_locks_the_time_decides_on_one_machine_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "lock", lambda _: None)
    lease = Lease(tmp_path / ".lease")
    renewed = (tmp_path / ".lease").stat().st_mtime
    assert not is_gone(tmp_path / ".lease", renewed)
    assert is_gone(tmp_path / ".lease", renewed + LEASE + 1)
    lease.close()


def test_a_lease_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, renewed = tmp_path / ".lease", Event()
    monkeypatch.setattr(module, "RENEWAL", 0.0)
    monkeypatch.setattr(module.os, "utime", lambda found: renewed.set() if found == path else None)
    lease = Lease(path)
    assert renewed.wait(60)
    lease.close()
