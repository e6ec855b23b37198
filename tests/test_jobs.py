from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError
from anomalib_xray.preparation import parallel
from anomalib_xray.preparation.parallel import describe_worker, results


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_has_a_result(workers: int) -> None:
    assert sorted(results(abs, [-3, 2, -1], workers=workers)) == [1, 2, 3]


def test_ctrl_c_is_left_to_the_parent() -> None:
    before = signal.getsignal(signal.SIGINT)
    assert list(results(signal.getsignal, [signal.SIGINT] * 4, workers=2)) == [signal.SIG_IGN] * 4
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


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
        parallel._check_workers(lambda *_: answer, "tcp://x", tmp_path)

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
        parallel._check_workers(lacking, "tcp://x", tmp_path)


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
