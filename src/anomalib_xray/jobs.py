"""Work on several cores or machines. joblib is the only seam: processes here, a Dask cluster, or Ray."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError

Backend: TypeAlias = Literal["loky", "ray"]
Task = TypeVar("Task")
Result = TypeVar("Result")

_RAY_CHUNK = 64  # tasks a call, since Ray returns a call's results all at once


class WorkerDiedError(XrayError):
    """A worker process ended in the middle of its work, as after a crash in a decoder or for lack of memory."""


def results(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    *,
    workers: int,
    backend: Backend = "loky",
    scheduler: str | None = None,
    shared: Path = Path(),
) -> Iterator[Result]:
    """Calls a function for each task and yields what it returns, in the order in which the calls end.

    Args:
        function: A function that worker processes can import.
        tasks: Its arguments.
        workers: How many processes work at once on this machine; 1 works in this process. A Dask cluster has its own.
        backend: ``loky`` for processes, ``ray`` for Ray.
        scheduler: Address of the scheduler of a Dask cluster, which is then used instead.
        shared: A folder that the workers of a cluster must see under the same path.

    Yields:
        What the calls return.

    Raises:
        WorkerDiedError: A worker process died.
        XrayError: A package is missing, or the cluster cannot be used.
    """
    from joblib import Parallel, delayed, parallel_config

    try:
        if scheduler is not None:
            with _dask(scheduler, shared):
                yield from Parallel(return_as="generator_unordered")(delayed(function)(task) for task in tasks)
        elif backend == "ray":
            with _ray():
                for start in range(0, len(tasks), _RAY_CHUNK * workers):
                    chunk = tasks[start : start + _RAY_CHUNK * workers]
                    yield from Parallel(n_jobs=workers)(delayed(function)(task) for task in chunk)
        else:
            with parallel_config(backend="loky", initializer=leave_interrupts_to_parent):
                in_parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
                with _interrupts_wait():  # the processes start with the first call
                    returned = in_parallel(delayed(function)(task) for task in tasks)
                yield from returned
    except BrokenProcessPool as error:
        raise WorkerDiedError(
            "A worker process died, perhaps because memory ran out: run the same command again to go on where it"
            " stopped, with fewer --workers."
        ) from error


def leave_interrupts_to_parent() -> None:
    """Lets a worker process ignore Ctrl-C, which the terminal sends to all: its parent ends it, without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Holds Ctrl-C back, in this thread and in the processes that it starts, which are not ready for it yet."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has no such masks
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _dask(address: str, shared: Path) -> Iterator[None]:
    """Makes joblib use a Dask cluster, once it is sure that its workers can do the work."""
    from joblib import parallel_config

    try:
        from distributed import Client
    except ImportError as error:
        raise XrayError("--scheduler needs Dask: pip install 'anomalib-xray[dask]' installs it.") from error
    try:
        client = Client(address, timeout="10s", set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise XrayError(f"No Dask scheduler answers at {address}: start one with 'dask scheduler'.") from error
    with client:
        _check_workers(client.run, address, shared)
        with parallel_config(backend="dask", client=client):
            yield


def _check_workers(run: Callable[..., dict[str, tuple[str, bool]]], address: str, shared: Path) -> None:
    """Refuses a cluster whose workers would prepare otherwise or do not see the pictures."""
    try:
        found = run(describe_worker, shared)
    except Exception as error:  # whatever a worker raises when it lacks the package
        raise XrayError(
            f"The workers at {address} cannot load anomalib-xray {__version__}: install it there ({error})."
        ) from error
    if not found:
        raise XrayError(f"The Dask scheduler at {address} has no worker: start one with 'dask worker {address}'.")
    for worker, (version, sees) in sorted(found.items()):
        if version != __version__:
            raise XrayError(
                f"The worker {worker} has anomalib-xray {version}, and {__version__} is needed; install it there."
            )
        if not sees:
            raise XrayError(f"The worker {worker} does not see {shared}: give folders that all machines share.")


def describe_worker(shared: Path) -> tuple[str, bool]:
    """What a worker of a cluster has: its version of this package, and whether it sees a folder."""
    return __version__, shared.is_dir()


@contextmanager
def _ray() -> Iterator[None]:
    """Makes joblib use Ray, which is started on this machine where no cluster is set up."""
    from joblib import parallel_config

    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise XrayError("--backend ray needs Ray: pip install 'anomalib-xray[ray]' installs it.") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    register_ray()
    with parallel_config(backend="ray"):
        yield
