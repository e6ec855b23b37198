from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.settings import build_steps, read_settings


def write(folder: Path, text: str) -> Path:
    path = folder / "pipeline.yaml"
    path.write_text(text)
    return path


def test_a_step_is_a_name_or_a_name_with_settings(tmp_path: Path) -> None:
    path = write(tmp_path, "steps:\n  - one\n  - two: {size: 3}\n  - three:\n")
    assert read_settings(path) == [{"one": {}}, {"two": {"size": 3}}, {"three": {}}]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no key 'steps'"),
        ("stepz: []", "no key 'steps'"),
        ("steps: []\nstepz: []", "unknown key 'stepz'"),
        ("steps: one", "no list under 'steps'"),
        ("steps: [[one]]", "step 1 is neither"),
        ("steps:\n  - one\n  - {two: 1}", "step 2 (two) has the settings 1"),
        ("steps:\n  - {one: {}, two: {}}", "step 1 is neither"),
        ("steps: [", "is no YAML"),
        ("steps: !!python/object/apply:os.system [ls]", "is no YAML"),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(XrayError) as refused:
        read_settings(path)
    assert says in str(refused.value)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="cannot be read"):
        read_settings(tmp_path / "none.yaml")


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"nothing": {}}], "p.yaml, step 1 (nothing): there is no preparation step 'nothing'"),
        (
            [{"brighten": {}}, {"brighten": {"bye": 1}}],
            "p.yaml, step 2 (brighten): the setting 'bye' is unknown; brighten has by, file.",
        ),
        ([{"brighten": {"by": "much"}}], "p.yaml, step 1 (brighten): 'much' is no value for the setting by."),
        ([{"brighten": {"by": -1}}], "p.yaml, step 1 (brighten): by must not be negative."),
        ([{"halves": {"by": 1}}], "halves has no settings"),
    ],
)
def test_a_wrong_setting_is_named(steps: list[dict[str, dict[str, object]]], says: str) -> None:
    with pytest.raises(XrayError) as refused:
        build_steps(steps, Path(), "p.yaml")
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("small_steps")
def test_settings_are_complete_and_paths_start_from_the_folder() -> None:
    first, second = build_steps([{"brighten": {}}, {"brighten": {"file": "a/b.xml"}}], Path("/somewhere"), "p.yaml")
    assert first.settings == {"by": 1, "file": None}
    assert second.settings == {"by": 1, "file": "a/b.xml"}
    assert second.step.file == Path("/somewhere/a/b.xml")  # type: ignore[attr-defined]
