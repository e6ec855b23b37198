from __future__ import annotations

import sys
from types import TracebackType

import pytest

from anomalib_xray.errors import XrayError, print_plainly_under_anomalib

Shown = list[tuple[type[BaseException], BaseException, TracebackType | None]]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What reaches the interpreter's own hook, which every test gets back."""
    errors: Shown = []
    monkeypatch.setattr(sys, "excepthook", lambda *error: errors.append(error))
    return errors


def raise_into_hook(error: BaseException) -> None:
    try:
        raise error
    except BaseException as raised:
        sys.excepthook(type(raised), raised, raised.__traceback__)


@pytest.mark.parametrize("program", ["/usr/bin/anomalib", "anomalib", "anomalib.exe"])
def test_the_stock_command_prints_the_sentence(
    program: str, shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "train"])
    print_plainly_under_anomalib()
    with pytest.raises(SystemExit, match="2"):
        raise_into_hook(XrayError("hand.png is empty; give another file."))
    assert capsys.readouterr().err == "error: hand.png is empty; give another file.\n"
    assert shown == []


def test_other_errors_are_shown_as_before(
    shown: Shown, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib"])
    print_plainly_under_anomalib()
    error = ValueError("a defect")
    raise_into_hook(error)
    assert shown == [(ValueError, error, error.__traceback__)]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("program", ["pytest", "anomalib-xray", "python", "/home/anomalib/train.py", ""])
def test_another_program_keeps_its_hook(program: str, shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    before = sys.excepthook
    print_plainly_under_anomalib()
    assert sys.excepthook is before
    assert shown == []


def test_the_hook_is_set_once(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib"])
    print_plainly_under_anomalib()
    hook = sys.excepthook
    print_plainly_under_anomalib()
    assert sys.excepthook is hook
    assert shown == []


def test_an_error_that_a_settings_parser_collected_is_printed_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def parse(exceptions: list[Exception]) -> None:
        raise ValueError("Does not validate against any of the Union subtypes") from exceptions[0]

    monkeypatch.setattr(sys, "argv", ["/bin/anomalib", "train"])
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    print_plainly_under_anomalib()
    with pytest.raises(ValueError, match="Union") as caught:
        parse([TypeError("Expected None"), XrayError("Choose another size.")])
    with pytest.raises(SystemExit, match="2"):
        sys.excepthook(caught.type, caught.value, caught.tb)
    assert capsys.readouterr().err == "error: Choose another size.\n"
