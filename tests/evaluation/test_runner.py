"""What is prepared for the cells of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anomalib_xray import cli
from anomalib_xray.evaluation.plan import Cell, Grid
from anomalib_xray.evaluation.runner import with_prepared


@pytest.mark.parametrize(
    ("data", "parts", "only"),
    [
        ("Mura", "XR_ELBOW", ["--only", "*/XR_ELBOW/*"]),
        ("Mura", ["wrist"], ["--only", "*/XR_WRIST/*"]),
        ("Mura", ["XR_HAND", "XR_WRIST"], []),
        ("Phantom", "XR_HAND", []),
    ],
)
def test_only_the_part_that_is_read_is_prepared(
    data: str, parts: Any, only: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []

    def prepare(arguments: list[str]) -> int:
        calls.append(arguments)
        return 0

    monkeypatch.setattr(cli, "main", prepare)
    init_args = {"root": str(tmp_path), "body_parts": parts}
    cell = Cell(
        "Cae", "part", "full", False, 1, {}, {"class_path": f"anomalib_xray.data.{data}", "init_args": init_args}
    )
    grid = Grid("One part", [cell], {"full": Path("full.yaml")}, None, "image", {}, {})
    prepared = with_prepared(cell, grid, tmp_path / "out")
    assert prepared.data_config["init_args"]["prepared_root"] == str(tmp_path / "out" / "prepared" / "part-full")
    (arguments,) = calls
    assert (arguments[-2:] if "--only" in arguments else []) == only
