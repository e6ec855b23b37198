"""The task of one cell of a grid: a model is trained and tested, or numbers that need no model are measured.

A cell leaves ``scores.csv`` in its folder, after a validation also ``val_scores.csv``, and in its result times, memory
and other figures of the tables.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.edge.description import installed_versions
from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import VALIDATION_SCORES
from anomalib_xray.experiments.configuration import begin, build, build_data, class_of, engine_for
from anomalib_xray.experiments.grid import SCORES, SHORTCUTS, Cell
from anomalib_xray.experiments.tracking import Tracker, log_results
from anomalib_xray.io.write import write_atomically
from anomalib_xray.jobs import SCRATCH, Task
from anomalib_xray.plugins import setting_names

if TYPE_CHECKING:
    import pandas as pd
    from anomalib.models import AnomalibModule
    from lightning.pytorch.loggers import Logger


def run_cell(task: Task) -> dict[str, Any]:
    """Runs a cell, whose settings are the arguments of the task; returns figures besides the scores.

    With the further argument ``tracker``, the fields of a :class:`.tracking.Tracker`, it is a run there as well.
    """
    arguments = dict(task.arguments)
    place = arguments.pop("tracker", None)
    cell = Cell(**arguments)
    logger = None if place is None else Tracker(**place).logger(cell)
    try:
        return (_measure if cell.model == SHORTCUTS else _train_and_test)(cell, task.folder, logger)
    except BaseException:
        if logger is not None:
            logger.finalize("failed")
        raise


def make_data(task: Task) -> None:
    """Generates the data set of a cell, so that it can be prepared."""
    build_data(Cell(**task.arguments).data_config)


def _train_and_test(cell: Cell, folder: Path, logger: Logger | None = None) -> dict[str, Any]:
    begin(cell.seed)
    import torch

    from anomalib_xray.experiments.evidence import Evidence

    model = build_model(cell)
    data = build_data(cell.data_config)
    if cell.training_size is not None:
        data.train_data.samples = fewer(data.train_data.samples, cell.training_size)
    evidence = Evidence(folder)
    engine = engine_for(model, cell.trainer, folder, evidence, logger=logger)
    times = [(time.perf_counter(), time.process_time())]
    engine.fit(model, datamodule=data)
    times.append((time.perf_counter(), time.process_time()))
    engine.test(model, datamodule=data, verbose=False)
    times.append((time.perf_counter(), time.process_time()))
    (table,) = (folder / SCRATCH).rglob(f"v*/{SCORES}")
    write_atomically(folder / SCORES, table.read_bytes())
    if (validation := table.with_name(VALIDATION_SCORES)).is_file():
        write_atomically(folder / VALIDATION_SCORES, validation.read_bytes())
    result = {
        "training_s": times[1][0] - times[0][0],
        "training_cpu_s": times[1][1] - times[0][1],
        "testing_s": times[2][0] - times[1][0],
        "images": len(data.test_data),
        "training_images": len(data.train_data),
        **_labelled(model, data),
        **evidence.facts,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}",
        "parameters": sum(weight.numel() for weight in model.model.parameters()),
        "gflop": _gflop(model.eval().cpu(), data.test_data[0].image),
        "threads": torch.get_num_threads(),
        "versions": installed_versions("anomalib", "torch", "anomalib-xray"),
    }
    if logger is not None:
        log_results(logger, folder, result, evidence.cases)
    return result


def _labelled(model: AnomalibModule, data: Any) -> dict[str, int]:
    """Number of labelled abnormal images that a model trained with, if it does."""
    labelled = getattr(data, "labelled_data", None) if getattr(model, "uses_labels", False) else None
    return {} if labelled is None else {"labelled_images": len(labelled)}


def build_model(cell: Cell) -> AnomalibModule:
    """Builds the model of a cell: one of this project's, or one of anomalib's with its pre-processing at a given size.

    Seed and equalisation go to models that take them; before the pre-processing of the others, the foreground is
    equalised in the same way.
    """
    from anomalib.models import AnomalibModule
    from torchvision.transforms.v2 import Compose

    import anomalib_xray.models  # noqa: F401  # makes the plugins known
    from anomalib_xray.training.radiograph_model import RadiographModel
    from anomalib_xray.transforms.grey_levels import EqualizeForeground

    class_path: str = cell.model_config["class_path"]
    model_class: Any = class_of(class_path)
    arguments = setting_names(model_class)
    changes = {"seed": cell.seed, "equalize": cell.equalize}
    init_args = {**cell.model_config["init_args"], **{key: changes[key] for key in changes if key in arguments}}
    equalizes_itself = "equalize" in arguments
    if cell.image_size is not None or (cell.equalize and not equalizes_itself):
        init_args["pre_processor"] = _pre_processor(model_class, cell.image_size)
    if cell.equalize and not equalizes_itself:
        pre_processor = init_args["pre_processor"]
        pre_processor.transform = Compose([EqualizeForeground(), *filter(None, [pre_processor.transform])])
    if "evaluator" in arguments and not issubclass(model_class, RadiographModel):
        # Some evaluators of anomalib's refuse data without masks; the figures come from the score table anyhow.
        init_args.setdefault("evaluator", False)
    with local_weights(cell.weights):
        model: AnomalibModule = build(AnomalibModule, {"class_path": class_path, "init_args": init_args})
    return model


def _pre_processor(model_class: Any, side: int | None) -> Any:
    """A model's own pre-processing at a side, of the whole picture: some cut its middle out, and limbs off with it."""
    from anomalib.pre_processing import PreProcessor
    from torchvision.transforms.v2 import CenterCrop, Compose, Resize

    own = model_class.configure_pre_processor(image_size=None)
    parts = getattr(own.transform, "transforms", [])
    if side is None:
        return own
    if not any(isinstance(part, CenterCrop) for part in parts):
        return model_class.configure_pre_processor(image_size=(side, side))
    whole = [part for part in parts if not isinstance(part, CenterCrop | Resize)]
    return PreProcessor(transform=Compose([Resize((side, side), antialias=True), *whole]))


@contextmanager
def local_weights(path: str | None) -> Iterator[None]:
    """Has timm take trained weights from a file, for which models have no argument; without one it looks itself."""
    from unittest.mock import patch

    import timm

    from anomalib_xray.networks.backbone import fill

    create = timm.create_model

    def create_from_file(model_name: str, pretrained: bool = False, **settings: Any) -> Any:
        if path is None and pretrained:
            try:
                return create(model_name, pretrained=True, **settings)
            except Exception as error:  # a download fails in many ways
                msg = f"timm finds no trained weights of {model_name}; give a local file of them as weights."
                raise XrayError(msg) from error
        network = create(model_name, pretrained=False, **settings)
        if pretrained:
            fill(network, str(path), model_name)
        return network

    with patch.object(timm, "create_model", create_from_file):
        yield


def fewer(samples: pd.DataFrame, size: int) -> pd.DataFrame:
    """Draws training images; a larger draw holds the smaller ones, so that only the size differs along a curve."""
    if size > len(samples):
        raise XrayError(f"There are only {len(samples)} training images, not {size}; lower training_sizes.")
    drawn = samples.sample(frac=1, random_state=0).index[:size]
    return samples[samples.index.isin(drawn)].reset_index(drop=True)


def _measure(cell: Cell, folder: Path, logger: Logger | None = None) -> dict[str, Any]:
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
    result = {"images": len(test), "directions": directions}
    if logger is not None:
        log_results(logger, folder, result, {})
    return result


def _gflop(model: Any, image: Any) -> float | None:
    """Multiplications and additions of scoring one image, in units of 10^9; ``None`` if they cannot be counted."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(image[None].as_subclass(torch.Tensor))
    except Exception:  # a search back-propagates, some layers cannot be traced; the figure is a by-product
        return None
    return float(counter.get_total_flops() / 1e9)
