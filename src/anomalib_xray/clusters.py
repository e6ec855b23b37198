"""Clusters on which joblib calls functions: Dask's and Ray's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError


@contextmanager
def dask_cluster(address: str, shared: Path) -> Iterator[None]:
    """Has joblib use a Dask cluster whose workers were checked."""
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
    """Refuses workers that have another version or do not see the folder."""
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
    """Version of this package on a worker, and whether it sees a folder."""
    return __version__, shared.is_dir()


@contextmanager
def ray_cluster() -> Iterator[None]:
    """Has joblib use Ray, which is started on this machine unless a cluster is set up."""
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
