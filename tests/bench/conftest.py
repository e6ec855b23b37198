from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

TINY = Path(__file__).parents[1] / "edge" / "tiny_bundle.py"


@pytest.fixture(scope="session")
def write_tiny_bundle() -> Callable[..., Path]:
    """Writes a bundle whose model needs no training."""
    spec = importlib.util.spec_from_file_location("tiny_bundle_of_bench", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write: Callable[..., Path] = module.write_bundle
    return write
