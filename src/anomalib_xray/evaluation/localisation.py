"""Agreement of a heat map with the mask of an anomaly."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.evaluation.ranking import Ranking

TOLERANCE = 0.03
"""Largest distance from the mask that wins the pointing game, as a share of the picture's longer side: 15 of about 500
pixels in Zhang et al. 2018."""


class Localisation(NamedTuple):
    """Figures of one image over its foreground.

    Attributes:
        pixel_auroc: Probability that a pixel of the anomaly is hotter than another one; 0.5 by chance.
        pointing_game: Whether the hottest pixel lies on the anomaly or close to it (Zhang et al. 2018, 1608.00507).
        energy_share: Share of the map's sum that lies on the anomaly (Wang et al. 2020, 1910.01279, section 4.2); by
            chance ``mask_share``.
        mask_share: Share of the foreground's pixels that belong to the anomaly.
    """

    pixel_auroc: float
    pointing_game: float
    energy_share: float
    mask_share: float


def localisation(heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]) -> Localisation:
    """Compares a heat map with the mask of an anomaly.

    Args:
        heat: The map, higher = more anomalous, of either sign, (H, W); only values above 0 count as energy.
        mask: The anomaly, (H, W).
        shown: The foreground, (H, W); the anomaly's part outside of it does not count.

    Returns:
        The figures; not a number where there is no anomaly in the foreground, or no energy.

    Example:
        >>> mask = np.eye(2, dtype=bool)
        >>> localisation(mask.astype(np.float32), mask, np.ones((2, 2), bool))
        Localisation(pixel_auroc=1.0, pointing_game=1.0, energy_share=1.0, mask_share=0.5)
    """
    values, anomaly = heat[shown], mask[shown]
    energy = np.clip(values, 0, None)
    total = float(energy.sum())
    if not anomaly.any():
        return Localisation(np.nan, np.nan, np.nan, 0.0 if len(values) else np.nan)
    return Localisation(
        float(Ranking(anomaly, values).auroc()[0]),
        float(_points_at(heat, mask, shown)) if total > 0 else np.nan,
        float(energy[anomaly].sum()) / total if total > 0 else np.nan,
        float(anomaly.mean()),
    )


def _points_at(heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]) -> bool:
    """Whether the hottest pixel of the foreground is close to the mask."""
    hottest = np.unravel_index(np.where(shown, heat, -np.inf).argmax(), heat.shape)
    rows, columns = np.nonzero(mask & shown)
    distance = np.hypot(rows - hottest[0], columns - hottest[1]).min()
    return bool(distance <= TOLERANCE * max(heat.shape))


def hits_box(heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]) -> tuple[bool, float]:
    """Says whether the hottest pixel lies in the box of an anomaly, which readers draw rather than its outline.

    Args:
        heat: The map, higher = more anomalous, (H, W).
        mask: The anomalies, (H, W); each connected one has a box.
        shown: The foreground, (H, W).

    Returns:
        Whether it does, and the share of the foreground's pixels in boxes, which is the chance of a random pixel.

    Example:
        >>> mask = np.eye(3, dtype=bool)
        >>> hits_box(np.float32([[0, 0, 9], [0, 0, 0], [0, 0, 0]]), mask, np.ones((3, 3), bool))
        (True, 1.0)
    """
    _, _, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    inside = np.zeros(mask.shape, bool)
    for left, top, width, height, _ in boxes[1:]:
        inside[top : top + height, left : left + width] = True
    hottest = np.unravel_index(np.where(shown, heat, -np.inf).argmax(), heat.shape)
    return bool(inside[hottest]), float(inside[shown].mean())
