"""Adaptation of anomalib's engine: data and checkpoints are checked first, records keep their places."""

from __future__ import annotations

import inspect
import json
import logging
import re
import shlex
from collections.abc import Callable, Mapping
from enum import Enum
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from anomalib.data import PredictDataset
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import Compose

from anomalib_xray.data.datamodule import RadiographDataModule
from anomalib_xray.data.dataset import RadiographFolder, read_as_radiographs
from anomalib_xray.data.stock_command import instead_on_phantoms
from anomalib_xray.errors import XrayError, runs_anomalib
from anomalib_xray.io.paths import check_checkpoint
from anomalib_xray.training.checkpoint import read_checkpoint
from anomalib_xray.transforms import XrayPreProcessor

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule
    from anomalib.models import AnomalibModule

logger = logging.getLogger(__name__)

READ_OUT_SETTINGS = frozenset({"score", "extra_scores", "top_k", "map_sigma", "anomaly_map", "calibration"})
"""Settings of the read-out of a trained model's answer. ``validate``, ``test`` and ``predict`` may change them; the
checkpoint's thresholds, which belong to its own read-out, are then dropped."""

# fmt: off
TRAINING_SETTINGS = frozenset((
    "aligned", "augmentation", "betas", "compactness_weight", "critic_steps", "crop", "dice", "drop_last",
    "encoder_optimizer", "encoder_share", "entropy_weight", "focal", "frozen_levels", "gradient_penalty",
    "instance_noise", "kl_warmup", "kl_weight", "lesions", "memory_limit", "noise_schedule", "optimizer",
    "perceptual_weights", "pretrain_share", "radius_warmup", "reconstruction_weight", "reference_root",
    "refinement_batch_size", "refinement_epochs", "refinement_weight_decay", "schedule", "seed", "sizes",
    "soft_labels", "tasks", "weight_decay", "weights",
    "code_discriminator_learning_rate", "discriminator_learning_rate", "encoder_learning_rate",
    "learning_rate", "pretrain_learning_rate", "refinement_learning_rate",
))
# fmt: on
"""Settings that a trained model does not need to answer; they may differ from the checkpoint's."""

_DATA = (
    "datamodule",
    "dataset",
    "data_path",
    "dataloaders",
    *(f"{split}_dataloaders" for split in ("train", "val", "test")),
)
TERMINATED = 143
"""Exit status of a training that SIGTERM ended, as a shell gives it."""

_NEED_DATA = ("fit", "train", "validate", "test")
_RECORDED = ("validate", "test", "predict")


def adapt_engine(kind: type[AnomalibModule]) -> None:
    """Lets anomalib's engine treat models of this project as they need it; models of others are treated as before.

    anomalib has no hook between the settings of a run and its start; ``tests/test_anomalib_interface.py`` tells what
    would break this.
    """
    if not hasattr(Engine.test, "adapted"):
        for verb in (*_NEED_DATA, "predict", "export"):
            setattr(Engine, verb, _adapted(verb, getattr(Engine, verb), kind))


def _adapted(verb: str, method: Callable[..., Any], kind: type[AnomalibModule]) -> Callable[..., Any]:
    signature = inspect.signature(method)

    @wraps(method)
    def run(engine: Engine, *args: Any, **kwargs: Any) -> Any:  # anomalib's own
        given = signature.bind(engine, *args, **kwargs)
        model = given.arguments.get("model")
        if not isinstance(model, kind):
            return method(engine, *args, **kwargs)
        _check(verb, model, given.arguments)
        _read_by_ourselves(model, given.arguments)
        if verb not in _RECORDED or engine._trainer is not None:
            try:
                return method(*given.args, **given.kwargs)
            except SIGTERMException as end:  # by itself a success, so that no scheduler would start it again
                raise SystemExit(TERMINATED) from end
        # In the place of _setup_workspace, which takes the folder of the last training.
        engine._cache.args["default_root_dir"] = _new_version(engine, model, given.arguments.get("datamodule"))
        vars(engine)["_setup_workspace"] = lambda *_, **__: None
        try:
            return method(*given.args, **given.kwargs)
        finally:
            del vars(engine)["_setup_workspace"]

    run.adapted = True  # type: ignore[attr-defined]  # functions take attributes; mypy does not model it
    return run


def _check(verb: str, model: AnomalibModule, given: Mapping[str, Any]) -> None:
    """Refuses a run that cannot succeed, or whose answers would be those of other settings."""
    if verb in _NEED_DATA and all(given.get(name) is None for name in _DATA):
        raise XrayError(
            f"{model.name} has no data to {verb} on: name some, such as those of configs/data/mura_hand.yaml;"
            f" {instead_on_phantoms()}"
        )
    datamodule = given.get("datamodule")
    if verb != "export" and isinstance(datamodule, RadiographDataModule) and not getattr(rank_zero_only, "rank", 0):
        _ = datamodule.samples  # what is missing is said before a folder is made, and "latest" would lead to it
    kinds = [kind.value for kind in ExportType]
    if verb == "export" and getattr(given["export_type"], "value", given["export_type"]) not in kinds:
        raise XrayError(f"export_type is {given['export_type']!r}; choose one of {', '.join(kinds)}.")
    if given.get("ckpt_path") is None and verb not in ("fit", "train") and runs_anomalib():
        raise XrayError(
            f"anomalib {verb} has no checkpoint, and its model would be untrained: name one with --ckpt_path, such as"
            f" results/{model.name}/XR_HAND/latest/weights/lightning/model.ckpt."
        )
    if given.get("ckpt_path") is not None:
        _check_checkpoint(verb, Path(given["ckpt_path"]), model)


def _check_checkpoint(verb: str, path: Path, model: AnomalibModule) -> None:
    check_checkpoint(path)
    content = read_checkpoint(path)
    name = content.get("model_name")
    if name is None and {key for key in model.state_dict() if key.startswith("model.")}.isdisjoint(
        content["state_dict"]
    ):
        name = "of another kind, which it does not name"
    if name not in (None, model.name):
        raise XrayError(
            f"{path} is of the model {name}, but the configuration describes {model.name}: give the configuration that"
            " it was trained with, or another checkpoint."
        )
    found = {key: value for key, value in differing_settings(model, content).items() if key not in TRAINING_SETTINGS}
    said = ", ".join(f"{key} {value!r}, not {_plain(model.hparams[key])!r}" for key, value in found.items())
    if found and verb == "export":  # anomalib builds the model anew, as the checkpoint says
        logger.warning("%s is exported with its own settings: %s.", path, said)
    elif found.keys() - READ_OUT_SETTINGS:
        mended = shlex.join(f"--model.{key}={json.dumps(value)}" for key, value in found.items())
        raise XrayError(
            f"{path} was trained with other settings than those given ({said}) and would answer otherwise: give"
            f" its own, as {mended}"
        )
    elif found and verb in _RECORDED:
        logger.warning(
            "%s was trained with another read-out (%s): its thresholds belong to that and are left out, so that scores"
            " are raw and no image is called anomalous.", path, said,
        )  # fmt: skip


def differing_settings(model: AnomalibModule, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Values of a checkpoint's settings, as JSON would hold them, that differ from a model's.

    Settings that an older checkpoint does not know do not differ.
    """
    found = {key: _plain(value) for key, value in checkpoint.get("hyper_parameters", {}).items()}
    return {key: found[key] for key in model.hparams if key in found and found[key] != _plain(model.hparams[key])}


def drop_thresholds(checkpoint: dict[str, Any]) -> None:
    """Makes thresholds and ranges of the post-processor unknown in a checkpoint's content.

    It is part of the model and a callback of the trainer, so that its state stands there twice.
    """
    callbacks = checkpoint.get("callbacks", {})
    states = [(checkpoint, "state_dict", "post_processor.")]
    states += [(callbacks, name, "") for name, state in callbacks.items() if "_image_threshold" in state]
    for parent, name, prefix in states:
        unknown = {
            key: torch.full_like(value, torch.nan)
            for key, value in parent[name].items()
            if key.startswith(prefix) and isinstance(value, torch.Tensor) and value.is_floating_point()
        }
        parent[name] = parent[name] | unknown


def _plain(value: Any) -> Any:  # settings are of any type
    """A setting in one form, whether a checkpoint or the command line held it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _read_by_ourselves(model: AnomalibModule, given: dict[str, Any]) -> None:
    """Puts our reader in the place of anomalib's, which cuts 16 bits to 8 and knows no DICOM."""
    processor = model.pre_processor
    geometry = processor.geometry if isinstance(processor, XrayPreProcessor) else None
    if given.get("data_path") is not None:
        given["dataset"], given["data_path"] = RadiographFolder(given["data_path"]), None
    if isinstance(given.get("dataset"), PredictDataset):
        given["dataset"] = RadiographFolder.in_place_of(given["dataset"])
    for name in _DATA:
        loaders = given.get(name)
        if isinstance(loaders, DataLoader):
            given[name] = _reading(loaders, geometry)
        elif isinstance(loaders, list | tuple):
            given[name] = [_reading(one, geometry) if isinstance(one, DataLoader) else one for one in loaders]


def _reading(loader: DataLoader[Any], geometry: Any) -> DataLoader[Any]:  # a transform or nothing
    if isinstance(loader.dataset, PredictDataset):
        folder = RadiographFolder.in_place_of(loader.dataset)
        if geometry is not None:  # a batch needs one size
            folder.transform = geometry if folder.transform is None else Compose([folder.transform, geometry])
        return DataLoader(
            folder, batch_size=loader.batch_size, num_workers=loader.num_workers, collate_fn=folder.collate_fn
        )
    read_as_radiographs(loader.dataset, geometry)
    return loader


def _new_version(engine: Engine, model: AnomalibModule, datamodule: AnomalibDataModule | None) -> Path:
    """Makes the next ``vN`` beside those of trainings; ``latest`` stays the last training, which has the weights."""
    root = Path(engine._cache.args["default_root_dir"]) / model.name
    if datamodule is not None:
        root = root / datamodule.name / (datamodule.category or "")
    root = root.resolve()
    root.mkdir(parents=True, exist_ok=True)
    highest = max((int(path.name[1:]) for path in root.iterdir() if re.fullmatch(r"v\d+", path.name)), default=-1)
    if getattr(rank_zero_only, "rank", 0):  # the first of several processes has made it
        return root / f"v{max(highest, 0)}"
    folder = root / f"v{highest + 1}"
    try:
        folder.mkdir()
    except FileExistsError:  # another command was quicker
        return _new_version(engine, model, datamodule)
    logger.info("The record of this run goes to %s.", folder)
    return folder
