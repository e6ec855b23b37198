"""Table of all scores that training, ``anomalib test`` and ``anomalib predict`` write.

All comparison reads it: AUROC and average precision are computed from its raw scores by rank, never from normalised
ones.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from math import nan
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import torch
import torch.distributed as distributed
from anomalib.data import InferenceBatch
from anomalib.metrics import Evaluator
from anomalib.post_processing import PostProcessor
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.units import CHOSEN, ID_COLUMNS, LEVELS, PREDICTIONS, TEST_SCORES, scores_of, units_of
from anomalib_xray.io.write import write_atomically

logger = logging.getLogger(__name__)

Part = TypeVar("Part")

VALIDATION = "val_"
"""Prefix of what belongs to validation."""


class ScoreTable(Callback):
    """Writes ``scores.csv`` (test), ``val_scores.csv`` (each validation) or ``predictions.csv`` (predict), and logs.

    One row per image: path, path of the original that it was prepared from (its own where it was not), patient, study,
    label (0 normal, 1 abnormal, empty unknown), decision at the model's threshold, the raw chosen score and every named
    score. The table of a validation replaces the one before; a fusion of scores is fitted on its normal images. Logged
    are AUROC and average precision: ``image_``, ``study_`` and ``patient_AUROC`` and ``_AP`` of the chosen score, and
    the same with ``_<score>`` appended for every named score; in validation with the prefix ``val_``, and there also
    the means over normal images, ``val_normal_mean`` and ``val_normal_mean_<score>``. Originals, patients and studies
    come from the data set's sample table, joined by path; without patients only the images are evaluated.

    Models of this project bring it along; for others it is added under ``trainer.callbacks``. Their evaluator logs an
    ``image_AUROC`` of its own, from squashed scores; beside it the one of the raw scores is ``image_AUROC_raw``.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[dict[str, Any]] = []

    def _table(self, pl_module: LightningModule, samples: pd.DataFrame | None) -> pd.DataFrame:
        """Builds the table of the rows collected so far."""
        table = pd.DataFrame(self._rows)
        table["pred_label"] = _decisions(pl_module, table["pred_score"].tolist())
        table["label"] = table["label"].astype("Int64")
        table = with_origins(table, samples)
        return table[[*ID_COLUMNS, "pred_label", *scores_of(table)]]

    def _finish(self, trainer: Trainer, pl_module: LightningModule, samples: pd.DataFrame | None, prefix: str) -> None:
        """Writes the table of the rows collected so far and logs its metrics."""
        if trainer.sanity_checking:
            return
        self._rows = _every_image_once(self._rows)
        if not self._rows:
            return
        table = self._table(pl_module, samples)
        _write(table, Path(trainer.default_root_dir) / (prefix + TEST_SCORES))
        metrics = {prefix + name: value for name, value in score_metrics(table).items()}
        if prefix == VALIDATION:
            metrics |= {prefix + name: value for name, value in normal_means(table).items()}
        taken = _names_of_evaluator(pl_module)
        pl_module.log_dict({f"{name}_raw" if name in taken else name: value for name, value in metrics.items()})

    def on_validation_epoch_start(self, *_: Any) -> None:
        """Forgets the rows of the last epoch or run."""
        self._rows = []

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start  # type: ignore[assignment]  # takes any

    def on_validation_batch_end(self, _trainer: Trainer, _module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collects the raw scores of a batch."""
        if outputs.pred_score is None:
            raise XrayError("The model gives no image scores, so there is no score table to write.")
        count = len(outputs.pred_score)
        labels = [None] * count if outputs.gt_label is None else outputs.gt_label.int().reshape(count).tolist()
        paths = outputs.image_path or [""] * count
        for path, label, scores in zip(paths, labels, scores_of_batch(outputs), strict=True):
            self._rows.append({"image_path": str(path), "label": label, **scores})

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end  # type: ignore[assignment]  # takes any

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table and logs its metrics with the prefix ``val_``."""
        self._finish(trainer, pl_module, samples_of(trainer.val_dataloaders), VALIDATION)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table and logs its metrics."""
        self._finish(trainer, pl_module, samples_of(trainer.test_dataloaders), "")

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the table, and ``failed.csv`` with the reason of each file that could not be read."""
        loaders = trainer.predict_dataloaders
        for loader in loaders if isinstance(loaders, list) else [loaders]:
            _write_failures(getattr(getattr(loader, "dataset", None), "failures", {}), Path(trainer.default_root_dir))
        self._rows = _every_image_once(self._rows)
        if self._rows:
            table = self._table(pl_module, samples_of(trainer.predict_dataloaders))
            _write(table, Path(trainer.default_root_dir) / PREDICTIONS)


def scores_of_batch(outputs: Any) -> list[dict[str, float]]:
    """The chosen and all named scores of each image of a scored batch."""
    columns = {CHOSEN: outputs.pred_score, **getattr(outputs, "scores", {})}
    rows = zip(*(scores.reshape(-1).tolist() for scores in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def score_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Computes AUROC and average precision of every score at image, study and patient level.

    Args:
        table: Score table, as of :func:`~anomalib_xray.evaluation.units.units_of`, with ``pred_score`` and more scores;
            ``pred_label`` is ignored.

    Returns:
        ``{level}_AUROC`` and ``{level}_AP`` of ``pred_score``, and ``{level}_AUROC_{score}`` and ``{level}_AP_{score}``
        of every other score; levels without ids, or without both labels, are left out. A score that is not finite for
        some image has no rank, so its metrics are not a number.

    >>> table = pd.DataFrame({"label": [0, 0, 1, 1], "pred_score": [0.1, 0.4, 0.3, 0.9]})
    >>> table["image_path"], table["patient"], table["study"] = ["a", "b", "c", "d"], "", ""
    >>> score_metrics(table)["image_AUROC"]
    0.75
    """
    scores = scores_of(table)
    finite = {score: bool(np.isfinite(table.loc[table["label"].notna(), score]).all()) for score in scores}
    metrics: dict[str, float] = {}
    for level in LEVELS:
        units = units_of(table, level, scores)
        if units is None or units["label"].nunique() < 2:
            continue
        labels = units["label"].to_numpy()
        for score in scores:
            suffix = "" if score == CHOSEN else f"_{score}"
            # scikit-learn's own take longer than a small model's epoch, of which each has these.
            ranking = Ranking(labels, units[score].to_numpy()) if finite[score] else None
            metrics[f"{level}_AUROC{suffix}"] = nan if ranking is None else float(ranking.auroc()[0])
            metrics[f"{level}_AP{suffix}"] = nan if ranking is None else float(ranking.average_precision()[0])
    return metrics


def normal_means(table: pd.DataFrame) -> dict[str, float]:
    """Computes the mean of every score over normal images, by which training can be followed without labels.

    Where no image has a label, all are taken for normal, as one-class training assumes.
    """
    normal = table if table["label"].isna().all() else table[table["label"] == 0]
    return {
        "normal_mean" if score == CHOSEN else f"normal_mean_{score}": float(normal[score].mean())
        for score in (scores_of(table) if len(normal) else [])
    }


def with_origins(table: pd.DataFrame, samples: pd.DataFrame | None) -> pd.DataFrame:
    """Joins originals, patients and studies to the rows by path; the image itself, or nothing, where unknown."""
    if samples is None or not {"patient", "study"} <= set(samples.columns):
        return table.assign(source_path=table["image_path"], patient="", study="")
    source = samples["source" if "source" in samples else "image_path"]
    ids = samples[["image_path", "patient", "study"]].assign(source_path=source).astype(str)
    joined = table.merge(ids, on="image_path", how="left").fillna({"patient": "", "study": ""})
    return joined.assign(source_path=joined["source_path"].fillna(joined["image_path"]))


def samples_of(dataloaders: Any) -> pd.DataFrame | None:
    """The sample table behind a trainer's dataloaders, if it has one."""
    loader = dataloaders[0] if isinstance(dataloaders, list) else dataloaders
    samples = getattr(getattr(loader, "dataset", None), "samples", None)
    return samples if isinstance(samples, pd.DataFrame) else None


def _names_of_evaluator(module: LightningModule) -> set[str]:
    """Names that anomalib's evaluator logs; Lightning refuses to log one twice."""
    evaluator = getattr(module, "evaluator", None)
    if not isinstance(evaluator, Evaluator):
        return set()
    return {metric.name for metric in (*evaluator.val_metrics, *evaluator.test_metrics)}


def _decisions(module: LightningModule, scores: list[float]) -> list[int] | None:
    """Decides on raw scores as the model's post-processor does, or not at all if it has no threshold."""
    processor = getattr(module, "post_processor", None)
    if not isinstance(processor, PostProcessor) or bool(torch.isnan(processor.image_threshold)):
        return None
    batch = InferenceBatch(pred_score=torch.tensor(scores, device=module.device))
    decisions = processor(batch).pred_label
    return None if decisions is None else decisions.int().tolist()


def of_all_processes(part: Part) -> list[Part]:
    """Gathers what each process of a training has; of a single process, the one part."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [part]
    parts = [part] * distributed.get_world_size()
    distributed.all_gather_object(parts, part)
    return parts


def _every_image_once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of every process: images are repeated until all processes have the same number."""
    parts = of_all_processes(rows)
    return rows if len(parts) == 1 else list({row["image_path"]: row for part in parts for row in part}.values())


@rank_zero_only
def _write(table: pd.DataFrame, path: Path) -> None:
    """Writes the table, sorted by path, in one step."""
    write_atomically(path, table.sort_values("image_path").to_csv(index=False))
    logger.info("Scores of %d images written to %s", len(table), path)


@rank_zero_only
def _write_failures(failures: Mapping[Path, str], folder: Path) -> None:
    """Writes the reasons of files that could not be read, if there are any."""
    if failures:
        table = pd.DataFrame({"image_path": map(str, failures), "error": failures.values()})
        write_atomically(folder / "failed.csv", table.to_csv(index=False))
        logger.warning("%d files could not be read; %s says why.", len(failures), folder / "failed.csv")
