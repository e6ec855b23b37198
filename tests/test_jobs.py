from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from anomalib_xray import __version__, clusters, jobs
from anomalib_xray.clusters import describe_worker
from anomalib_xray.errors import XrayError
from anomalib_xray.jobs import results


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_has_a_result(workers: int) -> None:
    assert sorted(results(abs, [-3, 2, -1], workers=workers)) == [1, 2, 3]


def test_ctrl_c_and_sigterm_are_left_to_the_parent() -> None:
    interrupts = [signal.SIGINT, signal.SIGTERM]
    before = list(map(signal.getsignal, interrupts))
    assert list(results(signal.getsignal, interrupts * 2, workers=2)) == [signal.SIG_IGN] * 4
    assert list(map(signal.getsignal, interrupts)) == before
    assert not {*interrupts} & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_a_worker_that_dies_is_one_sentence() -> None:
    with pytest.raises(XrayError, match="run the same command again"):
        list(results(os._exit, [1], workers=2))


def test_a_scheduler_that_is_not_there_is_one_sentence() -> None:
    pytest.importorskip("distributed")
    with pytest.raises(XrayError, match="No Dask scheduler answers at tcp"):
        list(results(abs, [1], workers=1, scheduler="tcp://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("package", "arguments"), [("distributed", {"scheduler": "tcp://x"}), ("ray", {"backend": "ray"})]
)
def test_a_missing_package_is_named(package: str, arguments: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(XrayError, match="pip install 'anomalib-xray"):
        list(results(abs, [1], workers=1, **arguments))  # type: ignore[arg-type]


def test_workers_of_a_cluster_are_checked(tmp_path: Path) -> None:
    def run(answer: dict[str, tuple[str, bool]]) -> None:
        clusters._check_workers(lambda *_: answer, "tcp://x", tmp_path)

    run({"w1": (__version__, True)})
    with pytest.raises(XrayError, match="has no worker"):
        run({})
    with pytest.raises(XrayError, match=r"w2 has anomalib-xray 0\.0"):
        run({"w1": (__version__, True), "w2": ("0.0", True)})
    with pytest.raises(XrayError, match="w1 does not see"):
        run({"w1": (__version__, False)})

    def lacking(*_: object) -> dict[str, tuple[str, bool]]:
        raise ModuleNotFoundError("No module named 'anomalib_xray'")

    with pytest.raises(XrayError, match="cannot load"):
        clusters._check_workers(lacking, "tcp://x", tmp_path)


def test_a_worker_says_what_it_has(tmp_path: Path) -> None:
    assert describe_worker(tmp_path) == (__version__, True)
    assert describe_worker(tmp_path / "none") == (__version__, False)


@pytest.mark.slow
def test_a_dask_cluster_does_the_work(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        found = results(abs, list(range(-20, 0)), workers=1, scheduler=cluster.scheduler_address, shared=tmp_path)
        assert sorted(found) == list(range(1, 21))


@pytest.mark.slow
def test_ray_does_the_work() -> None:
    ray = pytest.importorskip("ray")
    try:
        assert sorted(results(abs, list(range(-200, 0)), workers=2, backend="ray")) == list(range(1, 201))
    finally:
        ray.shutdown()


def work(task: jobs.Task) -> dict[str, object]:
    """Does what its arguments say."""
    (task.folder / jobs.SCRATCH).mkdir()
    print("printed")
    if "reason" in task.arguments:
        raise XrayError(task.arguments["reason"])
    if "status" in task.arguments:
        os._exit(task.arguments["status"])
    if task.arguments.get("listens"):
        for order in task.orders():
            task.answer(order * 2)
    return {"value": task.arguments["value"], "threads": os.environ["OMP_NUM_THREADS"]}


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a fresh interpreter import this module."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr(work, "__module__", "test_jobs")


def test_a_task_leaves_its_result_and_its_log_and_nothing_else(tmp_path: Path) -> None:
    folder = jobs.write_task(tmp_path / "a", work, {"value": 3})
    assert jobs.read_result(folder) is None
    result = jobs.run_task(folder, threads=2)
    assert (result["status"], result["value"], result["threads"]) == ("done", 3, "2")
    assert result["peak_memory_gib"] > 0
    assert jobs.read_result(folder) == result
    assert (folder / jobs.LOG).read_text() == "printed\n"
    assert not (folder / jobs.SCRATCH).exists()
    jobs.write_task(folder, work, {"value": 4})
    assert jobs.read_result(folder) is None


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"reason": "No\n data."}, "No data."),
        ({}, "KeyError: 'value'"),
        ({"status": 3}, "the process ended with status 3"),
    ],
)
def test_a_task_that_fails_says_why(tmp_path: Path, arguments: dict[str, object], reason: str) -> None:
    result = jobs.run_task(jobs.write_task(tmp_path, work, arguments))
    assert result["status"] == "failed"
    assert result["reason"].startswith(reason)
    assert jobs.read_result(tmp_path) == result


def test_a_task_answers_until_it_is_ended(tmp_path: Path) -> None:
    with jobs.Process(jobs.write_task(tmp_path, work, {"listens": True})) as process:
        assert [process.ask(number) for number in (1, 2)] == [2, 4]
    assert jobs.read_result(tmp_path) is None
    with jobs.Process(jobs.write_task(tmp_path, work, {"status": 1})) as process:
        assert process.answer() is None
        assert process.ask(1) is None


KILLED = """
import sys, pathlib, os, signal, test_jobs
from anomalib_xray import jobs
with jobs.Process(jobs.write_task(pathlib.Path(sys.argv[1]), test_jobs.work, {"listens": True})) as process:
    process.ask(1)
    print(process._process.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_task_ends_with_the_process_that_runs_it(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True, check=False)
    for _ in range(100):
        try:
            os.kill(int(ran.stdout), 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("The task goes on without anybody who takes its result.")
