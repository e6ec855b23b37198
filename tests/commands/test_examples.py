from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.cli import main
from anomalib_xray.commands import examples as command

ROOT = Path(__file__).parents[2]


def names(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize("installed", [False, True])
def test_the_examples_are_those_of_the_repository(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if installed:  # as in a wheel, where they lie in the package
        package = tmp_path / "site-packages" / "anomalib_xray"
        (package / "examples").mkdir(parents=True)
        for name in command.EXAMPLES:
            (package / "examples" / name).symlink_to(ROOT / name)
        monkeypatch.setattr(command, "__file__", str(package / "commands" / "examples.py"))
    assert main(["examples", "--out", str(tmp_path / "work")]) == 0
    for name in command.EXAMPLES:
        assert names(tmp_path / "work" / name) == names(ROOT / name)
    capsys.readouterr()
    assert main(["examples", "--out", str(tmp_path / "work")]) == 2
    assert "configs exists already" in capsys.readouterr().err


def test_an_installation_without_them_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "__file__", str(tmp_path / "a" / "b" / "examples.py"))
    assert main(["examples", "--out", str(tmp_path / "work")]) == 2
    assert "lacks the examples" in capsys.readouterr().err
    assert not (tmp_path / "work").exists()
