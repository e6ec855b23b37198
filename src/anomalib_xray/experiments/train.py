"""One cell of a benchmark as a task: a model is trained and tested, or numbers that need no model are measured.

A cell leaves ``scores.csv`` in its folder, and in its result times, memory and what else the tables show.
"""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.configuration import begin, build_data, engine_for
from anomalib_xray.experiments.grid import SHORTCUTS, Cell
from anomalib_xray.io.write import write_atomically
from anomalib_xray.jobs import SCRATCH, Task

if TYPE_CHECKING:
    import pandas as pd

SCORES, TOP_K, CASES = "scores.csv", "top_k.csv", "cases"
"""Scores of each image; scores for several k; folder of the most telling pictures. All lie in the cell's folder."""

PACKAGES = ("anomalib", "torch", "anomalib-xray")


def run_cell(task: Task) -> dict[str, Any]:
    """Runs a cell, whose settings are the arguments of the task; returns what was measured besides the scores."""
    cell = Cell(**task.arguments)
    return (_measure if cell.model == SHORTCUTS else _train_and_test)(cell, task.folder)


def make_data(task: Task) -> None:
    """Has the data set of a cell made that is generated, so that it can be prepared."""
    build_data(Cell(**task.arguments).data_config)


def _train_and_test(cell: Cell, folder: Path) -> dict[str, Any]:
    begin(cell.seed)
    import torch

    from anomalib_xray.experiments.contestant import build_model
    from anomalib_xray.experiments.evidence import Evidence

    model = build_model(cell)
    data = build_data(cell.data_config)
    if cell.training_size is not None:
        data.train_data.samples = fewer(data.train_data.samples, cell.training_size)
    evidence = Evidence()
    engine = engine_for(model, cell.trainer, folder, evidence)
    times = [(time.perf_counter(), time.process_time())]
    engine.fit(model, datamodule=data)
    times.append((time.perf_counter(), time.process_time()))
    engine.test(model, datamodule=data, verbose=False)
    times.append((time.perf_counter(), time.process_time()))
    (table,) = (folder / SCRATCH).rglob(f"v*/{SCORES}")
    write_atomically(folder / SCORES, table.read_bytes())
    return {
        "training_s": times[1][0] - times[0][0],
        "training_cpu_s": times[1][1] - times[0][1],
        "testing_s": times[2][0] - times[1][0],
        "images": len(data.test_data),
        "training_images": len(data.train_data),
        "pixel": evidence.write(folder),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "gflop": _gflop(model.eval().cpu(), data.test_data[0].image),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def fewer(samples: pd.DataFrame, size: int) -> pd.DataFrame:
    """Draws training images; a larger draw holds the smaller ones, so that a curve over sizes is not one over draws.

    Raises:
        XrayError: There are not so many.
    """
    if size > len(samples):
        raise XrayError(f"There are only {len(samples)} training images, not {size}; lower training_sizes.")
    drawn = samples.sample(frac=1, random_state=0).index[:size]
    return samples[samples.index.isin(drawn)].reset_index(drop=True)


def _measure(cell: Cell, folder: Path) -> dict[str, Any]:
    """Writes a score table of numbers that need no model, and finds their directions on validation images."""
    import pandas as pd

    from anomalib_xray.evaluation.shortcuts import direction_of, shortcut_numbers
    from anomalib_xray.io.read import read_radiograph

    samples: pd.DataFrame | None = getattr(build_data(cell.data_config), "samples", None)
    if samples is None:
        raise XrayError("Shortcuts are measured of this project's data sets only, whose tables say who is whose.")

    def numbers_of(rows: pd.DataFrame) -> pd.DataFrame:
        return pd.DataFrame([shortcut_numbers(read_radiograph(path)) for path in rows["image_path"]])

    test, validation = (samples[samples["split"] == split] for split in ("test", "val"))
    ids = test[["image_path", "patient", "study"]].assign(label=test["label_index"])
    ids["source_path"] = test["source"] if "source" in test else test["image_path"]
    write_atomically(folder / SCORES, ids.reset_index(drop=True).join(numbers_of(test)).to_csv(index=False))
    directions = {}
    if set(validation["label_index"]) == {0, 1}:
        directions = {
            str(name): direction_of(validation["label_index"], numbers)
            for name, numbers in numbers_of(validation).items()
        }
    return {"images": len(test), "directions": directions}


def _gflop(model: Any, image: Any) -> float | None:
    """Multiplications and additions of scoring one image, in units of 10^9; nothing where they cannot be counted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image[None].as_subclass(torch.Tensor))
    except Exception:  # a search back-propagates, some layers cannot be traced; the figure is a by-product
        return None
    return float(counter.get_total_flops() / 1e9)
