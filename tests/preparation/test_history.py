from __future__ import annotations

import json

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.history import (
    Action,
    decode_history,
    encode_history,
    flags_of,
    settled,
    summarised,
)
from anomalib_xray.preparation.step import Plan

MASK = np.random.default_rng(0).random((13, 21)) < 0.5


def history() -> tuple[Action, ...]:
    nested = {"box": [1, 2.5], "hands": [{"mask": MASK}], "name": "a", "none": None, "yes": True}
    return (
        Action("one", "f1", Plan(nested, ("seen", "odd"))),
        Action("two", "f2", Plan({}, ("seen",))),
        Action("three", "f3", Plan({"mask": MASK}), 1),
    )


def test_a_history_survives_json() -> None:
    read = decode_history(json.loads(json.dumps(encode_history(history()))))
    assert [(action.step, action.fingerprint, action.part) for action in read] == [
        ("one", "f1", 0),
        ("two", "f2", 0),
        ("three", "f3", 1),
    ]
    assert [action.plan.flags for action in read] == [("seen", "odd"), ("seen",), ()]
    np.testing.assert_array_equal(read[0].plan.parameters["hands"][0]["mask"], MASK)
    assert read[0].plan.parameters["hands"][0]["mask"].dtype == np.bool_
    rest = {key: value for key, value in read[0].plan.parameters.items() if key != "hands"}
    assert rest == {"box": [1, 2.5], "name": "a", "none": None, "yes": True}
    np.testing.assert_array_equal(read[2].plan.parameters["mask"], MASK)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (512, 397)])
def test_masks_of_any_shape_survive(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(1).random(shape) < 0.5
    (action,) = decode_history(encode_history((Action("one", "f", Plan({"mask": mask})),)))
    np.testing.assert_array_equal(action.plan.parameters["mask"], mask)


def test_a_plan_settles_into_what_a_record_gives_back() -> None:
    plan = Plan({"corners": ((1, 2), (3, 4)), "mask": MASK}, ("a",))
    assert settled(plan).parameters["corners"] == [[1, 2], [3, 4]]
    assert settled(plan).flags == ("a",)


@pytest.mark.parametrize("value", [np.float32(1), np.zeros((2, 2), np.uint8), np.zeros(3, bool), object(), {1, 2}])
def test_what_a_record_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=type(value).__name__):
        settled(Plan({"value": [value]}))


def test_a_damaged_mask_is_one_sentence() -> None:
    entries = encode_history((Action("one", "f", Plan({"mask": MASK})),))
    entries[0]["parameters"]["mask"]["$mask"] = "AAAA"
    with pytest.raises(XrayError, match="damaged"):
        decode_history(entries)


def test_flags_come_once_in_order() -> None:
    assert flags_of(history()) == ["seen", "odd"]


def test_a_summary_is_readable_and_leaves_out_what_did_nothing() -> None:
    summary = summarised(history())
    assert list(summary) == ["one", "three"]
    assert summary["three"] == {"part": 2, "mask": f"mask of {MASK.mean():.1%}"}
    json.dumps(summary)
