from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.preparation.history import Action
from anomalib_xray.preparation.record import Output, Record, read_record, record_path, write_record
from anomalib_xray.preparation.step import Plan

MATRIX = np.array([[1.1, 0, -3.3], [0, 0.7, 1 / 3], [0, 0, 1]])


def record() -> Record:
    history = (Action("one", "f", Plan({"box": [1, 2]}, ("odd",)), 1),)
    return Record("a/b.dcm", "ab" * 32, "cd" * 32, (5, 6), (Output("a/b.png", "", (3, 4), 99, MATRIX, history),), "")


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path, record())
    read = read_record(tmp_path, "a/b.dcm")
    assert read is not None
    assert (read.source, read.sha256, read.key, read.shape, read.error) == (
        "a/b.dcm",
        "ab" * 32,
        "cd" * 32,
        (5, 6),
        "",
    )
    (output,) = read.outputs
    assert (output.name, output.mask, output.shape, output.size) == ("a/b.png", "", (3, 4), 99)
    assert output.history == record().outputs[0].history
    np.testing.assert_array_equal(output.matrix, MATRIX)  # exactly, not nearly


@pytest.mark.parametrize(
    "change", [{"format": 99}, {"source": "other.png"}, {"outputs": [{}]}, {"shape": [1]}, {"outputs": None}]
)
def test_a_record_that_cannot_be_understood_is_none(tmp_path: Path, change: dict[str, object]) -> None:
    write_record(tmp_path, record())
    path = record_path(tmp_path, "a/b.dcm")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert read_record(tmp_path, "a/b.dcm") is None


def test_no_record_is_none(tmp_path: Path) -> None:
    assert read_record(tmp_path, "a/b.dcm") is None
