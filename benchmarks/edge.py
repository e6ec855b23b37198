"""Bundles for the device: speed beside torch, and agreement with torch.

    python benchmarks/edge.py
    python benchmarks/edge.py --raw hands_example/images

Takes the α-GAN at 128 pixels and the convolutional autoencoder at 512, both in full width and untrained: speed does not
depend on what the weights have learned, agreement may. With ``--raw`` it measures instead how long raw radiographs of
hands take from the file to the scores and heat maps of both models, preparation included. The figures stand in
docs/results/edge.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import track

from anomalib_xray.bundling.card import figures
from anomalib_xray.bundling.images import Sample
from anomalib_xray.bundling.speed import run_bench
from anomalib_xray.bundling.writer import Request, write_bundle
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import PAINTED_KINDS, render_phantom
from anomalib_xray.preparation.pipeline import Pipeline

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

MODELS: dict[str, dict[str, Any]] = {"AlphaGan": {"image_size": 128}, "Cae": {"image_size": 512}}
"""Models that are measured; all other settings are the defaults, full width among them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("edge_benchmark"), help="folder for bundles and figures")
    parser.add_argument("--models", nargs="+", choices=sorted(MODELS), default=list(MODELS), help="models to measure")
    parser.add_argument("--images", type=int, default=200, help="phantoms that agreement is measured on")
    parser.add_argument("--runs", type=int, default=50, help="answers of each form")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--raw", type=Path, help="folder of raw radiographs of hands: measure the whole path")
    arguments = parser.parse_args()
    with warnings.catch_warnings(action="ignore"):  # of packages that anomalib imports
        speed(arguments) if arguments.raw is None else whole_path(arguments)


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
        save(model, arguments.out / f"{name}.ckpt")
        make_bundle(model, samples, arguments.out / name)
        checkpoint, table = arguments.out / f"{name}.ckpt", arguments.out / f"{name}.json"
        run_bench(arguments.out / name, checkpoint, None, arguments.runs, arguments.threads, table, None)


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
