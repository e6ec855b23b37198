"""Bundles for the device: speed beside torch, and agreement with torch.

    python benchmarks/edge.py
    python benchmarks/edge.py --raw hands_example/images
    python benchmarks/edge.py --first-score --command device/bin/anomalib-xray

Takes the α-GAN at 128 pixels and the convolutional autoencoder at 512, both in full width and untrained: speed does not
depend on what the weights have learned, agreement may. Their batch normalisation has seen phantoms, as after any
training: the activations of a network that has seen nothing fade away from layer to layer, and OpenVINO computes layers
that receive hardly more than 0 in floating point even where they are quantised. With ``--raw`` it measures instead how
long raw radiographs of hands take from the file to the scores and heat maps of both models, preparation included. With
``--first-score`` it starts ``anomalib-xray predict`` anew for a PNG, a DICOM file and one of a detector's full size:
seconds by the clock, of the processor, and largest resident memory of the whole process. ``--command`` is the one of
another environment, such as the base installation alone. The figures stand in docs/results/edge.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rich.progress import track

from anomalib_xray.bundling.card import figures
from anomalib_xray.bundling.images import Sample
from anomalib_xray.bundling.speed import run_bench
from anomalib_xray.bundling.writer import Request, write_bundle
from anomalib_xray.io.read import read_radiograph, to_unit_interval
from anomalib_xray.io.write import write_atomically, write_png
from anomalib_xray.phantom import PAINTED_KINDS, RAW, render_phantom
from anomalib_xray.preparation.pipeline import Pipeline

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule
    from numpy.typing import NDArray

MODELS: dict[str, dict[str, Any]] = {"AlphaGan": {"image_size": 128}, "Cae": {"image_size": 512}}
"""Models that are measured; all other settings are the defaults, full width among them."""

DETECTOR = 2536, 2140
"""Height and width of the picture of a detector, in pixels."""

# In an interpreter that holds nothing: what a child holds at most begins with what its parent held.
_START = """
import json, os, sys, time
begin = time.perf_counter()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, 1, 0)])
_, status, usage = os.wait4(child, 0)
figures = [time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6]
print(json.dumps({"status": status, "figures": figures}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("edge_benchmark"), help="folder for bundles and figures")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS), help="models to measure")
    parser.add_argument("--images", type=int, default=200, help="phantoms that agreement is measured on")
    parser.add_argument("--runs", type=int, default=50, help="answers of each form")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--raw", type=Path, help="folder of raw radiographs of hands: measure the whole path")
    parser.add_argument("--first-score", action="store_true", help="measure the command from start to end (Unix)")
    parser.add_argument("--command", type=Path, help="with --first-score: the anomalib-xray of another environment")
    arguments = parser.parse_args()
    with warnings.catch_warnings(action="ignore"):  # of packages that anomalib imports
        if arguments.first_score:
            first_score(arguments)
        else:
            speed(arguments) if arguments.raw is None else whole_path(arguments)


def first_score(arguments: argparse.Namespace) -> None:
    """Fresh processes of ``anomalib-xray predict`` for each file, in turns; medians, of memory the largest."""
    import anomalib_xray.models as models

    # The repository's own code, except in another environment, which has its own.
    command = arguments.command or shutil.which("anomalib-xray")
    if command is None:
        raise SystemExit("There is no command anomalib-xray: install the package, or name one with --command.")
    bundle, folder = arguments.out / "first", arguments.out / "first_images"
    if not bundle.exists():
        pipeline = Pipeline.load(Path(__file__).parents[1] / "configs" / "preparation" / "full.yaml")
        samples = list(phantoms(arguments.out / "phantoms", 4))
        tiny: dict[str, Any] = {"image_size": 64, "width": 4, "latent_channels": 8, "levels": 3}
        model = getattr(models, "Cae")(**tiny).eval()  # noqa: B009  # made by name, as the others here
        write_bundle(model, Request(samples, pipeline, False, "phantoms", "Apache-2.0"), bundle)
    raw = render_phantom(np.random.default_rng(9), RAW).image
    large = cv2.resize(raw, DETECTOR[::-1], interpolation=cv2.INTER_CUBIC)
    write_png(folder / "phantom.png", raw)
    write_atomically(folder / "phantom.dcm", dicom_of(raw))
    write_atomically(folder / "detector.dcm", dicom_of(np.asarray(large, np.uint8)))
    found: dict[str, list[list[float]]] = {}
    for _ in range(min(arguments.runs, 7)):
        for path in sorted(folder.iterdir()):
            words = [command, "predict", "--bundle", bundle, path, "--out", arguments.out / "first_out"]
            launch = [sys.executable, "-I", "-S", "-c", _START, *map(str, words)]
            answer = json.loads(subprocess.run(launch, capture_output=True, text=True, check=True).stdout)
            if answer["status"]:
                raise SystemExit(f"{command} failed at {path}: run it by hand to see why.")
            found.setdefault(path.name, []).append(answer["figures"])
    print(f"{command}, medians of {len(found['phantom.png'])} processes, load {os.getloadavg()[0]:.1f}:")
    for name, measured in found.items():
        wall, processor, memory = np.array(measured).T
        times = f"{np.median(wall):.2f} s by the clock, {np.median(processor):.2f} s of the processor"
        print(f"  {name}: {times}, {memory.max():.0f} MB")


def dicom_of(image: NDArray[np.uint8]) -> bytes:
    """A radiograph of 12 bits, uncompressed, of an 8-bit picture (H, W)."""
    from io import BytesIO

    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    data_set = Dataset()
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.1")
    data_set.SOPClassUID, data_set.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3.4"
    data_set.Rows, data_set.Columns = image.shape
    data_set.SamplesPerPixel, data_set.PhotometricInterpretation = 1, "MONOCHROME2"
    data_set.BitsAllocated, data_set.BitsStored, data_set.HighBit, data_set.PixelRepresentation = 16, 12, 11, 0
    data_set.PixelData = (image.astype("<u2") * 16).tobytes()
    file = BytesIO()
    data_set.save_as(file, enforce_file_format=True)
    return file.getvalue()


def whole_path(arguments: argparse.Namespace) -> None:
    """Raw radiographs to the scores and maps of all models at once, as ``anomalib-xray predict`` does with bundles."""
    import anomalib_xray.models as models
    from anomalib_xray.edge.ensemble import Ensemble
    from anomalib_xray.edge.predictor import open_predictor
    from anomalib_xray.io.inputs import images_of

    paths = list(images_of(arguments.raw))
    pipeline = Pipeline.load(Path(__file__).parents[1] / "configs" / "preparation" / "full.yaml")
    bundles = {name: arguments.out / f"{name}-raw" for name in arguments.models}
    for name, bundle in bundles.items():
        if not bundle.exists():
            model = getattr(models, name)(**MODELS[name]).eval()
            samples = [Sample(path, 0) for path in paths[:4]]
            write_bundle(model, Request(samples, pipeline, False, "", ""), bundle)
    ensemble = Ensemble([open_predictor(bundle, threads=arguments.threads) for bundle in bundles.values()])
    seconds = []
    for path in track([paths[0], *paths[: arguments.runs]], "Scoring", transient=True):
        start = time.perf_counter()
        ensemble.predict(read_radiograph(path))
        seconds.append(time.perf_counter() - start)
    median, slow = np.quantile(seconds[1:], [0.5, 0.95])  # the first one warms up
    print(f"{' + '.join(bundles)}, {len(seconds) - 1} raw radiographs, {arguments.threads} threads:")
    print(f"  median {median:.2f} s, 95 % quantile {slow:.2f} s from the file to scores and heat maps")


def speed(arguments: argparse.Namespace) -> None:
    """Every model: its bundle, its agreement with torch over phantoms, and its speed."""
    import anomalib_xray.models as models

    samples = list(phantoms(arguments.out / "phantoms", arguments.images))
    for name in arguments.models:
        model = getattr(models, name)(**MODELS[name]).eval()
        show_pictures(model, samples[:4])
        save(model, arguments.out / f"{name}.ckpt")
        make_bundle(model, samples, arguments.out / name)
        checkpoint, table = arguments.out / f"{name}.ckpt", arguments.out / f"{name}.json"
        run_bench(arguments.out / name, checkpoint, None, arguments.runs, arguments.threads, table, None)


def show_pictures(model: AnomalibModule, samples: list[Sample]) -> None:
    """Lets the batch normalisation of a model see some pictures, and nothing else learn."""
    import torch
    from torch import nn

    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    pictures = [torch.from_numpy(to_unit_interval(read_radiograph(sample.path))) for sample in samples]
    prepare: Any = model.pre_processor
    batch = torch.cat([prepare(picture.expand(1, 3, *picture.shape)) for picture in pictures])
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # this batch alone counts; nothing trains on
    with torch.no_grad():
        model.model(batch)
    for norm in norms:
        norm.eval()


def make_bundle(model: AnomalibModule, samples: list[Sample], out: Path) -> None:
    """Writes a bundle of phantoms and prints its figures."""
    # Untrained scores have no AUROC worth keeping: the 8-bit model is wanted for its speed.
    request = Request(samples, None, True, "phantoms", "Apache-2.0", max_auroc_loss=1.0)
    print(f"{model.name}, {len(samples)} phantoms:")
    for line in figures(write_bundle(model, request, out)):
        print(f"  {line}")


def phantoms(folder: Path, count: int) -> Iterator[Sample]:
    """Draws prepared hands, every second one with an anomaly."""
    for number in track(range(count), "Drawing phantoms", transient=True):
        kind = PAINTED_KINDS[number // 2 % len(PAINTED_KINDS)] if number % 2 else None
        path = folder / f"{number}.png"
        if not path.exists():
            write_png(path, render_phantom(np.random.default_rng(number), kind=kind).image)
        yield Sample(path, number % 2)


def save(model: AnomalibModule, path: Path) -> None:
    """Writes a checkpoint as a trainer would."""
    from lightning.pytorch import Trainer

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(path)


if __name__ == "__main__":
    main()
