"""Objective of a search: a measure and its rule of selection."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.units import LEVELS
from anomalib_xray.io.text import check_keys

Selection = Literal["label-free", "as published"]

MEASURES = {"label-free": ("painted_AUROC", "normal_mean", "AUCp"), "as published": ("AUROC", "AP")}
"""Measures of each rule of selection, the first one by default."""

SCALE = ("score", "top_k", "equalize", "image_size", "class_path")
"""Settings that change the scale of scores, so that means of scores are not comparable across them."""


@dataclass(frozen=True)
class Objective:
    """Objective of a search, measured on validation images.

    >>> Objective("as published", "AP", level="patient").metric
    'val_patient_AP'

    Attributes:
        selection: ``label-free`` uses normal and unlabelled images only, ``as published`` the labels of validation
            images.
        measure: ``painted_AUROC`` tells normal images from copies with painted faults, ``normal_mean`` is the mean
            score of normal images, ``AUCp`` tells normal images from the pool of unlabelled ones
            (:func:`~anomalib_xray.training.pseudo_auc.pseudo_auc`); ``AUROC`` and ``AP`` (average precision) tell
            normal from abnormal images.
        score: Named score that is measured; ``None`` for the model's own choice.
        level: ``image``, ``study`` or ``patient``.
    """

    selection: Selection
    measure: str
    score: str | None = None
    level: str = "image"

    @property
    def metric(self) -> str:
        """Name under which the score table logs the measure in validation."""
        suffix = "" if self.score is None else f"_{self.score}"
        if self.measure in ("normal_mean", "AUCp"):
            return f"val_{self.measure}{suffix}"
        return f"val_{self.level}_{'AP' if self.measure == 'AP' else 'AUROC'}{suffix}"

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Whether more or less is better."""
        return "minimize" if self.measure == "normal_mean" else "maximize"

    @property
    def rule(self) -> str:
        """The rule of selection in words."""
        score = "the model's chosen score" if self.score is None else f"the score {self.score}"
        what = {
            "painted_AUROC": f"highest AUROC of {score} between normal validation images and copies of them with "
            "painted faults",
            "normal_mean": f"lowest mean of {score} over normal validation images",
            "AUCp": f"highest AUROC of {score} between normal validation images and the pool of unlabelled images, as "
            "if all of these were abnormal",
            "AUROC": f"highest AUROC of {score} over labelled validation images, by {self.level}",
            "AP": f"highest average precision of {score} over labelled validation images, by {self.level}",
        }[self.measure]
        labels = "labels were used"
        if self.selection == "label-free":
            labels = "no label of a pool's image was used" if self.measure == "AUCp" else "no abnormal image was used"
        return f"{self.selection}: {what}; {labels}, and no test image"


def read_objective(content: Any, names: Iterable[str], where: str) -> Objective:
    """Reads an objective.

    Args:
        content: Mapping with ``selection``, and optionally ``measure``, ``score`` and ``level``.
        names: Dotted names of the settings that are searched.
        where: Name of the file for messages.
    """
    if not isinstance(content, dict) or "selection" not in content:
        raise XrayError(f"{where} states no rule of selection; say objective: {{selection: {' or '.join(MEASURES)}}}.")
    check_keys(content, {"selection", "measure", "score", "level"}, f"objective in {where}")
    selection, level = content["selection"], content.get("level", "image")
    if selection not in MEASURES:
        raise XrayError(f"{where} selects by {selection!r}; choose one of {', '.join(MEASURES)}.")
    measure = content.get("measure", MEASURES[selection][0])
    if measure not in MEASURES[selection]:
        raise XrayError(f"{where} measures {measure!r}, but {selection} measures {' or '.join(MEASURES[selection])}.")
    if level not in list(LEVELS):
        raise XrayError(f"{where} measures by {level!r}; choose one of {', '.join(LEVELS)}.")
    if selection == "label-free" and level != "image":
        raise XrayError(f"{where} measures by {level}, but normal images are measured one by one; say level: image.")
    scale = [name for name in names if measure == "normal_mean" and name.rpartition(".")[2] in SCALE]
    if scale:
        raise XrayError(
            f"{where} searches {scale[0]}, which changes the scale of scores, so that their means say nothing; "
            "choose measure: painted_AUROC, or leave this range out."
        )
    score = content.get("score")
    return Objective(cast("Selection", selection), measure, None if score is None else str(score), level)
