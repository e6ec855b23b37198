"""One cell of a benchmark, in a process of its own: ``python -m anomalib_xray.evaluation.cell FOLDER``.

The folder has ``cell.json``. The process leaves ``scores.csv`` there, and ``result.json`` with times and memory, or
with the reason why there are none.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import resource
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.build import build_data
from anomalib_xray.evaluation.plan import SHORTCUTS, Cell
from anomalib_xray.io.write import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from lightning.pytorch import Callback

CELL, RESULT, SCORES = "cell.json", "result.json", "scores.csv"

PACKAGES = ("anomalib", "torch", "anomalib-xray")


def main(folder: Path) -> int:
    """Runs a cell.

    Args:
        folder: Folder with ``cell.json``.

    Returns:
        Exit status: 0, 1 if it failed.
    """
    cell = read_cell(folder)
    try:
        result = {"status": "done", **(_measure(cell, folder) if cell.model == SHORTCUTS else _run(cell, folder))}
    except Exception as error:  # any model may fail in any way, and the grid goes on
        reason = str(error) if isinstance(error, XrayError) else f"{type(error).__name__}: {error}"
        result = {"status": "failed", "reason": " ".join(reason.split())}
    # Kibibytes on Linux.
    result["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    write_atomically(folder / RESULT, json.dumps(result, indent=1) + "\n")
    return int(result["status"] != "done")


def read_cell(folder: Path) -> Cell:
    """Reads what a cell is.

    Args:
        folder: Its folder.
    """
    return Cell(**json.loads((folder / CELL).read_text(encoding="utf-8")))


def _run(cell: Cell, folder: Path) -> dict[str, Any]:
    """Trains and tests a model."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    import torch
    from anomalib.engine import Engine
    from lightning.pytorch import seed_everything

    from anomalib_xray.components import RadiographModel
    from anomalib_xray.evaluation.contestant import build_model
    from anomalib_xray.evaluation.evidence import Evidence
    from anomalib_xray.scores.table import ScoreTable

    seed_everything(cell.seed, verbose=False)
    model = build_model(cell)
    data = build_data(cell.data_config)
    if cell.training_size is not None:
        data.train_data.samples = fewer(data.train_data.samples, cell.training_size)
    evidence = Evidence()
    # Models of this project bring the score table along.
    callbacks: list[Callback] = [evidence, *([] if isinstance(model, RadiographModel) else [ScoreTable()])]
    engine = Engine(
        default_root_dir=folder / "run",
        logger=False,
        callbacks=callbacks,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"num_sanity_val_steps": 0, **cell.trainer},
    )
    times = [time.perf_counter()]
    processor = [time.process_time()]
    engine.fit(model, datamodule=data)
    times.append(time.perf_counter())
    processor.append(time.process_time())
    engine.test(model, datamodule=data, verbose=False)
    times.append(time.perf_counter())
    processor.append(time.process_time())
    (table,) = (folder / "run").rglob(f"v*/{SCORES}")
    write_atomically(folder / SCORES, table.read_text(encoding="utf-8"))
    return {
        "training_s": times[1] - times[0],
        "training_cpu_s": processor[1] - processor[0],
        "testing_s": times[2] - times[1],
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

    Args:
        samples: The table of the training images.
        size: Number of images.

    Returns:
        A new table, in the order of ``samples``.

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


def _gflop(model: Any, image: Any) -> float | None:  # noqa: ANN401  # any model, any image
    """Multiplications and additions of scoring one image, in units of 10^9; nothing where they cannot be counted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image[None].as_subclass(torch.Tensor))
    except Exception:  # a search back-propagates, some layers cannot be traced; the figure is a by-product
        return None
    return float(counter.get_total_flops() / 1e9)


def make_data(folder: Path) -> int:
    """Lets a data set that is generated be made, so that it can be prepared.

    Args:
        folder: Folder with ``cell.json``.

    Returns:
        Exit status: 0.
    """
    build_data(read_cell(folder).data_config)
    return 0


if __name__ == "__main__":
    raise SystemExit(make_data(Path(sys.argv[2])) if sys.argv[1] == "--data" else main(Path(sys.argv[1])))
