"""GPUs that are lent to one task at a time, without a GPU: a task only sees its environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomalib_xray import devices, jobs
from anomalib_xray.devices import VISIBLE, find_devices, lend, tasks_at_once
from anomalib_xray.errors import XrayError

LISTED = """GPU 0: NVIDIA A100 (UUID: GPU-a)
  MIG 1g.10gb     Device  0: (UUID: MIG-b)
  MIG 1g.10gb     Device  1: (UUID: MIG-c)
GPU 1: NVIDIA A100 (UUID: GPU-d)
"""


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keeps locks of the test to itself, and GPUs of the machine out of it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(devices, "_nvidia_smi", list)
    monkeypatch.delenv(VISIBLE, raising=False)
    yield
    monkeypatch.undo()


def visible(asked: str, per_task: int = 1) -> list[str]:
    return [device.visible for device in find_devices(asked, per_task)]


@pytest.mark.parametrize(
    ("environment", "asked", "per_task", "found"),
    [
        (None, "auto", 1, []),
        ("", "auto", 1, []),
        ("-1", "auto", 1, []),
        ("3,5,7", "auto", 1, ["3", "5", "7"]),
        ("3,-1,7", "auto", 1, ["3"]),
        ("3,5,7", "2", 1, ["3", "5"]),
        ("3,5,7", "0,2", 1, ["3", "7"]),
        ("3,5,7", "1,", 1, ["5"]),
        ("3,5,7", "0,0", 1, ["3", "3"]),
        ("3,5,7", "auto", 2, ["3,5"]),
        ("3,5,7", "cpu", 1, [""]),
        (" GPU-a, MIG-c", "auto", 1, ["GPU-a", "MIG-c"]),
        ("GPU-a,MIG-c", "MIG-c", 1, ["MIG-c"]),
    ],
)
def test_the_pool_is_what_this_process_sees(
    environment: str | None, asked: str, per_task: int, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if environment is not None:
        monkeypatch.setenv(VISIBLE, environment)
    assert visible(asked, per_task) == found


def test_gpus_of_the_machine_are_those_that_the_driver_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_nvidia_smi", lambda: devices._names(LISTED))
    assert visible("auto") == ["MIG-b", "MIG-c", "GPU-d"]
    whole = find_devices()
    monkeypatch.setenv(VISIBLE, "2")
    (numbered,) = find_devices()
    assert (numbered.visible, numbered.locks) == ("2", whole[2].locks)  # one GPU under two names has one lock


@pytest.mark.parametrize(
    ("asked", "per_task", "said"),
    [
        ("3", 1, "asks for 3 GPUs, and there are 2"),
        ("0,2", 1, "names '2', and the GPUs here are 0 to 1"),
        ("0", 1, "names '0'"),
        ("-1", 1, "names '-1'"),
        ("cuda", 1, "names 'cuda'"),
        ("", 1, "names ''"),
        ("auto", 3, "3 GPUs a cell"),
        ("auto", 0, "give 1 or more"),
    ],
)
def test_what_is_not_there_is_one_sentence(
    asked: str, per_task: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "4,6")
    with pytest.raises(XrayError, match=said):
        find_devices(asked, per_task)


def test_one_task_a_gpu_unless_one_is_named_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [tasks_at_once(find_devices(), asked) for asked in (0, 4)] == [1, 4]
    monkeypatch.setenv(VISIBLE, "4,6")
    assert [tasks_at_once(find_devices(), asked) for asked in (0, 1, 4)] == [2, 1, 2]
    assert tasks_at_once(find_devices("0,0,1")) == 3


def test_a_lent_gpu_is_nobody_elses_until_it_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4,6")
    monkeypatch.setattr(devices, "_POLL", 0)
    first, second = lend(find_devices()), lend(find_devices())
    assert [loan.environment for loan in (first, second)] == [{VISIBLE: "4"}, {VISIBLE: "6"}]
    monkeypatch.setattr(time, "sleep", lambda _: second.close())
    third = lend(find_devices())  # waits until the second is given back
    assert third.environment == {VISIBLE: "6"}
    for loan in (first, third, third):
        loan.close()
    both = lend(find_devices(per_task=2))
    assert both.environment == {VISIBLE: "4,6"}
    both.close()
    assert lend([]).environment == {}


def test_a_folder_of_locks_that_cannot_be_used_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "4")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp" / f"anomalib-xray-devices-{os.getuid()}").write_text("in its place")
    with pytest.raises(XrayError, match="set TMPDIR"):
        lend(find_devices())


def see(task: jobs.Task) -> dict[str, object]:
    """Notes which GPUs a task sees, and when; or dies."""
    start = time.monotonic()
    if task.arguments.get("status"):
        os._exit(task.arguments["status"])
    if task.arguments.get("listens"):
        list(task.orders())
    time.sleep(0.05)  # its work
    return {"sees": os.environ.get(VISIBLE), "from": start, "to": time.monotonic()}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(see, "__module__", "test_devices")


def test_a_task_that_dies_gives_its_gpu_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "MIG-c")
    died = jobs.run_task(jobs.write_task(tmp_path / "a", see, {"status": 3}), devices=find_devices())
    assert died["status"] == "failed"
    assert jobs.run_task(jobs.write_task(tmp_path / "b", see, {}), devices=find_devices())["sees"] == "MIG-c"
    assert jobs.run_task(jobs.write_task(tmp_path / "c", see, {}), devices=find_devices("cpu"))["sees"] == ""


INTERRUPTED = """
import signal, sys, pathlib, test_devices
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell has what runs in its background ignore
from anomalib_xray import devices, jobs
folder = jobs.write_task(pathlib.Path(sys.argv[1]), test_devices.see, {"listens": True})
with jobs.Process(folder, devices=devices.find_devices()) as process:
    print(process._process.pid, flush=True)
    process.answer()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_gpu_comes_back_when_its_borrower_ends(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "4")
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "task")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        assert devices._locked(find_devices()[0].locks) is None
        process.send_signal(number)
    lend(find_devices()).close()  # the child of a killed process holds it until it has missed its parent
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] in "ZX"
