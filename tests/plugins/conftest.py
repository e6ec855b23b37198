"""What the tests of the plugins share."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks exports, the longest checks of the contract: 10 to 30 seconds each, twice a plugin."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and "test_exported_model_agrees" in item.name:
            item.add_marker(pytest.mark.slow)
