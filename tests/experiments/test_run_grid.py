"""Preparation for the cells of a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.grid import Cell, Grid
from anomalib_xray.experiments.run_grid import settings_of
from anomalib_xray.io.text import read_csv
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation import sources


@pytest.mark.parametrize(
    ("data", "parts", "only"),
    [
        ("Mura", "XR_ELBOW", "*/XR_ELBOW/*"),
        ("Mura", ["wrist"], "*/XR_WRIST/*"),
        ("Mura", ["XR_HAND", "XR_WRIST"], None),
        ("Phantom", "XR_ELBOW", None),
    ],
)
def test_only_the_part_that_is_read_is_prepared(
    data: str, parts: Any, only: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []
    find = sources.find_sources

    def noted(*arguments: Any, only: str | None, **options: Any) -> Any:
        asked.append(only)
        return find(*arguments, only=only, **options)

    monkeypatch.setattr(sources, "find_sources", noted)
    for part in ("XR_ELBOW", "XR_WRIST"):
        write_png(tmp_path / "raw" / "train" / part / "a.png", np.full((9, 9), 99, np.uint8))
    init_args = {"root": str(tmp_path / "raw"), "body_parts": parts}
    cell = Cell(
        "Cae", "part", "small", False, 1, {}, {"class_path": f"anomalib_xray.data.{data}", "init_args": init_args}
    )
    pipeline = tmp_path / "small.yaml"
    pipeline.write_text("steps:\n  - resize: {longest_side: 8}\n")
    grid = Grid("One part", [cell], {"small": pipeline}, None, "image", {}, {})
    settings = settings_of(cell, grid, tmp_path / "out")
    prepared = tmp_path / "out" / "prepared" / "part-small"
    assert settings["data_config"]["init_args"]["prepared_root"] == str(prepared)
    assert asked == [only]
    assert len(list(prepared.rglob("a.png"))) == (1 if only else 2)


def test_what_cannot_be_prepared_or_made_is_one_sentence(tmp_path: Path) -> None:
    data = {"class_path": "anomalib_xray.data.Mura", "init_args": {"root": str(tmp_path / "gone")}}
    cell = Cell("Cae", "hands", "small", False, 1, {}, data)
    grid = Grid("None", [cell], {"small": tmp_path / "small.yaml"}, None, "image", {}, {})
    with pytest.raises(XrayError, match=r"The pictures of hands cannot be found or made: .*gone"):
        settings_of(cell, grid, tmp_path / "out")
    (tmp_path / "gone").mkdir()
    with pytest.raises(XrayError, match=r"The pictures of hands could not be prepared with .*: .* holds no radiograph"):
        settings_of(cell, grid, tmp_path / "out")


def test_fracatlas_is_prepared_by_the_table_of_its_folder(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    for name in ("listed", "other", "masks/listed"):
        write_png(root / f"{name}.png", np.full((9, 9), 99, np.uint8))
    (root / "table.csv").write_text("image_path,group,mask_path\nlisted.png,g0001,masks/listed.png\n")
    data = {"class_path": "anomalib_xray.data.FracAtlas", "init_args": {"root": str(root)}}
    cell = Cell("Cae", "arms", "small", False, 1, {}, data)
    pipeline = tmp_path / "small.yaml"
    pipeline.write_text("steps:\n  - resize: {longest_side: 8}\n")
    settings_of(cell, Grid("Arms", [cell], {"small": pipeline}, None, "image", {}, {}), tmp_path / "out")
    rows = read_csv(tmp_path / "out" / "prepared" / "arms-small" / "manifest.csv")
    assert [(row["image_path"], row["mask_path"]) for row in rows] == [("listed.png", "masks/listed.png")]
