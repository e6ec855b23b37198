"""One score out of several, of one model or of several models.

Scores have units of their own, so each is first brought to a common scale that the normal images of a validation set
give. Labels of anomalies are not used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.edge.result import RankScale
from anomalib_xray.errors import XrayError

Method = Literal["rank", "z_score", "robust_z_score"]

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LinearScale:
    """``(score - centre) / spread``, with a spread above 0."""

    centre: float
    spread: float

    def __call__(self, scores: Scores) -> Scores:
        """Scales scores ``(N,)``."""
        return (scores - self.centre) / self.spread


Scale = LinearScale | RankScale


class ScoreFusion:
    """Mean of several named scores on a common scale.

    Args:
        method: ``rank``: see :class:`~anomalib_xray.edge.result.RankScale`. ``z_score``: less the normal images' mean,
            in units of their standard deviation. ``robust_z_score``: the same from median and median absolute
            deviation, which a few odd normal images do not move.

    Raises:
        XrayError: The method is unknown.

    Example:
        >>> fusion = ScoreFusion("z_score").fit({"mse": [1.0, 3.0], "ssim": [10.0, 30.0]})
        >>> fusion({"mse": [2.0, 4.0], "ssim": [20.0, 40.0]}).tolist()
        [0.0, 2.0]
    """

    def __init__(self, method: Method = "rank") -> None:
        if method not in get_args(Method):
            raise XrayError(f"method is {method!r}, but scores are fused by {', '.join(get_args(Method))}; choose one.")
        self.method = method
        self.scales: dict[str, Scale] = {}

    def fit(self, normal: Mapping[str, ArrayLike]) -> ScoreFusion:
        """Learns the scale of each score, and returns itself.

        Args:
            normal: Scores of normal validation images by name, each ``(M,)``; these names are fused.

        Raises:
            XrayError: No score, fewer than two images, or a score that is constant or not finite.
        """
        if not normal:
            raise XrayError("There is no score to fuse; name at least one.")
        self.scales = {name: self._scale(name, _vector(name, scores)) for name, scores in normal.items()}
        return self

    def transform(self, scores: Mapping[str, ArrayLike]) -> Scores:
        """Fuses the scores of images.

        Args:
            scores: Scores by name, each ``(N,)``; names that were not fitted are ignored.

        Returns:
            Mean over the fitted names, higher = more anomalous, ``(N,)``; in (0, 1) for ``rank``, unbounded otherwise.

        Raises:
            XrayError: Nothing was fitted, a score is missing or not finite, or scores differ in length.
        """
        if not self.scales:
            raise XrayError("The fusion has no scale yet; fit it on the scores of normal validation images first.")
        missing = [name for name in self.scales if name not in scores]
        if missing:
            raise XrayError(f"The score {missing[0]} is missing; there are {', '.join(scores) or 'none'}.")
        scaled = {name: scale(_vector(name, scores[name])) for name, scale in self.scales.items()}
        lengths = {name: len(values) for name, values in scaled.items()}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
            raise XrayError(
                f"Scores of different numbers of images cannot be fused ({listed}); give those of the same."
            )
        fused: Scores = np.mean(list(scaled.values()), axis=0)
        return fused

    __call__ = transform

    def to_dict(self) -> dict[str, Any]:
        """Method and scales as plain JSON."""
        return {"method": self.method, "scales": {name: asdict(scale) for name, scale in self.scales.items()}}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> ScoreFusion:
        """Makes the fusion that :meth:`to_dict` described.

        Raises:
            XrayError: It is something else.
        """
        try:
            fusion = cls(content["method"])
            kind = RankScale if fusion.method == "rank" else LinearScale
            fusion.scales = {name: kind(**scale) for name, scale in content["scales"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise XrayError("This is not the description of a fusion; save one with ScoreFusion.to_dict.") from error
        return fusion

    def _scale(self, name: str, normal: Scores) -> Scale:
        if len(normal) < 2:
            raise XrayError(f"The score {name} has {len(normal)} normal images, but a scale needs 2; validate on more.")
        if self.method == "rank":
            scale: Scale = RankScale.of_scores(normal)
            spread = float(normal.max() - normal.min())
        elif self.method == "z_score":
            spread = float(normal.std()) if np.ptp(normal) > 0 else 0.0  # equal numbers may differ from their mean
            scale = LinearScale(float(normal.mean()), spread)
        else:
            centre = float(np.median(normal))
            # The standard deviation of a normal distribution is 1.4826 times its median absolute deviation.
            spread = 1.4826 * float(np.median(np.abs(normal - centre)))
            scale = LinearScale(centre, spread)
        if spread == 0:
            rest = " for half of the normal images or more" if self.method == "robust_z_score" else " on normal images"
            raise XrayError(f"The score {name} is constant{rest}, so that it has no scale; leave it out.")
        return scale


def _vector(name: str, scores: ArrayLike) -> Scores:
    """Scores as an array, checked."""
    vector = np.asarray(scores, dtype=np.float64)
    if vector.ndim != 1:
        raise XrayError(f"The score {name} has the shape {vector.shape}, but it is one number an image.")
    if not np.isfinite(vector).all():
        raise XrayError(f"The score {name} is not a finite number for some image; leave it out.")
    return vector
