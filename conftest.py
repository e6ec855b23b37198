"""Order of the tests, and a folder for the examples of docstrings."""

from __future__ import annotations

import gc
import os
import runpy

# A pool of threads, which reading processes would be forked without; tiny networks gain nothing by one either.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from xdist.remote import Producer
    from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parent

FORKING = ("tests/data", "tests/transforms")
"""Folders whose tests fork reading processes; they come first, from a process that has run little else."""

LONGEST = ("tests/documentation", "tests/e2e", "tests/plugins")
"""Folders whose modules and classes take longest; several processes begin with them and end together."""


def pytest_configure() -> None:
    """Keeps OpenVINO from telling its maker of conversions by anomalib's own exports, too."""
    from anomalib_xray.openvino_runtime import silence_telemetry

    silence_telemetry()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling:
    """Keeps the tests of a module or class in one process, and their order."""
    from xdist.scheduler import LoadScopeScheduling

    config.option.loadscopereorder = False
    return LoadScopeScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts what forks first, and what takes longest next where several processes share the tests."""
    is_shared = hasattr(config, "workerinput")
    items.sort(
        key=lambda item: 0 if item.nodeid.startswith(FORKING) else 2 - item.nodeid.startswith(LONGEST) * is_shared
    )


def pytest_collection_finish() -> None:
    """Takes the libraries, a million objects, out of the search for garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 10, 10)


def pytest_unconfigure() -> None:
    """Lets the libraries end as they are used to."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def folder_of_examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples may name: ``hand.png``, a generated radiograph, ``configs``, and the bundle ``bundles/cae``."""
    import numpy as np

    from anomalib_xray.io.write import write_png
    from anomalib_xray.phantom import render_phantom

    folder = tmp_path_factory.mktemp("examples")
    (folder / "configs").symlink_to(ROOT / "configs")
    write_png(folder / "hand.png", render_phantom(np.random.default_rng(0)).image)
    runpy.run_path(str(ROOT / "tests/edge/tiny_bundle.py"))["write_bundle"](folder / "bundles/cae")
    return folder


@pytest.fixture(autouse=True)
def _examples_run_in_a_folder_of_their_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(request.node, pytest.DoctestItem):
        folder, own = request.getfixturevalue("folder_of_examples"), request.getfixturevalue("tmp_path")
        for path in folder.iterdir():
            (own / path.name).symlink_to(path)
        monkeypatch.chdir(own)
