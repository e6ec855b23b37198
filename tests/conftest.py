"""Distributions of others, installed beside this one for commands that run in a process of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest

# Sources of other distributions, one of them broken on purpose: they are installed and run, not imported.
collect_ignore = ["third_party"]


def run_command(folder: Path, command: Sequence[str | Path], status: int = 0, **settings: str) -> str:
    """Runs an installed command in a folder; returns what it printed, and fails on another exit status.

    Args:
        folder: Working folder.
        command: The command's name and its arguments.
        status: Exit status that is expected.
        settings: Environment variables besides those of this process.
    """
    process = subprocess.run(
        [Path(sysconfig.get_path("scripts")) / command[0], *command[1:]],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", "NO_ALBUMENTATIONS_UPDATE": "1", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert process.returncode == status, process.stdout
    return process.stdout


@pytest.fixture(scope="session")
def run() -> Callable[..., str]:
    """Runs an installed command: ``run(folder, command, status=0)``."""
    return run_command


@dataclass(frozen=True)
class Installation:
    """A distribution that is installed for the commands run through it, and for nothing else.

    Attributes:
        source: A copy of its sources, where the commands run.
        site_packages: Folder with the installed files.
    """

    source: Path
    site_packages: Path

    def run(self, command: Sequence[str], status: int = 0) -> str:
        """Runs an installed command with its arguments; returns what it printed, and fails on another exit status."""
        return run_command(self.source, command, status, PYTHONPATH=str(self.site_packages))


@pytest.fixture(scope="session")
def install(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Installation]:
    """Builds the wheel of a distribution and unpacks it, as an installer does with a wheel of pure Python."""

    def install_distribution(folder: Path) -> Installation:
        root = tmp_path_factory.mktemp(folder.name)
        source = shutil.copytree(
            folder, root / "source", ignore=shutil.ignore_patterns("__pycache__", "results", "phantoms")
        )
        subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(root / "dist")],
            cwd=source,
            check=True,
            timeout=120,
        )
        (wheel,) = (root / "dist").glob("*.whl")
        ZipFile(wheel).extractall(root / "site-packages")
        return Installation(source, root / "site-packages")

    return install_distribution
