"""Shared fixtures of the plugins' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).parent

WITH_ONNX = ("TestAlphaGan",)
"""Contracts whose export to ONNX is checked by itself; in all of them that to OpenVINO goes through the same file.

That of a CAE is checked by tests/components/test_export.py.
"""


@pytest.fixture(autouse=True)
def _few_images_measure_an_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.training.export.PARITY_IMAGES", 8)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks exports, the longest checks of the contract: 10 to 30 seconds each."""
    left_out = []
    for item in items:
        if not item.path.is_relative_to(HERE) or "test_exported_model_agrees" not in item.name:
            continue
        item.add_marker(pytest.mark.slow)
        if "to_onnx" in item.name and not {part.name for part in item.listchain()} & set(WITH_ONNX):
            left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
