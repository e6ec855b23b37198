"""The preparation inside a bundle: the pipeline with every setting written out, and the small models that it names."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_type_hints

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.settings import NamedStep

PIPELINE = "pipeline.yaml"
"""The pipeline's file in the folder of the preparation."""

_COMPANIONS = (".bin", ".json", ".onnx.data")
"""Endings of what lies beside a model and belongs to it."""


def copy_pipeline(pipeline: Pipeline, folder: Path) -> Path:
    """Writes a pipeline and its models into a folder.

    Args:
        pipeline: The pipeline.
        folder: Where to write.

    Returns:
        The pipeline's file. Its settings stand there with their defaults, so that a later version with other defaults
        prepares as this one does.

    Raises:
        XrayError: The pipeline needs files that belong to the training images, such as drawn masks.
    """
    import yaml

    steps = [
        {named.name: _self_contained(named, pipeline.folder, folder / f"{number}_{named.name}")}
        for number, named in enumerate(pipeline.steps, 1)
    ]
    path = folder / PIPELINE
    write_atomically(path, yaml.safe_dump({"steps": steps}, sort_keys=False))
    Pipeline.load(path)  # what a device could not read must not be written
    return path


def _self_contained(named: NamedStep, source: Path, target: Path) -> dict[str, Any]:
    """The settings of a step, the files that they name copied beside the pipeline."""
    hints = get_type_hints(type(named.step).__init__)
    settings = dict(named.settings)
    for name, value in settings.items():
        if isinstance(value, str) and "Path" in str(hints.get(name)):
            path = source / Path(value).expanduser()
            if path.is_dir():
                raise XrayError(
                    f"The step {named.name} takes {name} from the folder {path}, which belongs to known images: "
                    "prepare a bundle's radiographs without it."
                )
            settings[name] = f"{target.name}/{_copy(path, target)}"
    return settings


def _copy(path: Path, target: Path) -> str:
    """Copies a model and what belongs to it.

    Returns:
        Its name in the folder.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        for file in (path, *(path.with_suffix(ending) for ending in _COMPANIONS)):
            if file == path or file.is_file():
                shutil.copyfile(file, target / file.name)
    except OSError as error:
        raise XrayError(f"{path} cannot be copied into the bundle: {error.strerror}.") from error
    return path.name
