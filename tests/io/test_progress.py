from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Semaphore

import pytest

from anomalib_xray.cli import main
from anomalib_xray.io.progress import SECONDS, duration, reported, status, track


class Minutes:
    """A clock that goes on by a minute when it is told to, and no earlier than the line before is written."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._passed, self._waiting = Semaphore(0), Semaphore(0)

    def clock(self) -> float:
        return self.now

    def wait(self, stopped: Event, seconds: float) -> bool:
        assert seconds == SECONDS == 60
        self._waiting.release()
        while not stopped.is_set():
            if self._passed.acquire(timeout=0.01):
                return False
        return True

    def passes(self) -> None:
        self._waiting.acquire()
        self.now += 60
        self._passed.release()
        self._waiting.acquire()
        self._waiting.release()


@pytest.fixture
def minutes() -> Minutes:
    return Minutes()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_line_a_minute_and_one_at_the_end(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    with reported(minutes.wait, minutes.clock):
        for item in track(range(20), "Preparing"):
            if item == 10:
                minutes.passes()
            if item == 15:
                minutes.passes()
    assert lines(capsys) == [
        "Preparing: 10 of 20 after 60 s, about 60 s left",
        "Preparing: 15 of 20 after 2 min, about 40 s left",
        "Preparing: 20 of 20; ended after 2 min",
    ]


def test_an_item_that_takes_long_is_no_silence(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    with reported(minutes.wait, minutes.clock):
        for _ in track(iter([0]), "cells", 4, done=3):
            minutes.passes()
            minutes.passes()
    assert lines(capsys) == [
        "cells: 3 of 4 after 60 s",
        "cells: 3 of 4 after 2 min",
        "cells: 4 of 4; ended after 2 min",
    ]


def test_what_was_done_before_does_not_shorten_what_is_left(
    minutes: Minutes, capsys: pytest.CaptureFixture[str]
) -> None:
    with reported(minutes.wait, minutes.clock):
        for item in track([1, 2, 3], "trials", 100, done=97):
            if item == 2:
                minutes.passes()
    assert lines(capsys)[0] == "trials: 98 of 100 after 60 s, about 2 min left"


def test_items_of_unknown_number_and_steps(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    with reported(minutes.wait, minutes.clock):
        for item in track(iter("abc"), "Predicting"):
            if item == "c":
                minutes.passes()
        with status("Exporting"):
            minutes.passes()
    assert lines(capsys) == [
        "Predicting: 2 after 60 s",
        "Exporting after 60 s",
        "Predicting: 3; ended after 2 min",
    ]


def test_a_step_that_is_over_is_not_named_any_more(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    """A server that has loaded its models must not say for hours that it loads them."""
    with reported(minutes.wait, minutes.clock):
        with status("Loading the models"):
            minutes.passes()
        minutes.passes()
    assert lines(capsys) == ["Loading the models after 60 s"]


def test_a_job_within_a_job_has_no_end_of_its_own(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    with reported(minutes.wait, minutes.clock):
        with reported():
            list(track([1], "Preparing"))
        list(track([1], "cells"))
    assert lines(capsys) == ["cells: 1 of 1; ended after 0 s"]


def test_a_job_that_fails_says_no_more(minutes: Minutes, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), reported(minutes.wait, minutes.clock):
        list(track(interrupted(), "Preparing"))
    list(track([1, 2], "Preparing"))  # outside of a command
    assert lines(capsys) == []


def test_a_terminal_shows_a_bar_instead(minutes: Minutes, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with reported(minutes.wait, minutes.clock), status("Loading"):
        assert list(track([1, 2], "Preparing")) == [1, 2]
    shown = terminal.getvalue()
    assert "Preparing" in shown
    assert "2/2" in shown
    assert "ended" not in shown


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (99, "99 s"),
        (101, "2 min"),
        (25 * 60, "25 min"),
        (3 * 3600 + 300, "3 h 5 min"),
        (1e6, "11 d 13 h"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_command_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["phantom", "--out", str(tmp_path), "--patients", "2"]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Drawing phantoms: ")
    assert "; ended after " in line
