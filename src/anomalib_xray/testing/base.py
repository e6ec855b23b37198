"""Shared base of the parts of the contract: the model under test, its images, and one short training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import pytest
import torch
from anomalib.callbacks import ModelCheckpoint
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from lightning.pytorch import Callback
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from anomalib_xray.data import Phantom
from anomalib_xray.io.read import to_unit_interval
from anomalib_xray.phantom import ANOMALY_KINDS, render_phantom
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.training.post_processor import XrayPostProcessor

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

PATIENTS = 12
"""The smallest set of generated patients whose splits all have several images."""

IMAGE_QUANTILE = 0.9
"""Setting of the post-processor that is not its default, to see whether a checkpoint keeps it."""

TOLERANCE = 1e-4
"""Relative difference up to which two scores or maps count as the same."""


@dataclass(frozen=True)
class Training:
    """A finished training.

    Attributes:
        model: The trained model, in evaluation.
        checkpoint: Checkpoint of its last epoch.
        metrics: Its last logged values, by name.
    """

    model: AnomalibModule
    checkpoint: Path
    metrics: dict[str, Tensor]


class ContractBase:
    """The model under test, as its author declares it; see :class:`~anomalib_xray.testing.ModelContract`."""

    model: ClassVar[type[AnomalibModule]]
    settings: ClassVar[Mapping[str, Any]] = {}
    falling_loss: ClassVar[str | None] = "train_loss"
    steps: ClassVar[int] = 20
    exportable: ClassVar[bool] = True

    @classmethod
    def make_model(cls, **changes: Any) -> AnomalibModule:
        """Builds an untrained model with the settings under test and changes of them."""
        return cls.model(**{**cls.settings, **changes})

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def one_thread(cls) -> Iterator[None]:
        """Tiny layers gain nothing by more threads, and on a busy machine they wait for each other."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    @pytest.fixture(scope="class")
    @classmethod
    def trained(cls, tmp_path_factory: pytest.TempPathFactory) -> Training:
        """The model after one epoch on generated patients, with a threshold; tests must leave it as it is."""
        phantoms = tmp_path_factory.getbasetemp() / "phantoms"
        return train_on_phantoms(cls.make_model, phantoms, tmp_path_factory.mktemp(cls.model.__name__))


def train_on_phantoms(make_model: Callable[..., AnomalibModule], phantoms: Path, folder: Path) -> Training:
    """Trains and validates one epoch on generated patients.

    Args:
        make_model: Builds the model; given a post-processor other than the default one.
        phantoms: Folder of the patients, generated where they are missing.
        folder: Folder for the results.
    """
    datamodule = Phantom(root=phantoms, patients=PATIENTS, train_batch_size=8, eval_batch_size=8, num_workers=0)
    return fit(make_model(post_processor=XrayPostProcessor(image_quantile=IMAGE_QUANTILE)), datamodule, folder)


def fit(
    model: AnomalibModule,
    data: Phantom | list[ImageBatch],
    folder: Path,
    *,
    epochs: int = 1,
    callbacks: tuple[Callback, ...] = (),
    resume: Path | None = None,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> Training:
    """Trains a model through anomalib's engine on the CPU.

    Args:
        model: The model.
        data: A datamodule, or batches to train on in this order.
        folder: Folder for the results.
        epochs: Number of epochs after which training ends.
        callbacks: Further callbacks.
        resume: Checkpoint to go on from.
        precision: Precision of the trainer.
    """
    checkpoints = ModelCheckpoint(dirpath=folder / "checkpoints", filename=f"after_{epochs}")
    engine = Engine(
        callbacks=[*callbacks, checkpoints],
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        precision=precision,
        max_epochs=epochs,
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    # lightning would take a bare list as several loaders whose batches belong together.
    loader = DataLoader(cast("Dataset[ImageBatch]", data), batch_size=None) if isinstance(data, list) else None
    engine.fit(model, loader, datamodule=data if isinstance(data, Phantom) else None, ckpt_path=resume)
    return Training(model.eval(), Path(checkpoints.best_model_path), dict(engine.trainer.callback_metrics))


@cache
def radiographs() -> tuple[NDArray[np.uint8], ...]:
    """Two healthy and two abnormal generated hands, each ``(H, W)`` of its own size, upright and lying."""
    kinds = (None, ANOMALY_KINDS[0], None, ANOMALY_KINDS[1])
    pictures = [render_phantom(np.random.default_rng(seed), kind=kind).image for seed, kind in enumerate(kinds)]
    return (*pictures[:3], np.ascontiguousarray(np.rot90(pictures[3])))


def as_input(radiograph: NDArray[np.uint8]) -> Tensor:
    """A radiograph ``(H, W)`` as anomalib hands it to a model, ``(1, 3, H, W)`` in [0, 1]."""
    return torch.from_numpy(to_unit_interval(radiograph)).repeat(1, 3, 1, 1)


def pre_process(model: AnomalibModule, images: Tensor) -> Tensor:
    """Images ``(N, 3, H, W)`` as the model's network sees them, ``(N, 3, S, S)``."""
    assert model.pre_processor is not None, "the model has no pre-processor"
    pre_processed: Tensor = model.pre_processor(images)
    return pre_processed


def prepared(model: AnomalibModule) -> Tensor:
    """The radiographs as the model's network sees them, ``(N, 3, S, S)``."""
    return torch.cat([pre_process(model, as_input(radiograph)) for radiograph in radiographs()])


def normal_batch(images: Tensor) -> ImageBatch:
    """A batch of images ``(N, 3, S, S)`` that are labelled as normal."""
    return ImageBatch(image=images, gt_label=torch.zeros(len(images), dtype=torch.long))


@torch.no_grad()
def score(model: AnomalibModule, images: Tensor) -> ScoredBatch:
    """Scores pre-processed images ``(N, 3, S, S)``; raw, as the score table sees them."""
    output: ScoredBatch = model.eval().model(images)
    return output


def assert_same(found: Tensor, expected: Tensor, what: str) -> None:
    """Checks that two scores or maps of one shape are equal up to :data:`TOLERANCE` of the largest value."""
    assert found.shape == expected.shape, f"{what} has the shape {found.shape} instead of {expected.shape}"
    difference = float((found - expected).abs().max())
    scale = float(expected.abs().max())
    assert difference <= TOLERANCE * scale, f"{what} differs by {difference:.2e}, its largest value is {scale:.2e}"


def assert_same_weights(found: AnomalibModule, expected: AnomalibModule) -> None:
    """Checks that all weights and buffers of two models' networks are equal."""
    expected_state = expected.model.state_dict()
    found_state = found.model.state_dict()
    assert found_state.keys() == expected_state.keys()
    different = [name for name, value in found_state.items() if not torch.equal(value, expected_state[name])]
    assert different == []
