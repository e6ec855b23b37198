"""The preparation of a bundle, which must be that of the pictures that its model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.pipeline import Pipeline

NONE = Path("none")
"""What a user gives in place of a pipeline's file for radiographs that go in as they are."""

UNKNOWN_DATA = "pictures of unknown preparation"
"""Words for the training data of a checkpoint that does not say how they were prepared."""


@dataclass(frozen=True)
class Choice:
    """The preparation of a bundle.

    Attributes:
        pipeline: The pipeline; ``None`` for radiographs that go in as they are.
        trained_on: What the model was trained on, in words.
        warning: What somebody who reads the numbers must know; empty if nothing.
    """

    pipeline: Pipeline | None
    trained_on: str
    warning: str = ""


def choose_preparation(
    checkpoint: Path, memory: Mapping[str, Any] | None, given: Path | None, *, recompute: bool
) -> Choice:
    """Takes the preparation of the training, or the one that is given where it is the same.

    Args:
        checkpoint: The checkpoint, for messages.
        memory: What the checkpoint says of the preparation of its training data: ``prepared``, and the ``pipeline`` as
            of :meth:`Pipeline.as_json`, ``None`` where another program prepared them. ``None`` where it does not say.
        given: A pipeline's file, :data:`NONE`, or nothing.
        recompute: Whether every number of the bundle is taken anew, so that another preparation may be given.

    Returns:
        The choice.

    Raises:
        XrayError: Another preparation is given without ``recompute``, or a pipeline cannot be used.
    """
    pipeline = Pipeline.load(given) if given not in (None, NONE) else None
    if memory is None:
        warning = (
            f"{checkpoint.name} does not say how its training data were prepared: its threshold may come from pictures "
            "prepared in another way than those that the percentiles come from."
        )
        return Choice(pipeline, UNKNOWN_DATA, "" if recompute else warning)
    known = memory["pipeline"]
    trained_on = _in_words(memory)
    if given == NONE or (given is None and known is None):
        warning = f"The model was trained on {trained_on}: give it such pictures." if memory["prepared"] else ""
        return Choice(None, trained_on, warning)
    if given is None:
        pipeline = _rebuilt(checkpoint, known)
    if known is None or (pipeline is not None and pipeline.fingerprints("") != known["fingerprints"]):
        _check_recomputed(checkpoint, trained_on, given, recompute=recompute)
        return Choice(pipeline, trained_on, f"The model was trained on {trained_on}; every number here was taken anew.")
    return Choice(pipeline, trained_on)


def _check_recomputed(checkpoint: Path, trained_on: str, given: Path | None, *, recompute: bool) -> None:
    if recompute:
        return
    if given is None:
        raise XrayError(
            f"{checkpoint} was trained on {trained_on}, and these steps or their files have changed since: prepare "
            "and train again, or take all numbers of the bundle anew with --recompute."
        )
    raise XrayError(
        f"{checkpoint} was trained on {trained_on}, and {given} is another preparation: leave out --preparation, or "
        "take all numbers of the bundle anew with --recompute."
    )


def _rebuilt(checkpoint: Path, known: Mapping[str, Any]) -> Pipeline:
    try:
        return Pipeline(known["steps"], Path(known["folder"]), "the pipeline")
    except XrayError as error:
        raise XrayError(
            f"The preparation that {checkpoint} was trained with cannot be used here, {str(error).rstrip('.')}: name "
            "it with --preparation, or give --preparation none for radiographs that are prepared already."
        ) from error


def _in_words(memory: Mapping[str, Any]) -> str:
    if not memory["prepared"]:
        return "radiographs as they are"
    if memory["pipeline"] is None:
        return "pictures that another program prepared"
    steps = ", ".join(name for step in memory["pipeline"]["steps"] for name in step)
    return f"radiographs prepared by {steps or 'no step'}"
