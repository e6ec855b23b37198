"""Write down what users see of the project, and compare two such write-downs.

``python tests/frozen.py write DIR [--only PART ...]``, ``python tests/frozen.py compare A B [--only PART ...]``; parts:
``models``, ``bundle``, ``prepare``, ``help``, ``settings``. Only public names are used, so that the same script judges
the tree before and after a rebuilding. pytest does not collect it.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "NO_ALBUMENTATIONS_UPDATE": "1", "TERM": "dumb"}

import argparse
import csv
import difflib
import hashlib
import importlib
import io
import json
import logging
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from math import isnan, nan
from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
TOLERANCE = 1e-6
SMALLER = {"width": 8, "levels": 3, "search_steps": 5, "validation_search_steps": 3, "references": 64}
"""Largest values of settings that make a training long."""
BUNDLED = ("cae", "vae")
VOLATILE = re.compile(r"(^|[._])(time|date|created|seconds|ms|versions?|git|revision|machine|digest)s?($|[._])")
"""Keys of values that differ from run to run."""


def main() -> int:
    """Writes or compares; returns the exit status: 1 when there are differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("write", "compare"))
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    given = parser.parse_intermixed_args()
    if len(given.folders) != (1 if given.action == "write" else 2):
        parser.error("write takes one folder, compare two")
    folders = [folder.resolve() for folder in given.folders]
    if given.action == "compare":
        differences = [line for part in given.only for line in compare(folders[0] / part, folders[1] / part)]
        print("\n".join(differences) or "equal")
        return int(bool(differences))
    warnings.filterwarnings("ignore")
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        for part in given.only:
            begin = time.perf_counter()
            shutil.rmtree(folders[0] / part, ignore_errors=True)
            PARTS[part](folders[0] / part, Path(work).resolve())
            print(f"{part}: {time.perf_counter() - begin:.0f} s", flush=True)
        os.chdir(here)
    return 0


def verb(*arguments: object, status: int = 0) -> str:
    """Runs a verb of the command; returns what it printed."""
    from anomalib_xray.cli import main as command

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        ended = command([str(argument) for argument in arguments])
    assert ended == status, f"{arguments}: {ended}\n{out.getvalue()}{err.getvalue()}"
    return out.getvalue()


def put(target: Path, text: str, work: Path) -> None:
    """Writes a text without the paths of this run."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text.replace(str(work), "WORK").replace(str(CONFIGS.parent), "REPOSITORY"), encoding="utf-8")


def put_json(target: Path, content: object, work: Path) -> None:
    """Writes JSON, sorted; of objects their class alone."""
    text = json.dumps(content, indent=1, sort_keys=True, default=lambda value: f"<{type(value).__name__}>")
    put(target, text, work)


def keep_pictures(pictures: list[Path], out: Path) -> None:
    """Copies pictures of the working folder."""
    for picture in pictures:
        (out / picture).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, out / picture)


def recommended() -> dict[str, dict[str, Any]]:
    """Model section of each configuration that trains a model, by its path below configs."""
    files = [*sorted(CONFIGS.glob("*.yaml")), *sorted(CONFIGS.glob("paper/*.yaml"))]
    read = {str(file.relative_to(CONFIGS).with_suffix("")): yaml.safe_load(file.read_text("utf-8")) for file in files}
    return {name: content["model"] for name, content in read.items() if "class_path" in content.get("model", {})}


def phantoms(work: Path) -> Path:
    """Draws the radiographs to train on, once."""
    root = work / "phantoms"
    if not root.exists():
        verb("phantom", "--out", root, "--patients", 16)
        for number, picture in enumerate(sorted(root.glob("valid/**/*.png"))):
            target = work / "reference" / str(number % 2) / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(picture, target)
    return root


def train(name: str, section: dict[str, Any], work: Path) -> Path:
    """Trains the model of a configuration for an epoch and tests it, unless that was done; returns the run's folder."""
    import torch
    from anomalib.engine import Engine
    from anomalib.models import get_model

    import anomalib_xray.models
    from anomalib_xray.data import Phantom, UnlabelledPool

    assert anomalib_xray.models
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    root = phantoms(work)
    folder = work / "runs" / name
    if not folder.exists():
        settings = dict(section.get("init_args", {})) | {"image_size": 64}
        settings |= {key: min(settings[key], most) for key, most in SMALLER.items() if key in settings}
        model_name = section["class_path"].rpartition(".")[2]
        pool = UnlabelledPool(4, reserve=0.5) if model_name == "DualDistribution" else None
        if model_name == "DeepOneClass":
            settings["reference_root"] = str(work / "reference")
        torch.manual_seed(0)
        model = get_model(model_name, **settings)
        data = Phantom(root, patients=16, positive_share=0.4, train_batch_size=8, num_workers=0, pool=pool)
        quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        engine = Engine(
            default_root_dir=folder,
            max_epochs=1,
            num_sanity_val_steps=0,
            accelerator="cpu",
            deterministic="warn",
            **quiet,
        )
        engine.fit(model, datamodule=data)
        engine.test(model, datamodule=data, verbose=False)
    return folder


def write_models(out: Path, work: Path) -> None:
    """Scores of each recommended configuration, and of each plugin without one, after one epoch."""
    import anomalib_xray.models as plugins

    configs = recommended()
    known = {section["class_path"].rpartition(".")[2] for section in configs.values()}
    configs |= {name: {"class_path": name} for name in plugins.__all__ if name not in known}
    for name, section in configs.items():
        begin = time.perf_counter()
        try:
            folder = train(name, section, work)
        except Exception as error:  # a refusal is written down too: some published settings have no smaller form
            put(out / name / "error.txt", f"{type(error).__name__}: {error}\n", work)
            print(f"  {name}: {error}", flush=True)
            continue
        for table in ("scores.csv", "val_scores.csv"):
            for written in sorted(folder.rglob(table))[-1:]:
                put(out / name / table, written.read_text("utf-8"), work)
        print(f"  {name}: {time.perf_counter() - begin:.1f} s", flush=True)


def write_bundle(out: Path, work: Path) -> None:
    """Scores of two bundles of five radiographs, three PNG and two DICOM, one file that is none, and a model's own."""
    bundles: list[object] = []
    for name in BUNDLED:
        (checkpoint,) = train(name, recommended()[name], work).rglob("v0/**/model.ckpt")
        validation = work / "phantoms" / "valid"
        verb("bundle", "--checkpoint", checkpoint, "--out", name, "--images", validation, "--int8", "false")
        bundles += ["--bundle", name]
        print(f"  bundle {name}", flush=True)
    radiographs = work / "radiographs"
    radiographs.mkdir()
    for number, picture in enumerate(sorted((work / "phantoms" / "train").glob("**/*.png"))[:5]):
        shutil.copy(picture, radiographs / f"{number}.png")
        if number > 2:
            as_dicom(radiographs / f"{number}.png")
    (radiographs / "none.png").write_text("no picture")
    for label, given in (("both", bundles), ("one", bundles[:2])):
        verb("predict", *given, "--threads", 1, "--out", label, "radiographs", status=1)
        for table in ("scores.json", "scores.csv"):
            put(out / label / table, (work / label / table).read_text("utf-8"), work)
        keep_pictures(sorted(Path(label).rglob("*.png")), out)


def as_dicom(picture: Path) -> None:
    """Turns a PNG file into a DICOM file."""
    import cv2
    import numpy as np
    import pydicom

    pixels = np.asarray(cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE))
    picture.unlink()
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", f"1.2.3.{picture.stem}"
    data.StudyInstanceUID, data.PatientID, data.PatientName = "1.2.3", "4711", "Doe^Jane"
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "HAND", "PA"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 8, 8, 7
    data.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    data.save_as(picture.with_suffix(".dcm"), enforce_file_format=True)


def write_prepare(out: Path, work: Path) -> None:
    """The manifest and the pictures that the whole preparation makes of ten raw films."""
    verb("phantom", "--out", "films", "--patients", 8, "--prepared", "false")
    for number, film in enumerate(sorted((work / "films").glob("[tv]*/**/*.png"))[:10]):
        (work / "raw").mkdir(exist_ok=True)
        shutil.copy(film, work / "raw" / f"{number}.png")
    verb("prepare", "--root", "raw", "--out", "clean", "--config", CONFIGS / "preparation/full.yaml", "--workers", 1)
    put(out / "manifest.csv", (work / "clean" / "manifest.csv").read_text("utf-8"), work)
    pictures = sorted(Path("clean").rglob("*.png"))
    put_json(out / "sha256.json", {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in pictures}, work)
    keep_pictures(pictures, out)


def write_help(out: Path, work: Path) -> None:
    """The help of the command and of each verb."""
    whole = verb("--help")
    put(out / "anomalib-xray.txt", whole, work)
    for name in re.findall(r"^  (\S+)  ", whole.partition("verbs:")[2], re.MULTILINE):
        put(out / f"{name}.txt", verb(name, "--help"), work)


def write_settings(out: Path, work: Path) -> None:
    """Hyperparameters and data settings of each configuration; settings of each class of models and data modules."""
    from anomalib.data import AnomalibDataModule
    from anomalib.models import AnomalibModule
    from jsonargparse import ArgumentParser

    import anomalib_xray.models as plugins

    data = importlib.import_module("anomalib_xray.data")
    for name in recommended():
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument("--config", action="config")
        parser.add_argument("--trainer", type=dict)
        parser.add_subclass_arguments(AnomalibModule, "model")
        parser.add_subclass_arguments(AnomalibDataModule, "data")
        given = parser.parse_args(["--config", str(CONFIGS / f"{name}.yaml")])
        put_json(out / "configs" / f"{name}.json", dict(parser.instantiate_classes(given).model.hparams), work)
        put_json(out / "configs" / f"{name}.data.json", given.data.as_dict(), work)
    modules = [getattr(data, name) for name in data.__all__]
    modules = [kind for kind in modules if isinstance(kind, type) and issubclass(kind, AnomalibDataModule)]
    for kind in [*(getattr(plugins, name) for name in plugins.__all__), *modules]:
        parser = ArgumentParser(exit_on_error=False)
        parser.add_class_arguments(kind, "x")
        actions = [
            action for action in parser._actions if action.dest.startswith("x.") and action.default != "==SUPPRESS=="
        ]
        defaults = {action.dest[2:]: action.default for action in actions}
        types = {action.dest[2:]: str(getattr(action, "_typehint", action.type)) for action in actions}
        put_json(out / "defaults" / f"{kind.__name__}.json", defaults, work)
        put_json(out / "help" / f"{kind.__name__}.json", {action.dest[2:]: action.help for action in actions}, work)
        short = {name: re.sub(r"\b(\w+\.)+(?=[A-Z])", "", text) for name, text in types.items()}
        put_json(out / "types" / f"{kind.__name__}.json", short, work)


PARTS: dict[str, Callable[[Path, Path], None]] = {
    "models": write_models,
    "bundle": write_bundle,
    "prepare": write_prepare,
    "help": write_help,
    "settings": write_settings,
}


def compare(first: Path, second: Path) -> Iterator[str]:
    """Lines that say where a part differs."""
    files = {p.relative_to(root) for root in (first, second) for p in root.rglob("*") if p.is_file()}
    if not files:
        yield f"{first.name}: nothing was written"
    for name in sorted(files):
        pair = [root / name for root in (first, second)]
        if missing := [str(path) for path in pair if not path.is_file()]:
            yield f"missing: {missing[0]}"
        elif pair[0].read_bytes() != pair[1].read_bytes():
            yield from (f"{first.name}/{name}: {line}" for line in COMPARISONS[name.suffix](*pair))


def compare_pictures(*pair: Path) -> Iterator[str]:
    """Largest difference of pixels."""
    import cv2
    import numpy as np

    a, b = (np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), dtype=int) for path in pair)
    yield f"shape {a.shape}, {b.shape}" if a.shape != b.shape else f"pixels differ by at most {abs(a - b).max()}"


def compare_lines(*pair: Path) -> Iterator[str]:
    """Lines that only one text has."""
    a, b = (path.read_text("utf-8").splitlines() for path in pair)
    yield from (line for line in list(difflib.unified_diff(a, b, n=0, lineterm=""))[2:] if line[0] in "+-")


def compare_values(*pair: Path) -> Iterator[str]:
    """Values that differ; of numbers the largest difference in a column or under a key."""
    a, b = (dict(values_of(path)) for path in pair)
    largest: dict[str, tuple[float, str]] = {}
    for key in sorted(a.keys() | b.keys()):
        x, y = a.get(key, "nothing"), b.get(key, "nothing")
        if repr(x) == repr(y) or VOLATILE.search(key):  # repr, because nan is not itself
            continue
        try:
            difference = abs(float(x) - float(y)) if isinstance(x, str) == isinstance(y, str) else nan
        except (TypeError, ValueError):
            difference = nan
        if isinstance(x, bool) or isinstance(y, bool) or isnan(difference):
            yield f"{key}: {x!r}, {y!r}"
        elif difference > TOLERANCE * max(1, abs(float(x))):
            column = re.sub(r"^\[\d+\]\.|\[\d+\]", "", key)
            largest[column] = max(largest.get(column, (0.0, "")), (difference, f"at {key}: {x}, {y}"))
    yield from (f"{column} differs by at most {most:.3g} {where}" for column, (most, where) in largest.items())


def values_of(path: Path) -> Iterator[tuple[str, Any]]:
    """Every value in a JSON file or table with its place."""
    text = path.read_text("utf-8")
    if path.suffix == ".csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        yield "columns", ", ".join(rows[0]) if rows else text
        content: Any = rows
    else:
        content = json.loads(text)
    stack = [("", content)]
    while stack:
        place, value = stack.pop()
        if isinstance(value, dict):
            stack += [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
        elif isinstance(value, list):
            stack += [(f"{place}[{index}]", item) for index, item in enumerate(value)]
        if not (isinstance(value, dict | list) and value):
            yield place, value


COMPARISONS = {".png": compare_pictures, ".txt": compare_lines, ".csv": compare_values, ".json": compare_values}

if __name__ == "__main__":
    sys.exit(main())
