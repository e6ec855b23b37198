"""Builds the distributions, checks them, and tries the wheel in clean environments; needs uv.

    python scripts/check_release.py
    python scripts/check_release.py --python 3.12 --extra base --extra dicom

Each environment has one Python and one extra. In it ``pip check`` and ``anomalib-xray --help`` must pass, and a bundle
must score a phantom, with ``dicom`` also a DICOM file; with ``train`` a model is trained, bundled and used with the
configurations of the wheel. Prints a row per environment with its size. Of a Python that is not on this machine, only
whether there are wheels of all dependencies is checked. Versions of pyenv are found where they are chosen:
``PYENV_VERSION=3.11.7:3.12.1:3.13.0 make release``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
LARGEST_BASE = 450
"""MB that the base installation may take: what a small device has to spare."""

SKIPPED = {"dev": "for who works on the code", "ray": "Ray has no wheels for every Python"}
"""Extras that are tried only where they are named."""

# Run by the Python of the environment; the bundle comes from the tests, whose model needs no training.
SMOKE = """
import importlib.util, sys
from pathlib import Path
import numpy as np
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import render_phantom
spec = importlib.util.spec_from_file_location("tiny_bundle", sys.argv[1])
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
tiny.write_bundle(Path("bundle"))
picture = render_phantom(np.random.default_rng(0)).image
write_png(Path("images/phantom.png"), picture)
if sys.argv[2] == "dicom":
    from anomalib_xray.io.dicom_write import write_secondary_capture
    write_secondary_capture("images/phantom.dcm", picture, description="phantom")
"""

IMPORTS = {"text": "rapidocr", "app": "fastapi", "dask": "distributed", "tune": "optuna", "mlflow": "mlflow"}
"""A package that each extra must bring."""


class FailedError(Exception):
    """Something that fails a row of the table."""


def main() -> int:
    """Returns 1 if anything that could be tried failed."""
    extras = list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="append", help=f"version; by default {', '.join(PYTHONS)}")
    parser.add_argument("--extra", action="append", help=f"base or one of {', '.join(extras)}; by default nearly all")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="folder for the distributions")
    parser.add_argument("--constraints", type=Path, help="file of pins; by default the newest versions are taken")
    given = parser.parse_args()
    wheel = build(given.out)
    chosen = given.extra or ["base", *(name for name in extras if name not in SKIPPED)]
    rows = [row for version in given.python or PYTHONS for row in try_python(version, wheel, chosen, given.constraints)]
    print(f"\n{'Python':8}{'extra':10}{'MB':>7}  result")
    for version, extra, size, result in rows:
        print(f"{version:8}{extra:10}{size:>7}  {result}")
    for name, reason in SKIPPED.items():
        if name not in chosen:
            print(f"not tried: {name} ({reason})")
    return int(any(result not in ("good", ABSENT) for *_, result in rows))


ABSENT = "resolves to wheels; not tried, because this Python is not here (uv python install)"


def build(out: Path) -> Path:
    """Builds the sdist, from it the wheel, and has twine look at both; returns the wheel."""
    shutil.rmtree(out, ignore_errors=True)
    run(["uv", "build", "--out-dir", str(out), str(ROOT)], ROOT)
    files = sorted(str(path) for path in out.iterdir() if path.suffix in (".whl", ".gz"))
    print(run(["uv", "tool", "run", "twine", "check", "--strict", *files], ROOT).strip())
    for file in files:
        print(f"{Path(file).name}: {Path(file).stat().st_size / 1e6:.1f} MB")
    return next(Path(file) for file in files if file.endswith(".whl"))


def try_python(version: str, wheel: Path, extras: list[str], pins: Path | None) -> Iterator[tuple[str, str, str, str]]:
    """A row per extra: version, extra, size in MB, and ``good`` or what went wrong."""
    found = subprocess.run(["uv", "python", "find", version], capture_output=True, text=True, check=False)
    if found.returncode:
        for extra in extras:
            yield version, extra, "-", resolved(version, wheel, extra)
        return
    for extra in extras:
        with TemporaryDirectory(prefix="release-") as name:
            folder, size = Path(name), "-"
            try:
                install(found.stdout.strip(), wheel, extra, pins, folder)
                size = str(megabytes(folder / "venv"))
                try_out(folder, extra)
                if extra == "base" and int(size) > LARGEST_BASE:
                    raise FailedError(f"larger than {LARGEST_BASE} MB")
                result = "good"
            except FailedError as problem:
                result = str(problem)
        print(f"{version} {extra}: {size} MB, {result}", flush=True)
        yield version, extra, size, result


def resolved(version: str, wheel: Path, extra: str) -> str:
    """Whether every dependency has a wheel for a Python that is not here; :data:`ABSENT` or what went wrong."""
    with TemporaryDirectory(prefix="release-") as name:
        wanted = Path(name) / "wanted.txt"
        wanted.write_text(f"anomalib-xray{'' if extra == 'base' else f'[{extra}]'} @ {wheel.resolve().as_uri()}\n")
        try:
            # FrEIA, which anomalib needs, is a source of pure Python only.
            binary = ["--only-binary", ":all:", "--no-binary", "freia"]
            run(["uv", "pip", "compile", "--quiet", "--python-version", version, *binary, str(wanted)], Path(name))
        except FailedError as problem:
            return str(problem)
    return ABSENT


def install(python: str, wheel: Path, extra: str, pins: Path | None, folder: Path) -> None:
    """Makes an environment with the wheel and one extra."""
    run(["uv", "venv", "--python", python, str(folder / "venv")], folder)
    wanted = str(wheel) if extra == "base" else f"{wheel}[{extra}]"
    command = ["uv", "pip", "install", "--python", str(folder / "venv/bin/python"), wanted]
    run([*command, *([] if pins is None else ["-c", str(pins.resolve())])], folder)
    run(["uv", "pip", "check", "--python", str(folder / "venv/bin/python")], folder)


def try_out(folder: Path, extra: str) -> None:
    """Runs the commands of a first hour in an environment."""
    python, command = str(folder / "venv/bin/python"), str(folder / "venv/bin/anomalib-xray")
    run([command, "--help"], folder)
    run([python, "-c", SMOKE, str(ROOT / "tests/edge/tiny_bundle.py"), extra], folder)
    if extra in IMPORTS:
        run([python, "-c", f"import {IMPORTS[extra]}"], folder)
    run([command, "predict", "--bundle", "bundle", "images", "--out", "out"], folder)
    run([command, "examples", "--out", "."], folder)
    drawn, given = len(list((folder / "out").rglob("*_overlay.png"))), len(list((folder / "images").iterdir()))
    if drawn != given:
        raise FailedError(f"{drawn} of {given} pictures were scored")
    if extra == "train":
        configs = [word for name in ("cae", "data/phantom", "demo") for word in ("--config", f"configs/{name}.yaml")]
        # The demo looks at its validation images, and so keeps a checkpoint, every few epochs only.
        short = ["--trainer.max_epochs", "1", "--trainer.check_val_every_n_epoch", "1"]
        run([str(folder / "venv/bin/anomalib"), "train", *configs, *short], folder)
        checkpoint = next(folder.glob("demo/results/Cae/*/v0/weights/lightning/model.ckpt"), None)
        if checkpoint is None:
            raise FailedError("the training left no checkpoint")
        run(
            [command, "bundle", "--checkpoint", str(checkpoint), "--out", "cae.bundle", "--card", "--int8=false"],
            folder,
        )
        run([command, "predict", "--bundle", "cae.bundle", "images", "--out", "scored"], folder)


def megabytes(folder: Path) -> int:
    """Size of the files in a folder."""
    return round(sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink()) / 1e6)


def run(command: list[str], folder: Path) -> str:
    """Runs a command in a folder and returns what it printed; a failure is its last line."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["NO_COLOR"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise FailedError(f"{' '.join(Path(word).name for word in command[:3])} failed: {lines[-1]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
