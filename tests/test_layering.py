"""Rules of the house: nothing on the device loads what trains, and only ``io`` opens text files."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

import pytest

TRAINING = {"torch", "torchvision", "anomalib", "lightning", "pandas", "sklearn"}
ROOT = Path(__file__).parents[1]
SLOW = TRAINING | {"cv2", "openvino", "numpy", "rich", "jsonargparse"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after some code."""
    report = "import json, sys; print(); print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(process.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["io", "phantom", "preparation", "edge", "app", "commands"])
def test_device_packages_load_nothing_that_trains(package: str) -> None:
    loaded = loaded_after(
        "import importlib, pkgutil\n"
        f"package = importlib.import_module('anomalib_xray.{package}')\n"
        "modules = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "assert modules\n"
        "for name in modules: importlib.import_module(name)"
    )
    assert "anomalib_xray" in loaded
    assert loaded & TRAINING == set()


@pytest.mark.parametrize(
    "module",
    ["anomalib_xray", "anomalib_xray.cli", "anomalib_xray.edge", "anomalib_xray.phantom", "anomalib_xray.preparation"],
)
def test_importing_is_light(module: str) -> None:
    loaded = loaded_after(f"import {module}")
    assert "anomalib_xray" in loaded
    assert loaded & SLOW == set()


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_is_light(argument: str) -> None:
    assert loaded_after(f"from anomalib_xray.cli import main; assert main(['{argument}']) == 0") & SLOW == set()


@pytest.mark.parametrize(
    "verb",
    [
        "app",
        "attention",
        "bench",
        "benchmark",
        "bundle",
        "explain",
        "phantom",
        "plugins",
        "predict",
        "prepare",
        "report",
        "serving",
        "train-foreground",
        "train-localizer",
        "train-recogniser",
        "tune",
    ],
)
def test_help_of_a_verb_loads_nothing_that_trains_or_predicts(verb: str) -> None:
    loaded = loaded_after(f"from anomalib_xray.cli import main; assert main(['{verb}', '--help']) == 0")
    assert "jsonargparse" in loaded
    assert loaded & (TRAINING | {"cv2", "openvino"}) == set()


def test_one_opencv_is_installed() -> None:
    found = {distribution.name.lower() for distribution in distributions() if distribution.name}
    assert len([name for name in found if name.startswith("opencv-")]) == 1


OTHERS_TEXT = {
    "backends.py read_text": "/proc, the system's own text",
    "worker.py read_text": "/proc, the system's own text",
    "report.py open": "/proc, the system's own text",
    "run.py open": "/proc, the system's own text",
    "jobs.py open": "a child process writes its log there",
    "process.py open": "a child process writes its log there",
    "runner.py open": "a child process writes its log there; a lock",
    "study.py open": "a lock",
    "dataset.py open": "a journal to which a line is added for each phantom",
    "stock_command.py yaml.safe_load": "an argument that is YAML itself",
    "writer.py read_text": "the license, from the installed distribution",
    "bundle.py read_text": "checksums of an export",
    "bundle.py json.loads": "the description of an export",
    "manifest.py json.loads": "the description of a bundle, which must have finite numbers",
    "export.py read_text": "the contract kit looks at what was exported",
    "tables.py pd.read_csv": "scores, many rows of numbers",
    "table.py pd.read_csv": "scores, many rows of numbers",
    "dependence.py pd.read_csv": "scores, many rows of numbers",
    "fusion_command.py pd.read_csv": "scores, many rows of numbers",
    "cases.py pd.read_csv": "scores, many rows of numbers",
    **dict.fromkeys(
        (
            "build.py read_text",
            "build.py yaml.safe_load",
            "cell.py read_text",
            "runner.py read_text",
            "trial.py read_text",
        ),
        "experiments, until they are task folders",
    ),
}
"""Text that others than ``io`` read or write, and why."""


def text_opened(path: Path) -> Iterator[str]:
    """Calls of a module that read or write a text file, by what is called."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom) and "csv" in (names := [alias.name for alias in node.names]):
            yield ", ".join(names)
        if not isinstance(node, ast.Call):
            continue
        called, arguments = ast.unparse(node.func), ast.unparse(node)
        method = called.rpartition(".")[2]
        is_method = isinstance(node.func, ast.Attribute)
        if is_method and method in ("read_text", "write_text"):
            yield method
        elif called == "open" or (method == "open" and called != "os.open" and not called[0].isupper()):
            modes = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            if not any("b" in str(mode) for mode in modes):
                yield method
        elif (
            called in ("json.load", "json.dump", "pd.read_csv")
            or (called.startswith("yaml.") and "load" in method)
            or (called == "json.loads" and "read_bytes" in arguments)
        ):
            yield called


def test_only_io_opens_text_files() -> None:
    modules = [path for folder in ("src/anomalib_xray", "plugins") for path in (ROOT / folder).rglob("*.py")]
    outside = [path for path in modules if path.parent.name != "io"]
    assert len(modules) > len(outside) > 100
    found = {f"{path.name} {called}" for path in outside for called in text_opened(path)}
    assert found - set(OTHERS_TEXT) == set()


def test_text_is_noticed_however_it_is_opened(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        "import csv\npath.open('w')\nopen(path)\npath.read_text()\nyaml.safe_load(text)\n"
        "json.loads(path.read_bytes())\njson.loads(text)\npath.open('rb')\nBundle.open(path)\nos.open(path)\n"
    )
    assert list(text_opened(module)) == ["csv", "open", "open", "read_text", "yaml.safe_load", "json.loads"]
