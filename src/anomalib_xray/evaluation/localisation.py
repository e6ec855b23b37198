"""Agreement of a heat map with the mask of an anomaly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.evaluation.ranking import Ranking

TOLERANCE = 0.03
"""Largest distance from the mask that wins the pointing game, as a share of the picture's longer side: 15 of about 500
pixels in Zhang et al. 2018."""

MARKS = 20
"""Most places that a map can point at: more than the largest of :data:`RATES`, and few to keep."""

_STEPS = 500
"""Thresholds of the per-region overlap; its area then differs by less than a thousandth."""

RATES = (0.125, 0.25, 0.5, 1, 2, 4, 8)
"""False marks per normal picture at which sensitivity is read: those of LUNA16 (Setio et al. 2017)."""


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


class Lesion(NamedTuple):
    """What a map says of one anomaly.

    Attributes:
        heat: Value of the hottest mark in its box; minus infinity without one.
        side: Longer side of its box, as a share of the picture's.
    """

    heat: float
    side: float


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


def boxes_of(mask: NDArray[np.bool_]) -> list[tuple[slice, slice]]:
    """Rows and columns of the box of each connected anomaly of a mask (H, W); readers draw boxes rather than outlines.

    >>> boxes_of(np.eye(3, dtype=bool))
    [(slice(0, 3, None), slice(0, 3, None))]
    """
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return [(slice(top, top + height), slice(left, left + width)) for left, top, width, height, _ in stats[1:].tolist()]


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
    inside = np.zeros(mask.shape, bool)
    for box in boxes_of(mask):
        inside[box] = True
    hottest = np.unravel_index(np.where(shown, heat, -np.inf).argmax(), heat.shape)
    return bool(inside[hottest]), float(inside[shown].mean())


def marks_of(heat: NDArray[np.float32], shown: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """The places that a map points at: its local maxima, the hottest first, at most :data:`MARKS`.

    A place is one if nothing hotter lies within :data:`TOLERANCE`, and no mark of the same heat.

    Args:
        heat: The map, higher = more anomalous, (H, W).
        shown: The foreground, (H, W), in which all marks lie.

    Returns:
        Row and column of each.

    Example:
        >>> marks_of(np.float32([[1, 3, 2]]), np.ones((1, 3), bool))
        [(0, 1), (0, 2), (0, 0)]
    """
    reach = TOLERANCE * max(heat.shape)
    side = int(reach)
    rows, columns = np.mgrid[-side : side + 1, -side : side + 1]
    disc = (np.hypot(rows, columns) <= reach).astype(np.uint8)
    values = np.where(shown, heat, -np.inf).astype(np.float32)
    highest = np.asarray(cv2.dilate(values, disc, borderType=cv2.BORDER_CONSTANT, borderValue=-np.inf))
    places = np.argwhere(shown & (values == highest))
    places = places[np.argsort(-values[tuple(places.T)], kind="stable")]
    marks: list[tuple[int, int]] = []
    while len(places) and len(marks) < MARKS:
        row, column = places[0].tolist()
        marks.append((row, column))
        places = places[np.hypot(*(places - places[0]).T) > reach]
    return marks


def lesions_of(heat: NDArray[np.float32], mask: NDArray[np.bool_], shown: NDArray[np.bool_]) -> list[Lesion]:
    """Compares the marks of a map with each anomaly.

    Args:
        heat: The map, higher = more anomalous, (H, W).
        mask: The anomalies, (H, W); each connected one counts.
        shown: The foreground, (H, W).

    Example:
        >>> lesions_of(np.float32([[1, 3, 2]]), np.array([[True, False, False]]), np.ones((1, 3), bool))
        [Lesion(heat=1.0, side=0.3333333333333333)]
    """
    marks = marks_of(heat, shown)
    found = []
    for rows, columns in boxes_of(mask):
        inside = [
            place for place in marks if rows.start <= place[0] < rows.stop and columns.start <= place[1] < columns.stop
        ]
        side = max(rows.stop - rows.start, columns.stop - columns.start) / max(mask.shape)
        found.append(Lesion(float(heat[inside[0]]) if inside else -np.inf, side))
    return found


def froc(lesions: ArrayLike, false: ArrayLike, pictures: int) -> dict[float, float]:
    """Sensitivity for lesions at each of :data:`RATES` false marks per normal picture.

    The free-response receiver operating characteristic (Bunch et al. 1978, Proc. SPIE 127:124), whose mean at these
    rates is the score of LUNA16 (Setio et al. 2017, 1612.08012, section 3.3). A lesion is found if a mark in its box
    lies above a threshold. False marks are those of normal pictures: what else a picture with a lesion shows was not
    always drawn.

    Args:
        lesions: Heat of the hottest mark in the box of each lesion, minus infinity without one, (L,).
        false: Heat of all marks of normal pictures, (F,).
        pictures: Number of normal pictures.

    Returns:
        The share of lesions above the lowest threshold with so many false marks; not a number without lesions or
        without normal pictures.

    Example:
        >>> froc([5.0, 2.0], [1.0, 3.0, 4.0, 0.5], pictures=2)[0.5]
        0.5
    """
    found, falling = np.asarray(lesions, np.float64), np.sort(np.asarray(false, np.float64))[::-1]
    if not len(found) or not pictures:
        return dict.fromkeys(RATES, float("nan"))
    # The first false mark too many; lesions must lie above it.
    limits = {rate: falling[int(rate * pictures) :] for rate in RATES}
    return {rate: float(np.mean(found > (rest[0] if len(rest) else -np.inf))) for rate, rest in limits.items()}


def aupro(regions: Sequence[NDArray[np.float32]], normal: NDArray[np.float32], limit: float = 0.3) -> float:
    """Area under the per-region overlap up to a false-positive rate, as a share of that rate.

    Bergmann et al. 2021 (IJCV 129:1038), section 5.1, over the pixels that are given: those of the foreground here,
    since a black background that is always normal would flatter.

    Args:
        regions: Map values of the pixels of each connected anomaly.
        normal: Map values of all normal pixels.
        limit: The false-positive rate.

    Returns:
        The share, 1 at best; not a number without a region or without normal pixels.

    Example:
        >>> aupro([np.float32([3.0, 2.0])], np.float32([0.0, 1.0, 1.0, 0.0]))
        1.0
    """
    if not len(regions) or not len(normal):
        return float("nan")
    rising = np.sort(normal)
    places = np.unique(np.linspace(1, np.ceil(limit * len(rising)), _STEPS).round().astype(int))
    thresholds = rising[-places]
    # What reaches a threshold counts, with all that tie with it.
    rates = 1 - np.searchsorted(rising, thresholds, side="left") / len(rising)
    regions = [np.sort(one) for one in regions]
    overlap = np.mean([1 - np.searchsorted(one, thresholds, side="left") / len(one) for one in regions], axis=0)
    # Above the highest normal value the overlap rises at the rate 0.
    above = float(np.mean([1 - np.searchsorted(one, rising[-1], side="right") / len(one) for one in regions]))
    rates, overlap = np.r_[0.0, rates], np.r_[above, overlap]
    inside = rates < limit
    x, y = np.r_[rates[inside], limit], np.r_[overlap[inside], np.interp(limit, rates, overlap)]
    return float(np.trapezoid(y, x)) / limit
