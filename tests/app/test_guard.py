from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from anomalib_xray.app.guard import HEADERS, Guard, is_loopback

POST = {"content-type": "application/octet-stream"}


async def served(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"served"})


async def failing(_: Scope, __: Receive, ___: Send) -> None:
    raise ValueError("the patient is Jane Doe")


def asked(headers: dict[str, str], method: str = "GET", host: str = "127.0.0.1", app: Any = served) -> list[Message]:
    """Messages that the guard sends for a request."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "method": method,
        "path": "/",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Guard(app, host)(scope, receive, send))
    return sent


@pytest.mark.parametrize(
    ("host", "listens", "status"),
    [
        ("127.0.0.1:8000", "127.0.0.1", 200),
        ("localhost:9999", "127.0.0.1", 200),
        ("LOCALHOST", "127.0.0.1", 200),
        ("[::1]:8000", "::1", 200),
        ("evil.example", "127.0.0.1", 403),
        ("127.0.0.1.evil.example", "127.0.0.1", 403),
        ("192.168.0.9:8000", "127.0.0.1", 403),
        ("", "127.0.0.1", 403),
        ("192.168.0.9:8000", "192.168.0.9", 200),
        ("evil.example", "192.168.0.9", 403),
        ("192.168.0.9:8000", "0.0.0.0", 200),
        (socket.gethostname(), "0.0.0.0", 200),
        ("evil.example", "0.0.0.0", 403),
    ],
)
def test_a_foreign_name_for_this_machine_gets_no_answer(host: str, listens: str, status: int) -> None:
    assert asked({"host": host}, host=listens)[0]["status"] == status


def test_a_request_without_a_host_is_refused() -> None:
    assert asked({})[0]["status"] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://127.0.0.1:9000"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "multipart/form-data; boundary=x"}, 415),
    ],
)
def test_another_page_cannot_send_radiographs(headers: dict[str, str], status: int) -> None:
    sent = asked({"host": "127.0.0.1:8000", **POST, **headers}, "POST")
    assert sent[0]["status"] == status
    assert (b"served" in sent[1]["body"]) == (status == 200)


@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example"])
def test_every_answer_has_the_headers(host: str) -> None:
    sent = dict(asked({"host": host})[0]["headers"])
    for name, value in HEADERS.items():
        assert sent[name.encode()] == value.encode()
    policy = HEADERS["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:", "data:"} & set(" ".join(policy).split())


def test_a_failure_is_a_sentence_and_quotes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    sent = asked({"host": "localhost"}, app=failing)
    assert sent[0]["status"] == 500
    assert b"The viewer failed inside" in sent[1]["body"]
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ValueError at test_guard.py:")
    assert "Doe" not in printed.err + printed.out + str(sent)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.0.0.2", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
