from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.history import decode_history, encode_history
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.step import Step

pytestmark = pytest.mark.usefixtures("small_steps")

WIDE = np.random.default_rng(0).integers(0, 200, (10, 31), dtype=np.uint8)


def pipeline(*names: str, **settings: Any) -> Pipeline:
    return Pipeline([{name: settings.get(name, {})} for name in names])


def test_a_pipeline_without_steps_returns_the_picture() -> None:
    (prepared,) = pipeline().prepare(WIDE)
    np.testing.assert_array_equal(prepared.image, WIDE)
    np.testing.assert_array_equal(prepared.matrix, np.eye(3))
    assert prepared.history == ()


def test_steps_follow_each_other_and_divide() -> None:
    left, right = pipeline("brighten", "halves", "brighten").prepare(WIDE)
    bright = np.where(WIDE > 0, WIDE + 1, 0)
    np.testing.assert_array_equal(left.image, np.where(bright[:, :15] > 0, bright[:, :15] + 1, 0))
    np.testing.assert_array_equal(right.image, np.where(bright[:, 15:30] > 0, bright[:, 15:30] + 1, 0))
    assert [action.part for action in right.history] == [0, 1, 0]
    np.testing.assert_array_equal(right.matrix @ (17, 4, 1), (2, 4, 1))


def test_an_empty_plan_leaves_the_picture_and_keeps_its_flags() -> None:
    (prepared,) = pipeline("halves").prepare(WIDE.T.copy())
    np.testing.assert_array_equal(prepared.image, WIDE.T)
    assert prepared.flags == ["narrow"]


def test_a_replay_gives_the_same_pixels_without_looking(small_steps: dict[str, type[Step]]) -> None:
    steps = pipeline("brighten", "halves", "brighten")
    done = steps.prepare(WIDE)
    for step in ("brighten", "halves"):
        small_steps[step].looks.clear()  # type: ignore[attr-defined]
    for prepared in done:
        again = steps.replay(WIDE, decode_history(encode_history(prepared.history)))
        np.testing.assert_array_equal(again.image, prepared.image)
        np.testing.assert_array_equal(again.matrix, prepared.matrix)
    assert small_steps["brighten"].looks == small_steps["halves"].looks == []  # type: ignore[attr-defined]


def test_a_history_of_another_pipeline_is_refused() -> None:
    (prepared,) = pipeline("brighten").prepare(WIDE)
    with pytest.raises(XrayError, match="another pipeline"):
        pipeline("brighten", "halves").replay(WIDE, prepared.history)


def test_plans_of_unchanged_first_steps_are_used_again(small_steps: dict[str, type[Step]]) -> None:
    known = [prepared.history for prepared in pipeline("brighten", "halves", "brighten").prepare(WIDE)]
    for step in ("brighten", "halves"):
        small_steps[step].looks.clear()  # type: ignore[attr-defined]
    changed = Pipeline([{"brighten": {}}, {"halves": {}}, {"brighten": {"by": 5}}])
    found = changed.prepare(WIDE, known=known)
    assert small_steps["halves"].looks == []  # type: ignore[attr-defined]
    assert small_steps["brighten"].looks == ["brighten"] * 2  # type: ignore[attr-defined]  # the last step, on each half
    for prepared, fresh in zip(found, changed.prepare(WIDE), strict=True):
        np.testing.assert_array_equal(prepared.image, fresh.image)


def test_plans_behind_a_changed_step_are_made_anew(small_steps: dict[str, type[Step]]) -> None:
    known = [prepared.history for prepared in pipeline("brighten", "halves").prepare(WIDE)]
    small_steps["halves"].looks.clear()  # type: ignore[attr-defined]
    Pipeline([{"brighten": {"by": 2}}, {"halves": {}}]).prepare(WIDE, known=known)
    assert small_steps["halves"].looks == ["halves"]  # type: ignore[attr-defined]


def test_fingerprints_change_with_settings_version_and_files(
    small_steps: dict[str, type[Step]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = pipeline("brighten", "named")
    first = steps.fingerprints("a.png")
    assert steps.fingerprints("a.png") == first
    assert pipeline("brighten", "named", brighten={"by": 1}).fingerprints("a.png") == first  # the default, spelt out
    assert pipeline("brighten", "named", brighten={"by": 2}).fingerprints("a.png")[0] != first[0]
    other = steps.fingerprints("b.png")
    assert (other[0], other[1] == first[1]) == (first[0], False)
    monkeypatch.setattr(small_steps["brighten"], "version", 2)
    assert steps.fingerprints("a.png")[0] != first[0]


def test_steps_learn_where_the_picture_comes_from(small_steps: dict[str, type[Step]]) -> None:
    pipeline("halves", "named").prepare(WIDE, "a/b.png")
    first, second = small_steps["named"].places  # type: ignore[attr-defined]
    assert first.name == second.name == "a/b.png"
    assert first.shape == WIDE.shape
    np.testing.assert_array_equal(first.matrix, np.eye(3))
    assert second.matrix[0, 2] == -15


def test_a_file_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("steps:\n  - brighten: {by: 7}\n")
    (prepared,) = Pipeline.load(path).prepare(np.full((2, 2), 3, np.uint16))
    assert prepared.image.dtype == np.uint16
    assert prepared.image.tolist() == [[10, 10], [10, 10]]
