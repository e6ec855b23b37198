"""Measures the report of a large benchmark: time and memory of reading its cells, and of writing tables and page.

    python benchmarks/reports.py
    python benchmarks/reports.py --models 60 --seeds 1 --data 1     # 60 models x 1,500 images

No model is trained: score tables, tables of k and pictures of cases are made up. Each figure is of a fresh interpreter,
in CPU time as well as in wall time, because the machine may be shared. The figures stand in docs/results/scale.md.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.evaluation.units import LEVELS, VALIDATION_SCORES
from anomalib_xray.experiments.grid import CASES, CHARACTERISTICS, MARKS, SCORES, SHORTCUTS, TOP_K, Cell, Grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.io.text import write_json
from anomalib_xray.io.write import write_atomically, write_png
from anomalib_xray.jobs import RESULT
from anomalib_xray.report.page import REPORT

NAMED = ("mse", "mse_top_k", "ssim")
"""Scores of a made-up model."""

SIDE = 128  # pixels of the pictures of cases
IMAGES_A_PATIENT = 3
MARKS_A_PICTURE = 5
SIZED, SIZES, SIZED_SEEDS = 4, (100, 300, 1000), 2  # models that also train on fewer images, how many, and seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=int, default=4, help="data sets")
    parser.add_argument("--models", type=int, default=20, help="models")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of a model")
    parser.add_argument("--images", type=int, default=1500, help="test images of a data set")
    parser.add_argument("--level", default="image", choices=list(LEVELS))
    parser.add_argument("--out", type=Path, help="folder of made-up results, which is used again if it has them")
    arguments = parser.parse_args()
    grid = made_up(arguments.data, arguments.models, arguments.seeds, arguments.level)
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        for cell in grid.all_cells:
            if not (folder_of(out, cell) / RESULT).is_file():
                finish(out, cell, arguments.images)
        print(f"{len(grid.all_cells)} cells of {arguments.images} images")
        print("| step | CPU time, s | wall time, s | memory until then, GiB |\n|---|---|---|---|")
        for name, spent in measured(_report, grid, out).items():
            print(f"| {name} | {spent.cpu:.1f} | {spent.wall:.1f} | {spent.peak_gib:.2f} |")
        print(f"report.html: {(out / REPORT).stat().st_size / 1e6:.1f} MB")


@dataclass(frozen=True)
class Spent:
    """CPU and wall time in seconds, and the largest memory of the process until then."""

    cpu: float
    wall: float
    peak_gib: float


def measured(function: Any, *arguments: Any) -> dict[str, Spent]:
    """Runs a generator of names in a fresh interpreter and measures each of its steps, and its start."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=_measure, args=(sender, time.time(), function, *arguments)
    )
    process.start()
    sender.close()
    found: dict[str, Spent] = {}
    try:
        while True:
            found |= receiver.recv()
    except EOFError:
        process.join()
    if process.exitcode:
        raise SystemExit(process.exitcode)
    return found


def _measure(sender: Connection, begun: float, function: Any, *arguments: Any) -> None:
    wall, cpu = begun, 0.0
    for name in function(*arguments):
        used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        total = sum(one.ru_utime + one.ru_stime for one in used)
        now = time.time()
        # Not ru_maxrss, which begins with the memory of the process that started this one.
        status = Path("/proc/self/status").read_text().splitlines()
        (peak,) = [line.split()[1] for line in status if line.startswith("VmHWM:")]
        sender.send({name: Spent(total - cpu, now - wall, int(peak) / 2**20)})
        cpu, wall = total, now


def _report(grid: Grid, out: Path) -> Any:
    from anomalib_xray.report.page import write_report
    from anomalib_xray.report.results import CellOutputs, read_rows
    from anomalib_xray.report.tables import write_tables

    yield "start"
    outputs = CellOutputs(grid, out)
    rows = read_rows(outputs)
    yield "figures"
    write_tables(rows, grid, out)
    yield "tables"
    write_report(rows, outputs, out)
    yield "page"


def made_up(data: int, models: int, seeds: int, level: str) -> Grid:
    """A grid of made-up data sets and models, of which some also train on fewer images."""
    sets = {f"data{place}": {"class_path": "Made", "init_args": {"root": f"data{place}"}} for place in range(data)}
    names = [f"Model{place:02}" for place in range(models)]
    cells, curve_cells = [], []
    for name, config in sets.items():
        cells.append(Cell(SHORTCUTS, name, "raw", False, 0, {}, config))
        for seed in range(seeds):
            for place, model in enumerate(names):
                settings = {"class_path": f"made.{model}", "init_args": {"score": "mse"}}
                cell = Cell(model, name, "raw", False, seed, settings, config)
                cells.append(cell)
                if place < SIZED and seed < SIZED_SEEDS and seeds > 1:
                    curve_cells += [Cell(**{**vars(cell), "training_size": size}) for size in SIZES]
    scores = {names[0]: ["pred_score", "mse_top_k"]}
    selection = dict.fromkeys(names, "label-free")
    return Grid("Made up", cells, {"raw": None}, names[-1], level, scores, selection, curve_cells)


def finish(out: Path, cell: Cell, images: int) -> None:
    """Writes what a cell leaves."""
    from anomalib_xray.experiments.evidence import COUNTS, SHARES  # which import torch: a report does not

    folder = folder_of(out, cell)
    of_data = np.random.default_rng(int(cell.data.removeprefix("data")))
    random = np.random.default_rng(list(cell.key.encode()))
    patients = np.arange(images) // IMAGES_A_PATIENT
    label = (of_data.random(patients.max() + 1) < 0.3)[patients].astype(int)
    paths = [
        f"/srv/radiographs/{cell.data}/test/XR_HAND/patient{patient:05}/study1_{'positive' if ill else 'negative'}/"
        f"image{place % IMAGES_A_PATIENT + 1}.png"
        for place, (patient, ill) in enumerate(zip(patients, label, strict=True))
    ]
    ids = pd.DataFrame({"image_path": paths, "source_path": paths})
    ids["patient"] = [f"patient{patient:05}" for patient in patients]
    ids["study"] = "study1"
    table = ids.assign(label=label)
    result: dict[str, Any] = {"status": "done", "images": images, "peak_memory_gib": 1.0}
    if cell.model == SHORTCUTS:
        table = table.assign(**{name: random.normal(size=images) + 0.1 * label for name in NUMBERS})
        result["directions"] = dict.fromkeys(NUMBERS, 1)
    else:
        strength = int(cell.model.removeprefix("Model")) / 20
        named = {name: strength * label + random.normal(size=images) for name in NAMED}
        table = table.assign(pred_label=(named["mse"] > 1.6).astype(int), pred_score=named["mse"], **named)
        by_k = {f"k={k}": strength * label + random.normal(size=images) for k in (*COUNTS, *SHARES)}
        write_atomically(folder / TOP_K, ids[["image_path"]].assign(label=label, **by_k).to_csv(index=False))
        _write_cases(folder / CASES, table, random)
        _write_more(folder, table, random)
        result |= {"training_s": 600.0, "testing_s": 30.0, "training_images": cell.training_size or 3000}
        result |= {"parameters": 1_000_000, "gflop": 0.1 + strength, "threads": 1, "machine": "made up"}
        result |= {"pixel": {"AUROC": 0.7, "AUPRO": 0.4, "Dice": 0.2}, "versions": {"torch": "0"}}
    write_atomically(folder / SCORES, table.sample(frac=1, random_state=cell.seed).to_csv(index=False))
    write_json(folder / RESULT, result)


def _write_more(folder: Path, table: pd.DataFrame, random: np.random.Generator) -> None:
    """Scores of a validation, what is said of the images, and lesions with false marks."""
    validation = table.assign(mse=random.normal(size=len(table)), label=0)
    write_atomically(folder / VALIDATION_SCORES, validation.assign(pred_score=validation["mse"]).to_csv(index=False))
    said = table[["image_path"]].assign(view=random.choice(["frontal", "lateral"], len(table)))
    said["age"] = random.integers(90, size=len(table))
    write_atomically(folder / CHARACTERISTICS, said.to_csv(index=False))
    lesions = table.loc[table["label"] == 1, ["image_path", "label"]]
    lesions = lesions.assign(heat=random.normal(1, size=len(lesions)), side=random.random(len(lesions)))
    marks = pd.concat([table.loc[table["label"] == 0, ["image_path", "label"]]] * MARKS_A_PICTURE)
    marks = marks.assign(heat=random.normal(size=len(marks)), side=None)
    write_atomically(folder / MARKS, pd.concat([lesions, marks]).to_csv(index=False))


def _write_cases(folder: Path, table: pd.DataFrame, random: np.random.Generator) -> None:
    from anomalib_xray.experiments.evidence import CASES_PER_KIND, KINDS

    rows = []
    for kind in KINDS:
        for rank in range(CASES_PER_KIND):
            stem, row = f"{kind.replace(' ', '_')}_{rank + 1}", table.iloc[rank]
            write_png(folder / f"{stem}.png", random.integers(256, size=(SIDE, SIDE)).astype(np.uint8))
            write_png(folder / f"{stem}_map.png", random.integers(65536, size=(SIDE, SIDE)).astype(np.uint16))
            case = {"kind": kind, "image": f"{stem}.png", "map": f"{stem}_map.png", "low": 0.0, "high": 1.0, "mask": ""}
            rows.append({**case, **{key: row[key] for key in ("image_path", "label")}, "score": row["pred_score"]})
    write_atomically(folder / "cases.csv", pd.DataFrame(rows).to_csv(index=False))


if __name__ == "__main__":
    main()
