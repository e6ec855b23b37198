"""AUCp: how well a model tells normal validation images from a pool of unlabelled ones, of which no label is known."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite, nan
from typing import Any

import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader

from anomalib_xray.data.dataset import RadiographDataset
from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.units import CHOSEN
from anomalib_xray.training.callbacks import ForegroundScores
from anomalib_xray.training.score_table import VALIDATION, of_all_processes, scores_of_batch

AUCP = "AUCp"


def pseudo_auc(normal: Iterable[float], unlabelled: Iterable[float]) -> float:
    """Area under the ROC curve between normal and unlabelled images, as if all of the latter were abnormal.

    With scores sₙ of N normal and tₘ of M unlabelled images, AUCp = 1 / (N M) Σₙ Σₘ ([tₘ > sₙ] + [tₘ = sₙ] / 2). Where
    a share π of the unlabelled images is abnormal and the others are like the normal ones, it is on average
    π AUROC + (1 - π) / 2: it ranks models as the AUROC does, whatever π, but a difference is π times as large and the
    noise is not. What else tells the two sets of images apart counts as well. Source: Siddiquee et al. 2026 (AUCp,
    arXiv 2606.08742).

    Args:
        normal: Scores of normal images, ``(N,)``, higher = more anomalous.
        unlabelled: Scores of unlabelled images, ``(M,)``.

    Returns:
        0 to 1; not a number where a score is not finite, or a set is empty.

    >>> pseudo_auc([0.1, 0.4], [0.3, 0.9])
    0.75
    """
    labelled = [(0, score) for score in normal] + [(1, score) for score in unlabelled]
    if not labelled or not all(isfinite(score) for _, score in labelled):
        return nan
    labels, scores = zip(*labelled, strict=True)
    return float(Ranking(labels, scores).auroc()[0])


class PseudoAuc(Callback):
    """Logs the :func:`pseudo_auc` of each score in every validation; added under ``trainer.callbacks``.

    Logged are ``val_AUCp`` of the chosen score and ``val_AUCp_<score>`` of every named one, for a checkpoint to monitor
    (``mode: max``). The unlabelled images are the datamodule's pool; abnormal validation images are left out. A model
    that trains on the pool has seen what it is judged by. After a :class:`~.callbacks.ForegroundScores`, if any.

    Raises:
        XrayError: In training: the datamodule has no pool, or there is no normal validation image.

    Example:
        >>> PseudoAuc().state_key
        'PseudoAuc'
    """

    def __init__(self) -> None:
        super().__init__()
        self._normal: dict[str, dict[str, float]] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuses data without a pool before anything is trained."""
        del pl_module
        _pool_of(trainer)

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Forgets the scores of the last epoch or run."""
        self._normal = {}

    def on_validation_batch_end(self, _trainer: Trainer, _module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collects the raw scores of normal images."""
        if outputs.gt_label is None:
            return
        scores = _scores_by_path(outputs)
        normal = zip(scores.items(), outputs.gt_label.reshape(-1).tolist(), strict=True)
        self._normal |= {path: values for (path, values), label in normal if not label}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores the pool, and logs."""
        if trainer.sanity_checking:
            return
        normal = [values for part in of_all_processes(self._normal) for values in part.values()]
        if not normal:
            raise XrayError("AUCp compares with normal validation images, but there is none; add some.")
        unlabelled = list(self._score_pool(trainer, pl_module).values())
        for score in normal[0]:
            value = pseudo_auc([values[score] for values in normal], [values[score] for values in unlabelled])
            name = VALIDATION + AUCP + ("" if score == CHOSEN else f"_{score}")
            pl_module.log(name, value, batch_size=len(unlabelled))

    @staticmethod
    def _score_pool(trainer: Trainer, module: Any) -> dict[str, dict[str, float]]:
        """Scores the pool as validation images are scored, without the augmentation of those who train on it."""
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]  # its stub lacks it
        dataset = RadiographDataset(_pool_of(trainer), "classification", datamodule.val_data.augmentations)
        further = [callback for callback in trainer.callbacks if isinstance(callback, ForegroundScores)]  # type: ignore[attr-defined]  # its stub lacks the list
        scores: dict[str, dict[str, float]] = {}
        loader = DataLoader(dataset, datamodule.eval_batch_size, collate_fn=dataset.collate_fn)
        for number, images in enumerate(loader, start=1):  # the first batch of a validation is drawn
            batch = trainer.strategy.batch_to_device(images)
            if module.pre_processor:
                module.pre_processor.on_validation_batch_start(trainer, module, batch, number)
            outputs = module.validation_step(batch, number)
            for callback in further:
                callback.on_validation_batch_end(trainer, module, outputs)
            scores |= _scores_by_path(outputs)
        return scores


def _pool_of(trainer: Trainer) -> pd.DataFrame:
    """The samples table of the datamodule's pool."""
    pool: RadiographDataset | None = getattr(getattr(trainer, "datamodule", None), "unlabelled_data", None)
    if pool is None:
        raise XrayError(
            "AUCp needs a pool of unlabelled images, but the data have none; give them one, such as pool: {size: 100},"
            " or rows of the split pool."
        )
    return pool.samples


def _scores_by_path(outputs: Any) -> dict[str, dict[str, float]]:
    return dict(zip(map(str, outputs.image_path), scores_of_batch(outputs), strict=True))
