from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.app.guard import RequestError
from anomalib_xray.app.worker import Jobs, Worker
from anomalib_xray.errors import XrayError


def refuse(body: bytes) -> bytes:
    raise XrayError(f"{len(body)} bytes are too few.")


def fail(body: bytes) -> bytes:
    raise ValueError(f"the patient is {body!r}")


def hang(body: bytes) -> bytes:
    del body
    while True:  # as a library that is deep in its work
        time.sleep(3600)


def die(body: bytes) -> bytes:
    os.kill(os.getpid(), signal.SIGKILL)
    return body


def begin() -> tuple[Any, Jobs]:
    return ["facts"], {"echo": bytes, "refuse": refuse, "fail": fail, "hang": hang, "die": die}


def begin_nothing() -> tuple[Any, Jobs]:
    raise XrayError("There is no bundle here.")


def begin_dead() -> tuple[Any, Jobs]:
    die(b"")
    return None, {}


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The process begins by importing this module, wherever pytest was started from."""
    root = str(Path(__file__).parents[2])
    sys.path.insert(0, root)
    yield
    sys.path.remove(root)


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    running = Worker(begin, seconds=0.2)
    yield running
    running.close()


def test_it_answers(worker: Worker) -> None:
    assert worker.facts == ["facts"]
    assert worker("echo", bytes(1_000_000)) == bytes(1_000_000)


def test_what_it_refuses_is_a_sentence(worker: Worker) -> None:
    with pytest.raises(XrayError, match="3 bytes are too few"):
        worker("refuse", b"Doe")


def test_what_takes_too_long_is_ended_and_the_next_is_answered(worker: Worker) -> None:
    before = worker.process_id
    with pytest.raises(RequestError, match=r"longer than 0\.2 seconds") as late:
        worker("hang", b"")
    assert late.value.status == 504
    with pytest.raises(ProcessLookupError):  # it is gone, and does not go on in the background
        os.kill(before, 0)
    assert worker("echo", b"next") == b"next"


def test_a_file_that_crashes_a_decoder_ends_nobody_else(worker: Worker) -> None:
    with pytest.raises(XrayError, match="ended what worked on it"):
        worker("die", b"")
    assert worker("echo", b"next") == b"next"


@pytest.mark.parametrize(("start", "sentence"), [(begin_nothing, "There is no bundle here"), (begin_dead, "memory")])
def test_what_cannot_begin_says_why(start: Any, sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        Worker(start, seconds=1)


def test_a_failure_quotes_nothing_and_once_closed_it_stays_closed(capfd: pytest.CaptureFixture[str]) -> None:
    running = Worker(begin, seconds=30)
    with pytest.raises(RequestError, match="The viewer failed inside") as failure:
        running("fail", b"Doe")
    running.close()
    assert failure.value.status == 500
    printed = capfd.readouterr().err
    assert printed.startswith("error: ValueError at test_worker.py:")
    assert "Doe" not in printed
    with pytest.raises((XrayError, RequestError)):
        running("echo", b"")
    with pytest.raises(ProcessLookupError):
        os.kill(running.process_id, 0)
