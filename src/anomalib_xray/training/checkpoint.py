"""Open a checkpoint without knowing its model."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import check_checkpoint

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule


def load_model(checkpoint: Path, name: str | None = None) -> AnomalibModule:
    """Loads the model of a checkpoint; no code that the file might hold is run.

    Args:
        checkpoint: Checkpoint of a model plugin.
        name: Name of its model, for checkpoints that do not hold it.

    Returns:
        The model, in evaluation, on the CPU.

    Raises:
        XrayError: The file is no checkpoint, its model is not known, or it is that of another model.
    """
    check_checkpoint(checkpoint)
    with warnings.catch_warnings(action="ignore"):  # of packages that anomalib imports
        import anomalib_xray.models as plugins
    if name is not None and name not in plugins.__all__:
        choices = ", ".join(sorted(plugins.__all__))
        raise XrayError(f"{name!r} is no model that works here: name the one of {checkpoint} with --model ({choices}).")
    held = read_checkpoint(checkpoint).get("model_name")
    if name is None and held is None:
        raise XrayError(f"{checkpoint} does not say which model it holds: name it with --model, such as AlphaGan.")
    if name is not None and held is not None and held != name:
        raise XrayError(f"{checkpoint} is no checkpoint of {name} but of {held}: leave out --model.")
    kind = getattr(plugins, name or held or "", None)
    if kind is None:
        raise XrayError(f"{checkpoint} holds the model {held}, which is not installed here: install its plugin.")
    try:
        model: AnomalibModule = kind.load_from_checkpoint(checkpoint, map_location="cpu")
    except XrayError as error:  # of the model's constructor
        raise XrayError(f"{checkpoint}: {error}") from error
    except Exception as error:  # torch and the model's constructor raise about anything for a wrong file
        way_out = (
            "name another model with --model" if held is None else f"it is damaged or of another version of {held}"
        )
        raise XrayError(f"{checkpoint} is no checkpoint of {kind.__name__}: {way_out}.") from error
    return model.eval()


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Reads a checkpoint; no code that the file might hold is run.

    Args:
        checkpoint: Checkpoint of a model.

    Returns:
        Its content, with ``state_dict`` and ``hyper_parameters``.

    Raises:
        XrayError: The file is no checkpoint.
    """
    from pickle import UnpicklingError

    import torch
    from anomalib.utils.serialization import anomalib_safe_globals

    try:
        with anomalib_safe_globals():
            content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if not {"state_dict", "hyper_parameters"} <= content.keys():
            raise KeyError
    except UnpicklingError as error:
        if zipfile.is_zipfile(checkpoint):
            raise XrayError(
                f"{checkpoint} is no checkpoint that can be loaded: it holds Python objects beside its weights, which "
                "could run code; take a checkpoint that a current version wrote, or train again."
            ) from error
        raise XrayError(
            f"{checkpoint} is no checkpoint of a model: name the .ckpt file that training wrote."
        ) from error
    except Exception as error:  # torch raises about anything for files that are none of its own
        raise XrayError(
            f"{checkpoint} is no checkpoint of a model: name the .ckpt file that training wrote."
        ) from error
    found: dict[str, Any] = content
    return found
