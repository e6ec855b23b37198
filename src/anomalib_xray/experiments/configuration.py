"""Objects built from configurations as the stock command builds them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from anomalib_xray.errors import XrayError, user_error_behind
from anomalib_xray.jobs import SCRATCH

if TYPE_CHECKING:
    from pathlib import Path

    from anomalib.data import AnomalibDataModule
    from anomalib.engine import Engine
    from anomalib.models import AnomalibModule
    from lightning.pytorch import Callback
    from lightning.pytorch.loggers import Logger


def build(base: type, settings: Mapping[str, Any]) -> Any:
    """Builds an instance of ``base`` from ``class_path`` and ``init_args``, as the stock command does."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "built")
    try:
        return parser.instantiate_classes(parser.parse_object({"built": dict(settings)})).built
    except Exception as error:  # jsonargparse's own errors would bury the sentence of the constructor
        cause = user_error_behind(error, error.__traceback__)
        if cause is None or cause is error:
            raise
        raise cause from error


def build_data(settings: Mapping[str, Any]) -> AnomalibDataModule:
    """Builds a datamodule and lets it make its splits."""
    from anomalib.data import AnomalibDataModule
    from lightning.pytorch.trainer.states import TrainerFn

    data: AnomalibDataModule = build(AnomalibDataModule, settings)
    data.prepare_data()
    # Named as the trainer names it, so that the splits are not made once more when training starts.
    data.setup(TrainerFn.FITTING)
    return data


def engine_for(
    model: AnomalibModule,
    trainer: Mapping[str, Any],
    folder: Path,
    *callbacks: Callback,
    logger: Logger | None = None,
) -> Engine:
    """Builds an engine for a task in ``folder``, which keeps only a score table and files of the callbacks.

    The ``callbacks`` see what those of ``trainer`` leave; loggers and checkpoints of ``trainer`` are left out in favour
    of ``logger``, if any.
    """
    from anomalib.engine import Engine
    from lightning.pytorch.callbacks import ModelCheckpoint

    from anomalib_xray.training.radiograph_model import RadiographModel
    from anomalib_xray.training.score_table import ScoreTable

    arguments = trainer_arguments(trainer)
    configured = [item for item in arguments.pop("callbacks") if not isinstance(item, ModelCheckpoint)]
    # Models of this project bring the score table along.
    table = [] if isinstance(model, RadiographModel) else [ScoreTable()]
    own = {"default_root_dir": folder / SCRATCH, "logger": logger or False, "enable_progress_bar": False}
    return Engine(
        callbacks=[*configured, *callbacks, *table],
        **{"num_sanity_val_steps": 0, "enable_model_summary": False, **arguments, **own},
    )


def trainer_arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a trainer as the stock command builds them: without loggers, ``callbacks`` as objects."""
    from jsonargparse import ArgumentParser
    from lightning.pytorch import Trainer

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False)
    given = {key: value for key, value in settings.items() if key != "logger"}
    built = parser.instantiate_classes(parser.parse_object({"trainer": given})).trainer
    arguments = {key: built[key] for key in given}
    callbacks = arguments.pop("callbacks", None) or []
    return {**arguments, "callbacks": callbacks if isinstance(callbacks, list) else [callbacks]}


def class_of(path: str) -> type:
    """Imports a class by its dotted path.

    >>> class_of("fractions.Fraction")
    <class 'fractions.Fraction'>
    """
    module, _, name = path.rpartition(".")
    try:
        found: type = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise XrayError(f"There is no class {path}; give a class_path such as anomalib_xray.models.Cae.") from error
    return found


def begin(seed: int) -> None:
    """Starts a task that trains: silences warnings, seeds everything and makes the plugins known."""
    import logging
    import warnings

    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    from lightning.pytorch import seed_everything

    import anomalib_xray.models  # noqa: F401

    seed_everything(seed, verbose=False)
