"""Checkpoints: the model that one holds, its content, and the state of random number generators."""

from __future__ import annotations

import random
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from anomalib.utils.serialization import anomalib_safe_globals
from lightning.fabric.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.serialization import get_crc32_options, set_crc32_options

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import check_checkpoint
from anomalib_xray.io.write import noticing_full_disk, temporary_of

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
        XrayError: The file is not a checkpoint, its model is not known, or it is that of another model.
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
    """Reads a checkpoint's content, with ``state_dict`` and ``hyper_parameters``; no code that it might hold is run.

    Raises:
        XrayError: The file is not a checkpoint.
    """
    try:
        with anomalib_safe_globals():
            content: Any = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        if not {"state_dict", "hyper_parameters"} <= content.keys():
            raise KeyError
    except Exception as error:  # torch raises about anything for files that are none of its own
        if isinstance(error, UnpicklingError) and zipfile.is_zipfile(checkpoint):
            raise XrayError(
                f"{checkpoint} is no checkpoint that can be loaded: it holds Python objects beside its weights, which "
                "could run code; take a checkpoint that a current version wrote, or train again."
            ) from error
        raise XrayError(
            f"{checkpoint} is no checkpoint of a model: name the .ckpt file that training wrote."
        ) from error
    found: dict[str, Any] = content
    return found


class StraightCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints straight to their file, in one step; Lightning first makes two copies of each in memory.

    The checksums within a file are left out, which torch computes and never compares. Both took longer than the steps
    of a small model's epoch, each of which ends with one or two checkpoints.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes one; to a remote place as Lightning does."""
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        temporary, checked = temporary_of(Path(path)), get_crc32_options()
        temporary.parent.mkdir(parents=True, exist_ok=True)
        set_crc32_options(False)
        try:
            with noticing_full_disk(temporary.parent):
                torch.save(checkpoint, temporary)
            temporary.replace(path)
        finally:
            set_crc32_options(checked)
            temporary.unlink(missing_ok=True)


def random_state() -> dict[str, Any]:
    """Reads the state of Python's, numpy's and torch's generators, on every accelerator that was used.

    It is made of tensors, numbers and strings only, so that a checkpoint with it loads without running pickled code.

    >>> state, first = random_state(), torch.rand(3)
    >>> restore_random_state(state)
    >>> torch.equal(torch.rand(3), first)
    True
    """
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002  # what libraries without an own one use
    version, internal, python_gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "internal": list(internal), "gauss": python_gauss},
        "numpy": {
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": int(position),
            "has_gauss": int(has_gauss),
            "gauss": float(gauss),
        },
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_random_state(state: dict[str, Any]) -> None:
    """Sets all generators to a state of :func:`random_state`.

    Accelerators' states are left alone where this machine has another number of them.
    """
    python = state["python"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys: Tensor = state["numpy"]["keys"]
    rest = (state["numpy"][name] for name in ("position", "has_gauss", "gauss"))
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002  # as above
    torch.set_rng_state(state["torch"].cpu().to(torch.uint8))
    cuda = state.get("cuda")
    if cuda is not None and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([entry.cpu().to(torch.uint8) for entry in cuda])
