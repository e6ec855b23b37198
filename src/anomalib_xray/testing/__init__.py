"""Contracts that every plugin keeps, as tests that its author runs: of a model and of a preparation step.

pytest is needed here and nowhere else in this package: ``pip install pytest``.

Example:
    A plugin's ``tests/test_contract.py``, run by ``pytest``::

        from anomalib_xray.models import Cae
        from anomalib_xray.testing import ModelContract


        class TestCae(ModelContract):
            model = Cae
            settings = {"image_size": 64, "width": 4}
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from anomalib_xray.testing.contract import ModelContract
    from anomalib_xray.testing.step_contract import StepContract

# Without it, a failed check would not show the values that it compared. Must come before the modules are imported.
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in ("contract", "scoring", "step_contract")))

# Loaded when they are first used: a step's contract needs no torch.
_HOMES = {"ModelContract": "contract", "StepContract": "step_contract"}

__all__ = ["ModelContract", "StepContract"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
