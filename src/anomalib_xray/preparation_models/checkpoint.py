"""Where a training stands, kept on disk so that a stopped one goes on."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically


class Stateful(Protocol):
    """A network, an optimiser, a learning rate scheduler."""

    def state_dict(self) -> dict[str, Any]:
        """Its state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:  # noqa: ANN401  # each returns something else
        """Takes a state over."""


def save_checkpoint(path: Path, settings: Mapping[str, Any], step: int, parts: Mapping[str, Stateful]) -> None:
    """Writes where a training stands.

    Args:
        path: The file.
        settings: What the training depends on, JSON values.
        step: How many steps it has done.
        parts: What changes from step to step.

    Raises:
        XrayError: The file cannot be written.
    """
    content = io.BytesIO()
    states = {name: part.state_dict() for name, part in parts.items()}
    torch.save({"settings": dict(settings), "step": step, **states}, content)
    write_atomically(path, content.getvalue())


def resume(path: Path, settings: Mapping[str, Any], parts: Mapping[str, Stateful]) -> int:
    """Goes back to where an earlier run stood, if there was one.

    Args:
        path: The file of :func:`save_checkpoint`.
        settings: What the training depends on; must be those of the earlier run.
        parts: Take over the states from the file.

    Returns:
        How many steps are done; 0 without the file.

    Raises:
        XrayError: The file is damaged, or that of a training with other settings.
    """
    if not path.exists():
        return 0
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if content["settings"] != dict(settings):
            raise XrayError(f"{path} belongs to a training with other settings: choose another folder or delete it.")
        for name, part in parts.items():
            part.load_state_dict(content[name])
        return int(content["step"])
    except XrayError:
        raise
    except Exception as error:  # torch raises about anything for damaged files
        raise XrayError(f"{path} is no checkpoint of this training: delete it to start anew.") from error
