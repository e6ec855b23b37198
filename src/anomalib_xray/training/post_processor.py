"""Thresholds, with or without labels, and a normalisation of scores that keeps their ranks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anomalib.data import ImageBatch
from anomalib.post_processing import PostProcessor
from lightning import LightningModule, Trainer
from torch.nn import functional
from torchmetrics.aggregation import CatMetric

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.conformal import check_promise, normal_patients, patients_of, promised_threshold
from anomalib_xray.training.score_table import of_all_processes, samples_of, with_origins

logger = logging.getLogger(__name__)

PIXELS_PER_IMAGE = 1024
"""Foreground pixels of one image that take part in the pixel threshold: enough for its 99.9 % quantile, and 10,000
validation images still fit in 40 MB."""

IMAGE_QUANTILE = 0.95
"""Share of normal images below the threshold, unless a model has another."""

PIXEL_QUANTILE = 0.995
"""The same of the foreground's pixels."""


class XrayPostProcessor(PostProcessor):
    """Thresholds scores and maps separately and normalises them without losing their order.

    anomalib cuts normalised scores at 0 and 1, and takes an image threshold for pixels if need be. Here, with
    x = (score - threshold) / (maximum - minimum) of the validation set, the normalised score is
    1/2 + x / (1 + 2 |x|): 1/2 at the threshold, anomalib's slope there, and never constant, so that ranks (and AUROC)
    survive. A score that reaches its threshold is anomalous (``>=``), both where F1 chooses it and where it is applied.

    Without a validation set scores and maps stay raw, as in anomalib.

    Args:
        threshold: ``"normal_quantile"`` takes quantiles of normal validation images and needs no anomalous ones;
            ``"f1"`` takes anomalib's threshold of the best F1, for pixels only where the validation set has masks.
        image_quantile: share of normal validation images whose score lies below the image threshold.
        pixel_quantile: share of foreground pixels (image > 0) of normal validation images below the pixel threshold.
            Every image gives at most 1,024 pixels, its own evenly spaced quantiles, and so no image outweighs others.
        image_sensitivity: the image threshold on the normalised score is 1 - sensitivity.
        pixel_sensitivity: the same for the map.
        false_alarms: with ``"normal_quantile"``, the largest share of new normal patients that may alarm, as a promise
            (:func:`~anomalib_xray.evaluation.conformal.promised_threshold`) in the place of ``image_quantile``: a
            patient counts with the highest score of their images, and alarms if one of them does. It holds for
            patients like the normal ones of the validation set, if these had no part in the training. Where the data
            set names no patients each original image counts as one. ``None`` for no promise.

    Raises:
        XrayError: ``threshold`` is unknown, a quantile is outside [0, 1], or false alarms cannot be promised with these
            settings; or, in validation, for so few patients.

    >>> XrayPostProcessor("f1", image_quantile=0.9).threshold
    'f1'
    """

    def __init__(
        self,
        threshold: Literal["f1", "normal_quantile"] = "normal_quantile",
        image_quantile: float = IMAGE_QUANTILE,
        pixel_quantile: float = PIXEL_QUANTILE,
        image_sensitivity: float = 0.5,
        pixel_sensitivity: float = 0.5,
        false_alarms: float | None = None,
    ) -> None:
        super().__init__(
            enable_threshold_matching=False,
            image_sensitivity=image_sensitivity,
            pixel_sensitivity=pixel_sensitivity,
        )
        if threshold not in ("f1", "normal_quantile"):
            msg = f"There is no threshold {threshold!r}; choose 'f1' (needs labels) or 'normal_quantile'."
            raise XrayError(msg)
        for name, quantile in (("image_quantile", image_quantile), ("pixel_quantile", pixel_quantile)):
            if not 0 <= quantile <= 1:
                msg = f"{name} is {quantile}; a quantile lies between 0 and 1."
                raise XrayError(msg)
        if false_alarms is not None:
            check_promise(false_alarms)
            if threshold != "normal_quantile":
                msg = "A threshold of the best F1 promises nothing: leave out false_alarms, or take 'normal_quantile'."
                raise XrayError(msg)
        self.threshold = threshold
        self.image_quantile = image_quantile
        self.pixel_quantile = pixel_quantile
        self.false_alarms = false_alarms
        self._validated: list[dict[str, Any]] = []
        self._normal_scores = CatMetric()
        self._normal_pixels = CatMetric()

    @property
    def _checkpoint_config_keys(self) -> tuple[str, ...]:
        return (*super()._checkpoint_config_keys, "threshold", "image_quantile", "pixel_quantile", "false_alarms")

    def on_validation_batch_end(self, trainer: Trainer, _module: LightningModule, outputs: Any, *_: Any) -> None:
        """Collects scores and foreground pixels of the normal images, and what anomalib collects.

        Images without any label count as normal: one-class training assumes it of them.
        """
        # The sanity check sees a few batches with untrained weights.
        if trainer.sanity_checking:
            return
        self._image_min_max_metric.update(outputs)
        self._pixel_min_max_metric.update(outputs)
        if self.threshold == "f1":
            self._image_threshold_metric.update(outputs)
            self._pixel_threshold_metric.update(outputs)
        self._collect_normal(outputs)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sets the thresholds and the range of the normalisation."""
        by_pixel_f1 = self._pixel_threshold_metric.update_called
        super().on_validation_epoch_end(trainer, pl_module)
        if self.false_alarms is not None:
            self._keep_promise(self.false_alarms, trainer)
        elif self.threshold == "normal_quantile":
            _set_quantile(self._image_threshold, self._normal_scores, self.image_quantile, "image")
        if not by_pixel_f1:
            _set_quantile(self._pixel_threshold, self._normal_pixels, self.pixel_quantile, "pixel")
        self._normal_scores.reset()
        self._normal_pixels.reset()
        self._validated = []

    def _collect_normal(self, batch: ImageBatch) -> None:
        image = torch.as_tensor(batch.image)
        normal = torch.ones(len(image), dtype=torch.bool) if batch.gt_label is None else batch.gt_label == 0
        if batch.pred_score is not None and self.false_alarms is not None:
            first = len(self._validated)
            paths = batch.image_path or range(first, first + len(normal))
            rows = zip(paths, batch.pred_score.reshape(-1).tolist(), normal.reshape(-1).tolist(), strict=True)
            self._validated += [{"image_path": str(path), "score": one, "normal": fine} for path, one, fine in rows]
        if batch.pred_score is not None:
            self._normal_scores.update(batch.pred_score[normal])
        if batch.anomaly_map is not None:
            foreground = foreground_of(image, batch.anomaly_map.shape[-2:])
            for anomaly_map, pixels in zip(batch.anomaly_map[normal], foreground[normal], strict=True):
                self._normal_pixels.update(_evenly_spaced(anomaly_map[pixels]))

    def _keep_promise(self, false_alarms: float, trainer: Trainer) -> None:
        """Sets the image threshold by the normal patients of the validation set; they may be of several processes."""
        rows = [row for part in of_all_processes(self._validated) for row in part]
        if not rows:
            return
        table = with_origins(pd.DataFrame(rows), samples_of(trainer.val_dataloaders))
        patients = patients_of(table["source_path"], table["patient"])
        highest = normal_patients(table["score"], patients, ~table["normal"])
        self._image_threshold.fill_(promised_threshold(highest, false_alarms))

    @staticmethod
    def _apply_threshold(preds: torch.Tensor | None, threshold: torch.Tensor) -> torch.Tensor | None:
        return None if preds is None else preds >= threshold

    @staticmethod
    def _normalize(
        preds: torch.Tensor | None, norm_min: torch.Tensor, norm_max: torch.Tensor, threshold: torch.Tensor
    ) -> torch.Tensor | None:
        if preds is None:
            return None
        threshold = torch.where(torch.isnan(threshold), (norm_max + norm_min) / 2, threshold)
        value_range = norm_max - norm_min
        distance = (preds - threshold) / torch.where(value_range == 0, 1.0, value_range)
        normalized = 0.5 + distance / (1 + 2 * distance.abs())
        degenerate = torch.where(preds > threshold, 1.0, torch.where(preds < threshold, 0.0, 0.5))
        normalized = torch.where(value_range == 0, degenerate, normalized)
        return torch.where(torch.isnan(value_range), preds, normalized)


def foreground_of(image: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Marks the foreground of pre-processed images ``(N, C, H, W)`` at the size of their maps: ``(N, *size)``, bool."""
    shown = (image.amax(dim=1, keepdim=True) > 0).float()
    return functional.interpolate(shown, size=tuple(size))[:, 0] > 0


def _evenly_spaced(values: torch.Tensor) -> torch.Tensor:
    """Sorts values (P,) and keeps at most :data:`PIXELS_PER_IMAGE` of them at even ranks, both ends among them."""
    if len(values) <= PIXELS_PER_IMAGE:
        return values
    ranks = torch.linspace(0, len(values) - 1, PIXELS_PER_IMAGE, dtype=torch.float64, device=values.device)
    return values.sort().values[ranks.round().long()]


def _set_quantile(threshold: torch.Tensor, collected: CatMetric, quantile: float, level: str) -> None:
    """Writes the quantile of collected values in place; a threshold with nothing collected is left as it is."""
    if not collected.update_called:
        return
    values = torch.as_tensor(collected.compute()).reshape(-1)
    if len(values) == 0:
        logger.warning("No normal %s in the validation set: there is no %s threshold.", level, level)
        return
    # numpy's quantile, because torch's takes 16 million values at most.
    threshold.fill_(float(np.quantile(values.float().cpu().numpy(), quantile)))
