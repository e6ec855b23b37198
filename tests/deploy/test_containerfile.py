"""The container's recipe, as far as it can be judged without a container engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def instructions() -> list[tuple[str, str]]:
    """Instruction and argument of every line, continued lines joined, comments left out."""
    text = re.sub(r"\\\n", " ", (ROOT / "deploy" / "Containerfile").read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines]


def arguments(instructions: list[tuple[str, str]], name: str) -> list[str]:
    return [argument for instruction, argument in instructions if instruction == name]


def test_nobody_is_root(instructions: list[tuple[str, str]]) -> None:
    user = arguments(instructions, "USER")[-1]
    assert int(user.partition(":")[0]) > 0
    last = {name: number for number, (name, _) in enumerate(instructions)}
    assert last["USER"] > last["RUN"], "what is installed is not the user's to change"
    assert last["USER"] > last["COPY"]


def test_only_the_base_and_dicom_are_installed(instructions: list[tuple[str, str]]) -> None:
    (installed,) = re.findall(r"pip install .*", "\n".join(arguments(instructions, "RUN")))
    # One extra and the versions that were tested, nothing else by name.
    assert installed.split()[2:] == ["--no-cache-dir", "-c", "constraints.txt", "'.[dicom]'"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["dicom"]]
    assert not [name for name in needed if re.match(r"torch|anomalib|lightning|nncf|pandas|scikit", name)]


def test_the_last_stage_is_slim_and_runs_the_command(instructions: list[tuple[str, str]]) -> None:
    assert all(re.match(r"python:3\.1[123]-slim", image) for image in arguments(instructions, "FROM"))
    assert arguments(instructions, "ENTRYPOINT") == ['["anomalib-xray"]']
    environment = " ".join(arguments(instructions, "ENV"))
    assert "PYTHONDONTWRITEBYTECODE=1" in environment, "the file system may be read-only"
    assert "HOME=/tmp" in environment


def test_everything_copied_exists_and_is_let_through(instructions: list[tuple[str, str]]) -> None:
    ignore = (ROOT / "deploy" / "Containerfile.dockerignore").read_text().splitlines()
    copied = [name for argument in arguments(instructions, "COPY") for name in argument.split()[:-1]]
    for name in [name.removeprefix("./") for name in copied if not name.startswith(("--", "/"))]:
        assert (ROOT / name).exists()
        assert f"!{name}" in ignore
