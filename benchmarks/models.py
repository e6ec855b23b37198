"""Every model on phantoms or on real hands with painted anomalies, with several seeds and one budget.

    python benchmarks/models.py train --data phantom --epochs 30
    python benchmarks/models.py train --data hands --epochs 24 --root hands_example
    python benchmarks/models.py table

Each model has its recommended settings (``configs/<model>.yaml``) but for the constants below: 64 pixels, and
widths that two cores can train. All see the same images with the same augmentation for the same number of epochs. A
cell (model, data, seed) that is done is not run again, so that an interrupted run goes on, and several processes may
share the cells by ``--models`` and ``--seeds``. ``benchmarks/hands_example.py`` makes the hands' folder; they are
prepared here.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "configs"

EVERY_MODEL: dict[str, Any] = {"image_size": 64, "top_k": 0.005}
"""Settings of all models; every anomaly is small."""

EQUALIZE = {"phantom": False, "hands": True}
"""Real hands are partly washed out, phantoms are not."""

FOUR: dict[str, Any] = {"backbone": "resnet18", "detectors": None, "local": None}
"""All detectors that suit few pixels and phantoms of one view; the recommended two are for real radiographs."""

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "Cae": ("cae", {}),
    "Bae": ("bae", {}),
    "Bae, skip": ("bae", {"skip": True}),
    "Vae": ("vae", {}),
    "ReconstructionAe": ("reconstruction_ae", {}),
    "MemAe": ("mem_ae", {}),
    "AeU": ("ae_u", {}),
    "DualDistribution": ("dual_distribution", {}),
    "Dcgan": ("dcgan", {}),
    "Bigan": ("bigan", {"width": 16}),
    "AlphaGan": ("alphagan", {"width": 16}),
    "AnoGan": ("anogan", {}),
    "FAnoGan": ("fanogan", {}),
    "Cae, SSIM": ("ae_ssim", {}),
    "Bae, denoising": ("ae_denoising", {}),
    "FeatureAe": ("feature_ae", {}),
    "DeepSvdd": ("deep_svdd", {}),
    "PseudoLesion": ("pseudo_lesion", {}),
    "DeepOneClass": ("deep_one_class", {}),
    "Nmf": ("nmf", {}),
    "LatentDetector": ("latent_detector", {**FOUR, "layers": [1, 2, 3], "pooling": "max", "components": 32}),
    "LatentDetector, Cae": ("latent_detector", {**FOUR, "pooling": "places"}),
}
"""Configuration file and changed settings of each row."""

SIDE_BY_SIDE = 10
"""Most models in a table of all scores."""

FITTED = ("Nmf", "LatentDetector", "LatentDetector, Cae")
"""Rows that are fitted to one pass over the images instead of trained."""

FLIPS = [{"class": "HorizontalFlip", "p": 0.5}, {"class": "RandomRotate90", "p": 0.5}]
"""Augmentation of all models: hands are left and right, and phantoms lie in any direction."""

KINDS = ["plate", "screw", "ring", "lysis", "mass", "extra_phalanx"]
"""Anomalies of the phantoms: those that are there to be seen at 64 pixels, as in ``make demo``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train", help="train and test every cell that is not done")
    train.add_argument("--data", choices=["phantom", "hands"], required=True)
    train.add_argument("--models", nargs="*", default=list(SETTINGS), choices=list(SETTINGS))
    train.add_argument("--seeds", nargs="*", type=int, default=[42, 43])
    train.add_argument("--epochs", type=int, default=30)
    train.add_argument("--root", type=Path, default=Path("hands_example"), help="the hands, with table.csv")
    train.add_argument("--backbone", help="timm network of the models that have one; needs --weights")
    train.add_argument("--weights", type=Path, help="local file with its weights")
    train.add_argument(
        "--reference", type=Path, help="folder of other radiographs, one sub-folder a class: DeepOneClass"
    )
    train.add_argument("--patients", type=int, default=600, help="generated patients; give another --out")
    train.add_argument("--precision", default="32-true", help="of the trainer, e.g. bf16-mixed; give another --out")
    train.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings to try; give another --out")
    table = verbs.add_parser("table", help="print the tables of the cells that are done")
    for verb in (train, table):
        verb.add_argument("--out", type=Path, default=Path("models_results"))
    arguments = parser.parse_args()
    if arguments.verb == "table":
        print_tables(arguments.out)
        return
    changes = {name: json.loads(value) for name, value in (item.split("=", 1) for item in arguments.set)}
    for seed in arguments.seeds:
        for row in arguments.models:
            cell = arguments.out / f"{arguments.data}-{row.replace(', ', '_')}-{seed}"
            if (cell / "result.json").exists():
                continue
            result = run_cell(row, seed, arguments, cell, changes)
            (cell / "result.json").write_text(json.dumps(result, indent=1) + "\n")
            best = max(result["scores"], key=lambda name: result["scores"][name])
            print(
                f"{cell.name}: {best} {result['scores'][best]:.3f}, training {result['training_cpu_s']:.0f} CPU-s, "
                f"testing {result['testing_cpu_s']:.0f}",
                flush=True,
            )


def run_cell(row: str, seed: int, arguments: argparse.Namespace, cell: Path, changes: dict[str, Any]) -> dict[str, Any]:
    """Trains and tests one model with one seed and returns what it reached."""
    import yaml

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    from anomalib.engine import Engine

    import anomalib_xray.models
    from anomalib_xray.plugins import setting_names

    name, special = SETTINGS[row]
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]
    model_class = getattr(anomalib_xray.models, config["class_path"].rpartition(".")[2])
    settings = {**config["init_args"], **EVERY_MODEL, "equalize": EQUALIZE[arguments.data], **special, **changes}
    settings.update(_files(row, seed, arguments, settings), seed=seed)
    epochs = 1 if row in FITTED else arguments.epochs
    known = setting_names(model_class)
    if "extra_scores" in known:
        # The AnoGAN's search hides the gradient.
        settings["extra_scores"] = ["ssim"] if name == "anogan" else ["ssim", "gradient"]
    model = model_class(**{name: value for name, value in settings.items() if name in known})
    pixels = _pixel_callback()
    engine = Engine(
        max_epochs=epochs,
        check_val_every_n_epoch=epochs,
        num_sanity_val_steps=0,
        accelerator="cpu",
        precision=arguments.precision,
        logger=False,
        default_root_dir=cell,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[pixels],
    )
    data = _data(arguments)
    data.prepare_data()
    start = time.process_time()
    engine.fit(model, datamodule=data)
    trained = time.process_time()
    found = engine.test(model, datamodule=data)[0]
    return {
        "row": row,
        "data": arguments.data,
        "seed": seed,
        "epochs": epochs,
        "settings": {key: value for key, value in model.hparams.items() if _is_plain(value)},
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "scores": {
            key.removeprefix("image_AUROC_"): value for key, value in found.items() if key.startswith("image_AUROC_")
        },
        "training": {key: float(value) for key, value in engine.trainer.callback_metrics.items() if "train_" in key},
        "logged": {key: value for key, value in found.items() if key.endswith("active_units")},
        "images": len(data.test_data),
        "positives": int(data.test_data.samples.label_index.sum()),
        "training_cpu_s": trained - start,
        "testing_cpu_s": time.process_time() - trained,
        **pixels.results(),
    }


def _files(row: str, seed: int, arguments: argparse.Namespace, settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that name files: weights of a backbone, other radiographs, the checkpoint of an encoder."""
    if row == "LatentDetector, Cae":
        cell = arguments.out / f"{arguments.data}-Cae-{seed}"
        return {"checkpoint": str(sorted(cell.rglob("model.ckpt"))[-1])}
    found: dict[str, Any] = {}
    if settings.get("backbone") and arguments.weights:
        found = {"backbone": arguments.backbone, "weights": str(arguments.weights)}
    if row == "DeepOneClass":
        found["reference_root"] = str(arguments.reference)
    return found


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list | tuple)


def _data(arguments: argparse.Namespace) -> Any:
    """The pictures, prepared and small, with the augmentation that all models share."""
    from anomalib_xray.data import Radiographs
    from anomalib_xray.transforms import Augmentation

    _read_each_picture_once()
    if arguments.data == "phantom":
        table, prepared = _phantoms(arguments.out / "phantoms", arguments.patients), None
    else:
        table = arguments.root / "table.csv"
        prepared = _prepared(arguments.out, table)
    return Radiographs(
        table=table,
        prepared_root=prepared,
        train_batch_size=8,
        eval_batch_size=16,
        num_workers=0,
        train_augmentations=Augmentation(FLIPS),
    )


def _phantoms(root: Path, patients: int) -> Path:
    """Draws the phantoms once and writes their table, whose masks the preparation needs."""
    from anomalib_xray.data import Phantom

    table = root / "table.csv"
    if not table.exists():
        data = Phantom(root=root, patients=patients, positive_share=0.15, kinds=KINDS)
        data.prepare_data()
        samples = data.samples.assign(label=data.samples.label_index)
        for column in ("image_path", "mask_path"):
            samples[column] = [os.path.relpath(path, root.resolve()) if path else "" for path in samples[column]]
        samples[["image_path", "label", "patient", "study", "split", "mask_path"]].to_csv(table, index=False)
    return table


def _prepared(out: Path, table: Path) -> Path:
    """Prepares the hands of a table once."""
    from anomalib_xray.cli import main as anomalib_xray

    prepared = out / "hands_prepared"
    source = ["--root", str(table.parent), "--table", str(table), "--out", str(prepared)]
    if not (prepared / "manifest.csv").exists() and anomalib_xray(
        ["prepare", "--config", str(CONFIGS / "preparation" / "full.yaml"), *source]
    ):
        raise SystemExit(f"{prepared} could not be prepared.")
    return prepared


def _read_each_picture_once() -> None:
    """Keeps pictures in memory at the models' size; reading them anew in every epoch takes longer than training."""
    from functools import cache

    from anomalib_xray.data import dataset, kept_pictures
    from anomalib_xray.transforms import PadResize

    geometry, read_image, read_picture = (
        PadResize(EVERY_MODEL["image_size"]), dataset.read_image, kept_pictures.read_picture,
    )  # fmt: skip

    @cache
    def small_image(path: str) -> Any:
        return geometry(read_image(path))

    @cache
    def small_picture(image_path: str, mask_path: str) -> Any:
        image, mask = read_picture(image_path, mask_path)
        return (geometry(image), None) if mask is None else geometry(image, mask)

    dataset.read_image = small_image
    dataset.read_picture = kept_pictures.read_picture = small_picture


def _pixel_callback() -> Any:
    """A callback that compares maps and masks of the test images."""
    import numpy as np
    from lightning.pytorch import Callback
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    class Pixels(Callback):
        """Takes part before the post-processor, so that maps are raw."""

        def __init__(self) -> None:
            self.values: list[Any] = []
            self.truth: list[Any] = []

        def on_test_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:  # noqa: ARG002
            if batch.anomaly_map is None or batch.gt_mask is None:
                return
            inside = batch.image.amax(1) > 0
            self.values.append(batch.anomaly_map[inside].cpu().numpy())
            self.truth.append(batch.gt_mask.reshape(inside.shape)[inside].bool().cpu().numpy())

        def results(self) -> dict[str, float]:
            """AUROC and best Dice over all foreground pixels of the test images."""
            if not self.values:
                return {}
            values, truth = np.concatenate(self.values), np.concatenate(self.truth)
            precision, recall, _ = precision_recall_curve(truth, values)
            dice = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
            return {"pixel_AUROC": float(roc_auc_score(truth, values)), "best_dice": float(dice.max())}

    return Pixels()


def print_tables(out: Path) -> None:
    """Prints a table of the models and one of all scores for each data set."""
    results = [json.loads(path.read_text()) for path in sorted(out.glob("*/result.json"))]
    for data in sorted({result["data"] for result in results}):
        rows = {row: [one for one in results if one["data"] == data and one["row"] == row] for row in SETTINGS}
        rows = {row: cells for row, cells in rows.items() if cells}
        one = next(iter(rows.values()))[0]
        print(f"\n## {data}: {one['images']} test images, {one['positives']} abnormal\n")
        print("| model | parameters | best score | AUROC | pixel AUROC | best Dice | epochs | training CPU-s |")
        print("|---|---|---|---|---|---|---|---|")
        for row, cells in rows.items():
            means = {name: _mean(cells, name) for name in cells[0]["scores"]}
            best = max(means, key=lambda name: means[name])
            print(
                f"| {row} | {cells[0]['parameters']:,} | `{best}` | {_figure([c['scores'][best] for c in cells])} | "
                f"{_figure([c[k] for c in cells] if (k := 'pixel_AUROC') in cells[0] else [])} | "
                f"{_figure([c[k] for c in cells] if (k := 'best_dice') in cells[0] else [])} | "
                f"{cells[0]['epochs']} | {statistics.mean(c['training_cpu_s'] for c in cells):.0f} |"
            )
        for start in range(0, len(rows), SIDE_BY_SIDE):
            _print_scores(dict(list(rows.items())[start : start + SIDE_BY_SIDE]))


def _print_scores(rows: dict[str, list[dict[str, Any]]]) -> None:
    """Prints every score of some models."""
    names = list(dict.fromkeys(name for cells in rows.values() for name in cells[0]["scores"]))
    print(f"\n| score | {' | '.join(rows)} |")
    print(f"|---|{'---|' * len(rows)}")
    for name in names:
        found = [_figure([c["scores"][name] for c in cells if name in c["scores"]]) for cells in rows.values()]
        print(f"| `{name}` | {' | '.join(found)} |")


def _mean(cells: list[dict[str, Any]], name: str) -> float:
    return statistics.mean(cell["scores"][name] for cell in cells)


def _figure(values: list[float]) -> str:
    """Mean and, over several seeds, standard deviation."""
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}".replace("0.", ".")


if __name__ == "__main__":
    main()
