"""Evidence that a test leaves for the report besides scores: pixel metrics, scores by k, marks, cases, patients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

from anomalib_xray.data.table import COLUMNS
from anomalib_xray.edge.description import installed_versions
from anomalib_xray.evaluation.localisation import aupro, froc, hits_box, lesions_of, marks_of
from anomalib_xray.evaluation.subgroups import summary_of
from anomalib_xray.experiments.grid import CASES, CHARACTERISTICS, MARKS, TOP_K
from anomalib_xray.io.text import write_json
from anomalib_xray.io.write import write_atomically, write_png
from anomalib_xray.jobs import RESULT
from anomalib_xray.training.callbacks import foreground_of

COUNTS = (10, 50, 200, 1000)
"""Numbers k of pixels; 200 is the published one."""

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Numbers k of pixels as shares of the foreground."""

KINDS = {
    "most anomalous abnormal": (1, -1),
    "least anomalous abnormal": (1, 1),
    "most anomalous normal": (0, -1),
    "least anomalous normal": (0, 1),
}
"""Label of each kind of case, and whether its scores are sorted upwards (1) or downwards (-1)."""

CASES_PER_KIND = 3

_LARGEST_MAPS = 200_000_000  # values: what fits into memory beside a model

Case = dict[str, Any]


class Evidence(Callback):
    """Collects raw scores and maps in a test, which it sees before the post-processor does.

    Pixel metrics need masks. They count foreground pixels only, since a black background that is always normal would
    flatter.

    Under ``trainer.callbacks`` of the stock command it leaves in the folder of a run what a cell of a benchmark leaves
    in its own, so that ``anomalib-xray report`` shows the run as a benchmark's report shows its models.

    Args:
        folder: Folder to write to at the end of a test. That of the run by default, and there a ``result.json`` too,
            which in a cell its task writes.

    Attributes:
        facts: After a test: ``pixel``, the figures of :meth:`write`; where the data set has a samples table ``splits``,
            of :func:`.subgroups.summary_of`, and ``unit``, what the data set calls those who are never split.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.facts: dict[str, Any] = {}
        self._begin()

    def _begin(self) -> None:
        self._values: list[NDArray[np.float32]] = []
        self._truth: list[NDArray[np.bool_]] = []
        self._regions: list[NDArray[np.float32]] = []
        self._by_k: list[dict[str, Any]] = []
        self._marks: list[dict[str, Any]] = []
        self._cases: dict[str, list[Case]] = {kind: [] for kind in KINDS}
        self._pixels = 0
        self._images = 0

    def on_test_start(self, *_: Any) -> None:
        """Forgets an earlier test."""
        self._begin()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes everything."""
        folder = self.folder or Path(trainer.default_root_dir)
        self.facts = {"pixel": self.write(folder)}
        data = getattr(trainer, "datamodule", None)
        samples = getattr(data, "samples", None)
        if isinstance(samples, pd.DataFrame) and set(COLUMNS) <= set(samples):
            further = [str(name) for name in samples if name not in (*COLUMNS, "flags")]
            self.facts |= {"splits": summary_of(samples, further), "unit": getattr(data, "unit", "patients")}
            if further:
                of_test = samples.loc[samples["split"] == "test", ["image_path", *further]]
                write_atomically(folder / CHARACTERISTICS, of_test.to_csv(index=False))
        if self.folder is None and trainer.is_global_zero:
            result = {"status": "done", "images": self._images}
            result["parameters"] = sum(weight.numel() for weight in pl_module.parameters())
            result["versions"] = installed_versions("anomalib", "torch", "anomalib-xray")
            write_json(folder / RESULT, {**result, **self.facts})

    def on_test_batch_end(self, *arguments: Any) -> None:
        """Takes a batch of scored images, the fourth argument."""
        batch = arguments[3]
        image = batch.image.detach().cpu().float()
        maps = None if batch.anomaly_map is None else batch.anomaly_map.detach().cpu().float()
        if maps is not None:
            maps = maps.reshape(len(maps), *maps.shape[-2:])
        foreground = foreground_of(image)
        masks = None if batch.gt_mask is None else batch.gt_mask.cpu().reshape(foreground.shape).bool()
        self._images += len(batch.image_path)
        for index, path in enumerate(batch.image_path):
            label = None if batch.gt_label is None else int(batch.gt_label[index])
            score = float(batch.pred_score.reshape(-1)[index])
            case = {"image_path": path, "label": label, "score": score, "image": image[index].numpy()}
            case["map"] = None if maps is None else maps[index].numpy()
            case["mask"] = None if masks is None or not masks[index].any() else masks[index].numpy()
            if maps is not None:
                values = maps[index][foreground[index]].numpy()
                row = {"image_path": path, "label": label, **means_by_k(values)}
                if masks is not None:
                    of_image = [part[index].numpy() for part in (maps, masks, foreground)]
                    row["hit"], row["box_share"] = hits_box(*of_image)
                    self._marks += [{"image_path": path, "label": label, **one} for one in _marks(label, *of_image)]
                self._by_k.append(row)
            self._keep(case)
        if maps is not None and masks is not None and self._pixels + maps.numel() <= _LARGEST_MAPS:
            self._pixels += maps.numel()
            self._values.append(maps[foreground].numpy())
            self._truth.append(masks[foreground].numpy())
            for parts in zip(maps.numpy(), masks.numpy(), foreground.numpy(), strict=True):
                self._regions += _regions(*parts)

    @property
    def cases(self) -> Mapping[str, list[Case]]:
        """The best and worst cases so far, by kind."""
        return self._cases

    def write(self, folder: Path) -> dict[str, float]:
        """Writes the pictures, the scores by k with the hits of :func:`.localisation.hits_box`, and the marks.

        Returns:
            ``AUROC``, ``AUPRO`` (up to a false-positive rate of 0.3) and best ``Dice`` of the pixels; ``hit``, the
            share of pictures with lesions whose hottest pixel lies in the box of one; ``found_at_1``, the share of
            lesions found at one false mark per normal picture, and ``FROC``, its mean over :data:`.localisation.RATES`.
            Empty without maps and masks.
        """
        if self._by_k:
            write_atomically(folder / TOP_K, pd.DataFrame(self._by_k).to_csv(index=False))
        if self._marks:
            write_atomically(folder / MARKS, pd.DataFrame(self._marks).to_csv(index=False))
        rows = [row for kind, cases in self._cases.items() for row in _write_cases(folder / CASES, kind, cases)]
        write_atomically(folder / CASES / "cases.csv", pd.DataFrame(rows).to_csv(index=False))
        if not self._truth or not any(truth.any() for truth in self._truth):
            return {}
        values, truth = np.concatenate(self._values), np.concatenate(self._truth)
        return {**pixel_metrics(values, truth), "AUPRO": aupro(self._regions, values[~truth]), **self._of_lesions()}

    def _of_lesions(self) -> dict[str, float]:
        """Figures by lesions; those that need normal pictures only where there are some."""
        marks = pd.DataFrame(self._marks)
        is_lesion = marks["side"].notna()
        by_picture = pd.DataFrame(self._by_k)
        hits = by_picture.loc[by_picture["image_path"].isin(marks["image_path"][is_lesion]), "hit"]
        normal = int((by_picture["label"] == 0).sum())
        found = froc(marks["heat"][is_lesion], marks["heat"][~is_lesion], normal)
        figures = {"hit": float(hits.mean()), "found_at_1": found[1], "FROC": float(np.mean(list(found.values())))}
        return {name: value for name, value in figures.items() if np.isfinite(value)}

    def _keep(self, case: Case) -> None:
        """Keeps a case where it belongs to the first of its kind."""
        for kind, (label, direction) in KINDS.items():
            if case["label"] == label:
                cases = sorted([*self._cases[kind], case], key=lambda one, way=direction: way * one["score"])  # type: ignore[misc]  # mypy does not type lambdas with defaults
                self._cases[kind] = cases[:CASES_PER_KIND]


def _marks(
    label: int | None, heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    """Rows of the table of marks: each lesion of a picture (``side``), or each mark of a normal one (no side)."""
    if mask.any():
        return [lesion._asdict() for lesion in lesions_of(heat, mask, shown)]
    return [{"heat": float(heat[place]), "side": None} for place in marks_of(heat, shown)] if label == 0 else []


def _regions(heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]) -> list[NDArray[np.float32]]:
    """Map values of each connected anomaly, of its part in the foreground."""
    count, regions = cv2.connectedComponents((mask & shown).astype(np.uint8), connectivity=8)
    return [heat[regions == number] for number in range(1, count)]


def means_by_k(values: NDArray[np.float32]) -> dict[str, float]:
    """Means of the k largest of the values ``(P,)``, for :data:`COUNTS`, ``k=200``, and :data:`SHARES`, ``k=0.01``.

    >>> means_by_k(np.arange(100, dtype=np.float32))["k=10"]
    94.5
    """
    sums = np.cumsum(np.sort(values)[::-1], dtype=np.float64)
    counts = {f"k={count}": count for count in COUNTS}
    counts |= {f"k={share:g}": round(share * len(values)) for share in SHARES if share < 1} | {"k=1.0": len(values)}
    counts = {name: min(max(count, 1), len(values)) for name, count in counts.items()}
    return {name: float(sums[count - 1] / count) for name, count in counts.items()}


def pixel_metrics(values: NDArray[np.float32], truth: NDArray[np.bool_]) -> dict[str, float]:
    """``AUROC`` and best ``Dice`` of the values ``(P,)`` of a map against the truth ``(P,)`` of a mask.

    >>> pixel_metrics(np.float32([0.1, 0.2, 0.9]), np.array([False, False, True]))
    {'AUROC': 1.0, 'Dice': 1.0}
    """
    from sklearn.metrics import precision_recall_curve, roc_auc_score

    precision, recall, _ = precision_recall_curve(truth, values)
    dice = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    return {"AUROC": float(roc_auc_score(truth, values)), "Dice": float(dice.max())}


def _write_cases(folder: Path, kind: str, cases: list[Case]) -> list[dict[str, Any]]:
    rows = []
    for rank, case in enumerate(cases, 1):
        stem = f"{kind.replace(' ', '_')}_{rank}"
        row: dict[str, Any] = {"kind": kind, "image": f"{stem}.png", "map": "", "low": "", "high": "", "mask": ""}
        picture = case["image"].mean(0)
        write_png(folder / row["image"], _stretched(picture, 255).astype(np.uint8))
        if case["map"] is not None:
            row |= {"map": f"{stem}_map.png", "low": float(case["map"].min()), "high": float(case["map"].max())}
            write_png(folder / row["map"], _stretched(case["map"], 65535).astype(np.uint16))
        if case["mask"] is not None:
            row["mask"] = f"{stem}_mask.png"
            write_png(folder / row["mask"], case["mask"].astype(np.uint8) * 255)
        rows.append({**row, **{key: case[key] for key in ("image_path", "label", "score")}})
    return rows


def _stretched(picture: NDArray[np.float32], largest: int) -> NDArray[np.float64]:
    low, high = float(picture.min()), float(picture.max())
    return np.rint((picture.astype(np.float64) - low) * largest / max(high - low, np.finfo(float).tiny))
