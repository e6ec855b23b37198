"""The preparation of a bundle, which must be that of the pictures that its model was trained on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.settings import NamedStep, path_settings

NONE = Path("none")
"""Word that a user gives in place of a pipeline's file for radiographs that go in as they are."""

UNKNOWN_DATA = "pictures of unknown preparation"
"""Words for the training data of a checkpoint that does not say how they were prepared."""

_COMPANIONS = (".bin", ".json", ".onnx.data")
"""Endings of files that lie beside a model and belong to it."""


@dataclass(frozen=True)
class Choice:
    """The preparation of a bundle.

    Attributes:
        pipeline: The pipeline; ``None`` for radiographs that go in as they are.
        trained_on: The training data, in words.
        warning: Warning to readers of the numbers; may be empty.
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
        memory: The checkpoint's note on its training data: ``prepared``, the ``pipeline`` as of
            :meth:`Pipeline.as_json`, ``None`` where another program prepared them, and the number of pictures of each
            of the ``body_parts`` where they were recognised. ``None`` without such a note.
        given: A pipeline's file, :data:`NONE`, or nothing.
        recompute: Whether every number of the bundle is taken anew; otherwise another preparation is refused.
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
    if known is not None and (pipeline is None or pipeline.fingerprints("") == known["fingerprints"]):
        return Choice(pipeline, trained_on)
    if recompute:
        return Choice(pipeline, trained_on, f"The model was trained on {trained_on}; every number here was taken anew.")
    reason, advice = f"{given} is another preparation", "leave out --preparation"
    if given is None:
        reason, advice = "these steps or their files have changed since", "prepare and train again"
    raise XrayError(
        f"{checkpoint} was trained on {trained_on}, and {reason}: {advice}, or take all numbers of the bundle anew "
        "with --recompute."
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
    parts = ", ".join(f"{part} {count}" for part, count in memory.get("body_parts", {}).items())
    return f"radiographs{f' (recognised as {parts})' if parts else ''} prepared by {steps or 'no step'}"


def copy_pipeline(pipeline: Pipeline, folder: Path) -> Path:
    """Writes a pipeline and its models into a folder; returns the pipeline's file.

    Its settings stand there with their defaults, so that a later version with other defaults prepares as this one does.
    A pipeline with files that belong to the training images, such as drawn masks, is refused.
    """
    import yaml

    steps = [
        {named.name: _self_contained(named, pipeline.folder, folder / f"{number}_{named.name}")}
        for number, named in enumerate(pipeline.steps, 1)
    ]
    path = folder / "pipeline.yaml"
    write_atomically(path, yaml.safe_dump({"steps": steps}, sort_keys=False))
    Pipeline.load(path)  # a device must be able to read it
    return path


def _self_contained(named: NamedStep, source: Path, target: Path) -> dict[str, Any]:
    """The settings of a step, the files that they name copied beside the pipeline."""
    paths, settings = path_settings(type(named.step)), dict(named.settings)
    for name, value in settings.items():
        if isinstance(value, str) and name in paths:
            path = source / Path(value).expanduser()
            if path.is_dir():
                raise XrayError(
                    f"The step {named.name} takes {name} from the folder {path}, which belongs to known images: "
                    "prepare a bundle's radiographs without it."
                )
            _copy(path, target)
            settings[name] = f"{target.name}/{path.name}"
    return settings


def _copy(path: Path, target: Path) -> None:
    """Copies a model and its companions into a folder."""
    target.mkdir(parents=True, exist_ok=True)
    try:
        for file in (path, *(path.with_suffix(ending) for ending in _COMPANIONS)):
            if file == path or file.is_file():
                shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise XrayError(f"{path} cannot be copied into the bundle: {error.strerror}.") from error
