"""What runs on the device must not load what trains: checked on the modules that a fresh interpreter has loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distributions

import pytest

TRAINING = {"torch", "torchvision", "anomalib", "lightning", "pandas", "sklearn"}
SLOW = TRAINING | {"cv2", "openvino", "numpy", "rich", "jsonargparse"}


def loaded_after(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after some code."""
    report = "import json, sys; print(); print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    process = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, timeout=120, check=True
    )
    return set(json.loads(process.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["io", "phantom", "preparation", "edge", "app", "bench"])
def test_device_packages_load_nothing_that_trains(package: str) -> None:
    loaded = loaded_after(
        "import importlib, pkgutil\n"
        f"package = importlib.import_module('anomalib_xray.{package}')\n"
        "modules = [module.name for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.')]\n"
        "assert modules\n"
        "for name in modules: importlib.import_module(name)"
    )
    assert "cv2" in loaded
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
        "serving",
        "train-foreground",
        "train-localizer",
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
