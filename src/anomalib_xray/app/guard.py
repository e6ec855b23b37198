"""The guard between a browser and the viewer: origins of requests, headers of answers, and errors without content."""

from __future__ import annotations

import ipaddress
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS: dict[str, str] = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
        "trusted-types 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
"""Headers of every answer."""

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
"""Names of this machine that no other can reach."""

_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 RUF100  # compared with, not bound to
_BODY_TYPE = "application/octet-stream"
"""No form of a foreign page can send it without asking first."""
_UNREAD = (408, 413)
"""Answers that are given before the body has been read to its end."""


class RequestError(Exception):
    """A request that is answered with an error.

    Args:
        status: HTTP status, 400 to 599.
        sentence: The fault and the way out; nothing of the request's content.

    >>> RequestError(503, "Try again.").response().headers["retry-after"]
    '1'
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence

    def response(self) -> Response:
        """The answer: ``{"error": "<one sentence>"}``."""
        headers = {"retry-after": "1"} if self.status == 503 else {}
        if self.status in _UNREAD:
            headers["connection"] = "close"
        return JSONResponse({"error": self.sentence}, self.status, headers)


class Guard:
    """Checks each request before the application sees it, and answers where the application failed.

    The ``Host`` must name this machine, or a foreign name that was made to point here (DNS rebinding) could read the
    answers. A ``POST`` must come from the viewer's own page: its ``Origin`` equals the ``Host``, where it has one.

    Args:
        app: The application.
        host: Name or address that the viewer listens on.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._any_address = host in _ANY_ADDRESS
        self._names = LOOPBACK | {host.lower()} | ({socket.gethostname().lower()} if self._any_address else set())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        # The viewer has no websockets; without an answer the server closes them.

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_with_headers)
        except RequestError as refusal:
            await refusal.response()(scope, receive, send_with_headers)
        except Exception as error:
            report(error)
            if not started:
                failed = RequestError(500, "The viewer failed inside: try another file.")
                await failed.response()(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = scope["headers"]
        hosts = _values(headers, b"host")
        if len(hosts) != 1 or not self._is_here(hosts[0]):
            raise RequestError(403, "The viewer answers only under its own address: open that which it printed.")
        if scope["method"] != "POST":
            return
        origins = _values(headers, b"origin")
        sites = _values(headers, b"sec-fetch-site")
        if any(origin.partition("://")[2] != hosts[0] for origin in origins) or any(
            site not in ("same-origin", "none") for site in sites
        ):
            raise RequestError(403, "The viewer takes radiographs from its own page only.")
        if _values(headers, b"content-type") != [_BODY_TYPE]:
            raise RequestError(415, f"Send the content of one file as {_BODY_TYPE}.")

    def _is_here(self, host: str) -> bool:
        """Whether a ``Host`` names this machine, whatever the port: it may be forwarded."""
        name = (host[1:].partition("]") if host.startswith("[") else host.partition(":"))[0].lower()
        return name in self._names or (self._any_address and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on.

    >>> is_loopback("127.0.0.9"), is_loopback("0.0.0.0")
    (True, False)
    """
    return host.lower() in LOOPBACK or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in headers if key.lower() == name]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def report(error: Exception) -> None:
    """Prints the place of a failure without its message, which may quote a patient's data."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    print(f"error: {type(error).__name__} at {Path(last.filename).name}:{last.lineno}.", file=sys.stderr)
