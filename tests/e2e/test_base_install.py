"""The wheel with its base dependencies only, in a fresh environment: what a device has."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.bundling.images import Sample
from anomalib_xray.bundling.writer import Request, write_bundle
from anomalib_xray.io.dicom_write import write_secondary_capture
from anomalib_xray.io.write import write_png
from anomalib_xray.models import Cae
from anomalib_xray.phantom import render_phantom
from anomalib_xray.preparation.pipeline import Pipeline

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
ABSENT = ("torch", "torchvision", "anomalib", "lightning", "pandas", "sklearn", "nncf")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment with the wheel, its base dependencies and the extra for DICOM."""
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("A fresh environment is made by uv, which is not installed.")
    folder = tmp_path_factory.mktemp("device")
    run(uv, "build", "--wheel", "--out-dir", folder / "wheel", ROOT)
    (wheel,) = (folder / "wheel").glob("*.whl")
    run(uv, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install = [uv, "pip", "install", "--python", python, "-c", ROOT / "constraints.txt", f"{wheel}[dicom]"]
    found = subprocess.run([str(word) for word in install], capture_output=True, text=True, timeout=600, check=False)
    if found.returncode:
        pytest.skip(f"The packages cannot be had: {found.stderr.strip().splitlines()[-1]}")
    return folder / "venv" / "bin" / "anomalib-xray"


def run(*words: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=600, check=True, env=environment
    )


def test_a_bundle_predicts_without_torch(command: Path, tmp_path: Path) -> None:
    samples = []
    for number in range(4):
        write_png(tmp_path / "train" / f"{number}.png", render_phantom(np.random.default_rng(number)).image)
        samples.append(Sample(tmp_path / "train" / f"{number}.png", 0))
    model = Cae(image_size=64, width=4, latent_channels=8, levels=3).eval()
    pipeline = Pipeline.load(ROOT / "configs" / "preparation" / "full.yaml")
    write_bundle(model, Request(samples, pipeline, False, "phantoms", "Apache-2.0"), tmp_path / "bundle")

    image = render_phantom(np.random.default_rng(9)).image
    write_png(tmp_path / "images" / "a.png", image)
    write_secondary_capture(tmp_path / "images" / "b.dcm", image, description="phantom")
    python = command.parent / "python"
    for name in ABSENT:
        found = run(python, "-c", f"import importlib.util; print(importlib.util.find_spec({name!r}))")
        assert found.stdout.strip() == "None", f"{name} is installed"

    out = tmp_path / "out"
    run(command, "predict", "--bundle", tmp_path / "bundle", tmp_path / "images", "--out", out)
    assert len(list(out.rglob("*_overlay.png"))) == 2
    figures = tmp_path / "bench.json"
    run(command, "bench", "--bundle", tmp_path / "bundle", "--runs", 2, "--threads", 1, "--out", figures)
    rows = {row["backend"]: row for row in json.loads(figures.read_text())["rows"]}
    assert rows["preparation and model, fp32"]["memory_mb"] < 400
    run(command, "serving", "--bundle", tmp_path / "bundle", "--out", tmp_path / "models")
    assert (tmp_path / "models" / "cae" / "1" / "model.xml").is_file()
    # What trains asks for the extra that it needs, in one sentence.
    refused = subprocess.run(
        [command, "bundle", "--checkpoint", samples[0].path, "--images", tmp_path / "train", "--out", tmp_path / "b"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "anomalib-xray[train]" in refused.stderr
