"""The pool of unlabelled images, such as a hospital's archive has beside the images that somebody called normal.

Methods with two distributions (arXiv 2206.03935) train on it. An experiment makes it of labelled images, so that the
share of abnormal ones is known, and withholds their labels.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
import pandas as pd

from anomalib_xray.data.splits import POOL, SPARE, take_images
from anomalib_xray.errors import XrayError
from anomalib_xray.io.tables import identity

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class UnlabelledPool:
    """Size of the pool of unlabelled images, and share of abnormal ones.

    Args:
        size: Number of images.
        anomaly_rate: Share of abnormal images among them (0.6 in arXiv 2206.03935).
        reserve: Share of the abnormal patients of validation and of test who are taken out of there for the pool. A
            split whose training patients are all normal, such as MURA's, has no other abnormal images.
        seed: Seed of the draw; it is independent of the split's seed and the model's.

    Raises:
        XrayError: The size is below 1, or a share is not between 0 and 1.

    Example:
        >>> UnlabelledPool(size=10, anomaly_rate=0.3).abnormal
        3
    """

    size: int
    anomaly_rate: float = 0.6
    reserve: float = 0.0
    seed: int = 42

    def __post_init__(self) -> None:
        if self.size < 1:
            raise XrayError(f"The pool's size is {self.size}: give at least 1 image, or no pool at all.")
        for name in ("anomaly_rate", "reserve"):
            if not 0 <= getattr(self, name) <= 1:
                raise XrayError(f"The pool's {name} is {getattr(self, name)}, but it is a share: give 0 to 1.")

    @property
    def abnormal(self) -> int:
        """Number of abnormal images."""
        return round(self.size * self.anomaly_rate)


def draw_pool(samples: pd.DataFrame, pool: UnlabelledPool) -> pd.DataFrame:
    """Draws the pool by patient: none of its patients trains, validates or tests.

    Normal images come from spare patients or, where the split has none, from training patients; abnormal ones from
    spare and training patients and from the reserved share of those who validate and test.

    In the new samples table the images drawn have the split ``pool``. Other images of their patients are left out;
    reserved patients of whom nothing was drawn are ``spare``.

    Raises:
        XrayError: There are not enough images.
    """
    random = np.random.default_rng(pool.seed)
    samples = samples.assign(patient=samples["patient"].astype(str).map(identity))
    samples = _reserve(samples, pool.reserve, random)
    behind = samples[samples["split"].isin([SPARE, "train"])]
    abnormal = take_images(_of_abnormal_patients(behind, True).query("label_index == 1"), pool.abnormal, random)
    normal_patients = _of_abnormal_patients(behind, False).query("label_index == 0")
    spare_normal = normal_patients[normal_patients["split"] == SPARE]
    count = pool.size - pool.abnormal
    normal = take_images(normal_patients if spare_normal.empty else spare_normal, count, random)
    for kind, found, wanted in (("abnormal", abnormal, pool.abnormal), ("normal", normal, count)):
        if len(found) < wanted:
            raise XrayError(
                f"The pool of {pool.size} unlabelled images needs {wanted} {kind} ones, but only {len(found)} are in "
                "nobody's validation or test; lower its size, change its anomaly_rate, or raise its reserve."
            )
    drawn = samples.index.isin([*abnormal, *normal])
    of_drawn = samples["patient"].isin(samples.loc[drawn, "patient"])
    result = samples.assign(split=samples["split"].mask(drawn, POOL))[drawn | ~of_drawn].reset_index(drop=True)
    logger.info("Pool: %d images, %d of them abnormal.", pool.size, pool.abnormal)
    return result


def without_labels(samples: pd.DataFrame) -> pd.DataFrame:
    """The rows of a samples table with unknown labels and without masks, as unlabelled images would have them."""
    return samples.assign(label="unknown", label_index=-1, mask_path="")


def _of_abnormal_patients(samples: pd.DataFrame, wanted: bool) -> pd.DataFrame:
    """Images of patients with, or else without, an abnormal image."""
    abnormal = samples.groupby("patient")["label_index"].transform("max") == 1
    return samples[abnormal == wanted]


def _reserve(samples: pd.DataFrame, share: float, random: np.random.Generator) -> pd.DataFrame:
    """Makes a share of the abnormal patients of validation and of test spare."""
    reserved: list[str] = []
    for split in ("val", "test"):
        patients = sorted(samples.loc[(samples["split"] == split) & (samples["label_index"] == 1), "patient"].unique())
        reserved += random.permutation(patients)[: round(share * len(patients))].tolist()
    return samples.assign(split=samples["split"].mask(samples["patient"].isin(reserved), SPARE))
