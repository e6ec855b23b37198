"""The result of a bundle for a radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from anomalib_xray.io.radiograph import Radiograph

VERDICTS = {True: "anomalous", False: "not anomalous", None: "no threshold"}
"""Words of a verdict; never "healthy", which no score can show."""

NOT_COMPARABLE = "not comparable"
"""Verdict on a radiograph that must not be compared with those that the model was made for."""


@dataclass(frozen=True)
class RankScale:
    """Share of normal images with a lower score, ties counted half.

    Between two normal scores the share is interpolated, so that scores between them do not tie. Beyond the lowest and
    the highest one, where a plain share would be 0 and 1 for every image, a call goes on towards 0 and 1 without
    reaching them: the rest of the way times ``t / (1 + t)``, with ``t`` the distance in units of the normal scores'
    range. This breaks ties between images that are all worse than any normal one, but leaves them close to each other:
    a rank tells that an image is unlike the normal ones better than how much. A percentile stays at 0 and 100 there.

    Attributes:
        values: Distinct scores of normal images, rising.
        ranks: Share of each.

    Example:
        >>> scale = RankScale.of_quantiles([0.0, 1.0, 2.0])
        >>> scale.percentile(0.5), scale.percentile(7.0)
        (25.0, 100.0)
    """

    values: Sequence[float]
    ranks: Sequence[float]

    @classmethod
    def of_scores(cls, normal: NDArray[np.float64]) -> RankScale:
        """The scale of normal images ``(N,)``."""
        values, first, counts = np.unique(np.sort(normal), return_index=True, return_counts=True)
        return cls(values.tolist(), ((first + counts / 2) / len(normal)).tolist())

    @classmethod
    def of_quantiles(cls, quantiles: Sequence[float]) -> RankScale:
        """The scale of rising quantiles at equal steps from 0 to 100 %; of several equal ones the middle counts."""
        values, place = np.unique(quantiles, return_inverse=True)
        ranks = np.bincount(place, weights=np.linspace(0, 1, len(quantiles))) / np.bincount(place)
        return cls(values.tolist(), ranks.tolist())

    def percentile(self, score: float) -> float:
        """Per cent of normal images with a lower score: 0 below all of them, 100 above all of them."""
        return 100 * float(np.interp(score, self.values, self.ranks, left=0, right=1))

    def __call__(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scales scores ``(N,)`` to shares in (0, 1)."""
        lowest, highest = self.values[0], self.values[-1]
        beyond = (np.maximum(scores - highest, 0) + np.maximum(lowest - scores, 0)) / (highest - lowest)
        rest = beyond / (1 + beyond)
        inside: NDArray[np.float64] = np.interp(scores, self.values, self.ranks)
        return inside + np.where(scores > highest, rest * (1 - self.ranks[-1]), -rest * self.ranks[0])


@dataclass(frozen=True, eq=False)
class View:
    """One picture that a model was shown: the radiograph itself, or a picture that the preparation made of it.

    Attributes:
        name: Its name among the views of its radiograph, e.g. ``view 2``.
        image: (h, w), uint8 or uint16.
        scores: Raw scores by name, higher = more anomalous.
        heat_map: Raw anomaly map on the pixels of ``image``, (h, w) float32; ``None`` if the model has no map.
        stages: Name of each preparation step and the picture after it; empty unless asked for.
        flags: Notes of the preparation, as short words.
        outline: Corners (4, 2) of ``image`` on the original, as x, y in its pixels; what lies outside of all views was
            not looked at. ``None`` where the radiograph itself is the view.
    """

    name: str
    image: Radiograph
    scores: dict[str, float]
    heat_map: NDArray[np.float32] | None
    stages: list[tuple[str, Radiograph]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    outline: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Result:
    """Scores, heat map and verdict of one bundle for one radiograph.

    A radiograph of several views, e.g. two hands, is as anomalous as its worst view.

    Attributes:
        model: Name of the model, e.g. ``Cae``.
        scores: Raw scores by name, higher = more anomalous; the largest over the views.
        percentiles: Share of normal validation images below each score, in per cent; 0 below all of them, 100 above all
            of them, ``None`` where the bundle does not know them.
        score: Name of the score that decides.
        value: That score.
        threshold: Raw value from which on it is anomalous; ``None`` if there is none.
        is_anomalous: Whether the score reaches the threshold (``>=``); ``None`` without a threshold, and where the
            radiograph is not comparable.
        heat_map: Raw anomaly map on the original's pixels, (H, W) float32: 0 outside of the views, the largest value
            where they overlap; ``None`` if the model has no map.
        pixel_threshold: Raw value from which on a pixel of the map is anomalous; ``None`` if there is none.
        map_limits: Smallest and largest value of the maps of normal validation images; ``None`` if unknown.
        views: The pictures that the model was shown; at least one.
        flags: Notes of reading the file and of the preparation of any view, each word once.
        normalised: The score as a stock export returns it, 1/2 at its own threshold; ``None`` otherwise.
        not_comparable: Reasons against comparing the radiograph with those that the model was made for, in words.
        bundle_digest: SHA-256 of the bundle's description, in hexadecimal digits.
        normal: Number of normal patients, or of normal images where no patients are known, behind the percentiles;
            ``None`` if unknown.

    Example:
        >>> Result("Cae", {"mse": 0.1}, {"mse": None}, "mse", 0.1, 0.2, False, None, None, None, [], []).verdict
        'not anomalous'
    """

    model: str
    scores: dict[str, float]
    percentiles: dict[str, float | None]
    score: str
    value: float
    threshold: float | None
    is_anomalous: bool | None
    heat_map: NDArray[np.float32] | None
    pixel_threshold: float | None
    map_limits: tuple[float, float] | None
    views: list[View]
    flags: list[str]
    normalised: float | None = None
    not_comparable: tuple[str, ...] = ()
    bundle_digest: str = ""
    normal: int | None = None

    @property
    def verdict(self) -> str:
        """The verdict in words: one of :data:`VERDICTS`, or ``not comparable: ...`` with the reasons."""
        if self.not_comparable:
            return f"{NOT_COMPARABLE}: {'; '.join(self.not_comparable)}"
        return VERDICTS[self.is_anomalous]

    @property
    def percentile(self) -> float | None:
        """That of the score that decides."""
        return self.percentiles.get(self.score)

    @property
    def finest(self) -> float | None:
        """Smallest share of normal patients that a percentile can tell, in per cent; ``None`` if unknown.

        A new normal patient lies above all n known ones with the probability ``1 / (n + 1)``, so that nothing shows who
        is rarer than that.
        """
        return None if self.normal is None else 100 / (self.normal + 1)

    @property
    def rank(self) -> str:
        """The percentile in words, with the share below which it means nothing; empty without a percentile."""
        if self.percentile is None:
            return ""
        limit = (
            "" if self.finest is None else f" (of {self.normal} normal: shares below {self.finest:.2g} % mean nothing)"
        )
        return f"percentile {self.percentile:.4g}{limit}"
