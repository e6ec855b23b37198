"""The state of all random number generators, as plain data that a checkpoint may hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state() -> dict[str, Any]:
    """Reads the state of Python's, numpy's and torch's generators, on every accelerator that was used.

    Returns:
        Tensors, numbers and strings only, so that a checkpoint with it loads without running pickled code.
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
    """Sets all generators to a state that :func:`random_state` read.

    Accelerators' states are left alone where this machine has another number of them.

    Args:
        state: The state.
    """
    python, numpy_state = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    keys: Tensor = numpy_state["keys"]
    np.random.set_state(  # noqa: NPY002  # as above
        (
            "MT19937",
            keys.numpy().astype(np.uint32),
            numpy_state["position"],
            numpy_state["has_gauss"],
            numpy_state["gauss"],
        )
    )
    torch.set_rng_state(state["torch"].cpu().to(torch.uint8))
    cuda = state.get("cuda")
    if cuda is not None and torch.cuda.is_available() and len(cuda) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([entry.cpu().to(torch.uint8) for entry in cuda])
