from __future__ import annotations

import socket
import threading
from contextlib import ExitStack

import httpx
import pytest

from anomalib_xray.app.listen import TimedProtocol
from anomalib_xray.app.server import create_app
from anomalib_xray.edge.ensemble import Ensemble

from .running import Viewer

HEAD = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n"
SOON = 0.05


def test_a_request_whose_head_never_ends_is_closed(models: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedProtocol, "seconds", SOON)
    with Viewer(models) as viewer:
        for sent in (b"", b"POST /api/ana", HEAD, HEAD + b"\r\n" + HEAD):
            with socket.create_connection(viewer.socket.getsockname(), 30) as half:
                half.sendall(sent)
                with half.makefile("rb") as answers:
                    answer = answers.read()  # until it is closed
                assert answer.startswith(b"HTTP/1.1 200" if b"\r\n\r\n" in sent else b"")


def test_of_too_many_connections_the_one_that_is_silent_longest_is_closed(
    models: Ensemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimedProtocol, "connections_at_once", 3)
    monkeypatch.setattr(TimedProtocol, "seconds", 3600)
    with Viewer(models) as viewer, ExitStack() as stack:
        address = viewer.socket.getsockname()
        silent = [stack.enter_context(socket.create_connection(address, 30)) for _ in range(4)]
        assert silent[0].recv(1) == b""
        assert httpx.get(f"{viewer.address}/health", timeout=30).status_code == 200
        assert silent[1].recv(1) == b""


def test_an_answer_that_nobody_takes_is_dropped(models: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 50_000_000
    lost = threading.Event()
    parent = TimedProtocol.connection_lost

    def connection_lost(self: TimedProtocol, error: Exception | None) -> None:
        parent(self, error)
        if self.scope["method"] == "POST":
            lost.set()

    monkeypatch.setattr(TimedProtocol, "connection_lost", connection_lost)
    monkeypatch.setattr(TimedProtocol, "seconds", SOON)
    head = HEAD.replace(b"GET /health", b"POST /api/analyse") + b"content-type: application/octet-stream\r\n"
    large = create_app(lambda *_: bytes(size), [])
    with Viewer(models, app=large) as viewer, socket.create_connection(viewer.socket.getsockname(), 30) as deaf:
        deaf.sendall(head + b"content-length: 1\r\n\r\nx")
        assert lost.wait(30)
