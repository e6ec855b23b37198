"""Dual-distribution ensembles on chest radiographs, with pools of several anomaly rates, beside shortcut baselines.

    python benchmarks/chest.py train --root PATH/TO/chest --epochs 20
    python benchmarks/chest.py table --root PATH/TO/chest

``PATH/TO/chest`` has one folder of normal pictures and others of abnormal ones (datasets/chest/README.md). They are
stretched to squares first (configs/preparation/chest_square.yaml), because their shape tells normal from abnormal. 200
normal images train, 150 of which the given share is abnormal are the unlabelled pool, 100 + 100 test; no patient is in
two of these. The split stays, the models' seed varies. A cell that is done is not run again, so that an interrupted run
goes on, and several processes may share the cells by ``--backbones``, ``--rates`` and ``--seeds``.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "configs"
BACKBONES = ("ae", "mem_ae", "ae_u")
RATES = (0.0, 0.3, 0.6)
SCORES = ("rec", "rec_ensemble", "intra", "inter")
POOL = 150
BATCH = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    train = verbs.add_parser("train", help="train and test every cell that is not done")
    train.add_argument("--backbones", nargs="*", default=list(BACKBONES), choices=BACKBONES)
    train.add_argument("--rates", nargs="*", type=float, default=list(RATES))
    train.add_argument("--seeds", nargs="*", type=int, default=[42, 43, 44])
    train.add_argument("--epochs", type=int, default=20)
    table = verbs.add_parser("table", help="print the tables of the cells that are done")
    for verb in (train, table):
        verb.add_argument("--root", type=Path, required=True, help="folder of the radiographs")
        verb.add_argument("--out", type=Path, default=Path("chest_results"))
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    if arguments.verb == "table":
        print_tables(arguments)
        return
    # Seeds outermost: after one round every cell of the table has a figure.
    for seed in arguments.seeds:
        for rate in arguments.rates:
            for backbone in arguments.backbones:
                cell = arguments.out / f"{backbone}-{rate:g}-{seed}"
                if (cell / "result.json").exists():
                    continue
                result = run_cell(arguments, backbone, rate, seed, cell)
                (cell / "result.json").write_text(json.dumps(result, indent=1) + "\n")
                figures = ", ".join(f"{name} {result['scores'][name]:.3f}" for name in SCORES)
                print(f"{cell.name}: {figures}, training {result['training_cpu_s']:.0f} CPU-s", flush=True)


def run_cell(arguments: argparse.Namespace, backbone: str, rate: float, seed: int, cell: Path) -> dict[str, Any]:
    """Trains and tests the ensembles of one backbone with one pool and one seed."""
    import yaml
    from anomalib.engine import Engine

    from anomalib_xray.models import DualDistribution

    settings = yaml.safe_load((CONFIGS / "dual_distribution.yaml").read_text())["model"]["init_args"]
    model = DualDistribution(**{**settings, "backbone": backbone, "seed": seed})
    engine = Engine(
        max_epochs=arguments.epochs,
        check_val_every_n_epoch=arguments.epochs,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        default_root_dir=cell,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = _data(arguments, rate)
    start = time.process_time()
    engine.fit(model, datamodule=data)
    trained = time.process_time()
    found = engine.test(model, datamodule=data)[0]
    prefix = "image_AUROC_"
    return {
        "backbone": backbone,
        "rate": rate,
        "seed": seed,
        "epochs": arguments.epochs,
        "scores": {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)},
        "images": data.samples["split"].value_counts().to_dict(),
        "training_cpu_s": trained - start,
    }


def _data(arguments: argparse.Namespace, rate: float) -> Any:
    """The chests, prepared once."""
    from anomalib_xray.data import ChestFolder, UnlabelledPool

    return ChestFolder(
        arguments.root,
        pool=UnlabelledPool(POOL, rate),
        prepared_root=_prepared(arguments),
        train_batch_size=BATCH,
        num_workers=0,
    )


def _prepared(arguments: argparse.Namespace) -> Path:
    """Stretches the pictures to squares once."""
    from anomalib_xray.cli import main as anomalib_xray

    prepared: Path = arguments.out / "prepared"
    config = CONFIGS / "preparation" / "chest_square.yaml"
    command = ["prepare", "--config", str(config), "--root", str(arguments.root), "--out", str(prepared)]
    if not (prepared / "manifest.csv").exists() and anomalib_xray(command):
        raise SystemExit(f"{prepared} could not be prepared.")
    return prepared


def print_tables(arguments: argparse.Namespace) -> None:
    """Prints a table for each anomaly rate, and the shortcut baselines."""
    results = [json.loads(path.read_text()) for path in sorted(arguments.out.glob("*/result.json"))]
    for rate in sorted({result["rate"] for result in results}):
        rows = {name: [one for one in results if (one["backbone"], one["rate"]) == (name, rate)] for name in BACKBONES}
        rows = {name: cells for name, cells in rows.items() if cells}
        seeds, epochs = (sorted({one[key] for cells in rows.values() for one in cells}) for key in ("seed", "epochs"))
        print(f"\n## Anomaly rate {rate:g}: seeds {seeds}, {epochs} epochs\n")
        print(f"| score | {' | '.join(rows)} |")
        print(f"|---|{'---|' * len(rows)}")
        for score in SCORES:
            print(
                f"| `{score}` | {' | '.join(_figure([c['scores'][score] for c in cells]) for cells in rows.values())} |"
            )
    print("\n## Shortcuts: AUROC of one number of the picture, before and after preparation\n")
    print("| number | as they came | prepared |")
    print("|---|---|---|")
    before, after = (_shortcuts(arguments, prepared) for prepared in (None, _prepared(arguments)))
    for name in before:
        print(f"| {name} | {before[name]:.3f} | {after[name]:.3f} |")


def _shortcuts(arguments: argparse.Namespace, prepared: Path | None) -> dict[str, float]:
    """AUROC of numbers that need no model, higher = abnormal, on the test images."""
    from sklearn.metrics import roc_auc_score

    from anomalib_xray.data import ChestFolder
    from anomalib_xray.evaluation.shortcuts import shortcut_numbers
    from anomalib_xray.io.read import read_radiograph

    samples = ChestFolder(arguments.root, prepared_root=prepared).samples.query("split == 'test'")
    numbers: dict[str, list[float]] = {}
    for path in samples["image_path"]:
        for name, number in shortcut_numbers(read_radiograph(path)).items():
            numbers.setdefault(name, []).append(number)
    return {name: float(roc_auc_score(samples["label_index"], values)) for name, values in numbers.items()}


def _figure(values: list[float]) -> str:
    """Mean and, over several seeds, standard deviation."""
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.3f}{spread}".replace("0.", ".")


if __name__ == "__main__":
    main()
