from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation import report, settings
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.report import _CAPTION, _CELL, write_preview
from anomalib_xray.preparation.runner import run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.preparation.step import Plan, Step

pytestmark = pytest.mark.usefixtures("small_steps")

HEADER = _CAPTION + 4


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Ten pictures of one grey level, of which the last one is bright and therefore flagged."""
    for number in range(10):
        write_png(tmp_path / f"raw/{number}.png", np.full((20, 20), 200 if number == 9 else 10 * number + 5, np.uint8))
    return tmp_path / "raw"


def preview(raw: Path, count: int) -> list[np.ndarray]:
    out = raw.parent / "out"
    pipeline = Pipeline([{"brighten": {"by": 40}}, {"refuse": {}}])
    run(pipeline, raw, out, find_sources(raw, out))
    return [read_radiograph(path) for path in write_preview(pipeline, raw, out, count)]


def test_a_row_shows_the_stages_and_the_flagged_come_first(raw: Path) -> None:
    (page,) = preview(raw, 3)
    assert page.shape == (HEADER + 3 * (_CELL + _CAPTION), 3 * _CELL)
    middle = HEADER + _CAPTION + _CELL // 2
    cells = [int(page[middle, column * _CELL + _CELL // 2]) for column in range(3)]
    assert cells == [200, 240, 0]  # the third step did nothing


class Doubting(Step):
    """Doubts dark pictures, fails at black ones, and flags most of the others."""

    failures = frozenset({"black"})

    def plan(self, image: Radiograph) -> Plan:
        level = int(image.mean())
        if level == 0:
            return Plan(flags=("black",))
        return Plan({"doubt": 1 - level / 255}, ("grey",) if level > 100 else ("dim",))

    def apply(self, image: Radiograph, plan: Plan) -> Radiograph:
        del plan
        return image


def test_failures_come_first_then_doubt_then_rare_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "step_class", lambda *_: Doubting)
    for name, level in {"a": 200, "b": 99, "c": 101, "d": 0, "e": 10, "f": 190}.items():
        write_png(tmp_path / f"raw/{name}.png", np.full((8, 8), level, np.uint8))
    pipeline, out = Pipeline([{"doubting": {}}]), tmp_path / "out"
    run(pipeline, tmp_path / "raw", out, find_sources(tmp_path / "raw", out))
    chosen = report._worst_first(out, pipeline.failures, 5)
    assert [name for name, _ in chosen] == ["d.png", "e.png", "b.png", "c.png", "f.png"]


def test_pages_hold_a_limited_number_of_rows_and_old_ones_go(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomalib_xray.preparation.report._ROWS", 4)
    assert len(preview(raw, 10)) == 3
    assert len(preview(raw, 2)) == 1
    assert [path.name for path in (raw.parent / "out").glob("preview_*")] == ["preview_1.png"]


def test_an_original_that_is_gone_is_said_on_the_sheet(raw: Path) -> None:
    out = raw.parent / "out"
    pipeline = Pipeline([{"brighten": {}}])
    run(pipeline, raw, out, find_sources(raw, out))
    (raw / "9.png").unlink()
    (page,) = (read_radiograph(path) for path in write_preview(pipeline, raw, out, 1))
    assert page[HEADER + _CAPTION :].max() == 0
    assert page[HEADER : HEADER + _CAPTION].min() == 0
