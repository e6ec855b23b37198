"""The viewer's address: its socket, its HTTP protocol with time limits, and its server."""

from __future__ import annotations

import os
import socket
import sys
import time
from asyncio import TimerHandle, Transport
from contextlib import suppress
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from anomalib_xray.app.guard import is_loopback
from anomalib_xray.app.server import create_app
from anomalib_xray.app.worker import Worker
from anomalib_xray.errors import XrayError

_SLOWEST_REST = 5
"""Seconds that open connections have to end."""


def opened_socket(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """Opens the address before models are loaded, so that a port in use is said at once; port 0 takes a free one."""
    if not 0 <= port < 2**16:
        raise XrayError(f"There is no port {port}: give 0 to 65535.")
    if not is_loopback(host):
        if not allow_remote:
            raise XrayError(
                f"Other machines could reach the viewer at {host}, without a login: "
                "use the host 127.0.0.1, or add --allow_remote true."
            )
        print(
            f"warning: the viewer at {host} has no login and no encryption; whoever reaches it can use it.",
            file=sys.stderr,
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # there it would let another program take the port over
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # those that connect before the server runs wait
    except OSError as error:
        listening.close()
        raise XrayError(f"The viewer cannot listen on {host}, port {port}: {error.strerror or error}.") from error
    return listening


class TimedProtocol(H11Protocol):
    """HTTP that cuts off browsers which connect and then neither ask nor take the answer.

    Attributes:
        seconds: Time limit for the head of a request, and for the next piece of an answer to be taken.
        connections_at_once: Beyond them, the one is cut off that has waited longest with nothing asked.
    """

    seconds: float = 10
    connections_at_once: int = 256

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self._silent_since = time.monotonic()
        self._left = 0
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as in the parent class
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._wait()
        silent = [other for other in self.connections if isinstance(other, TimedProtocol) and other._timer]
        if len(self.connections) > self.connections_at_once:
            min(silent, key=lambda other: other._silent_since).transport.abort()

    def handle_events(self) -> None:
        """Stops waiting where the head of a request is whole."""
        super().handle_events()
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Waits until the answer is taken, and for the next request."""
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._stop_waiting()
        self._silent_since = time.monotonic()
        self._left = self.transport.get_write_buffer_size()
        self._timer = self.loop.call_later(self.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _give_up(self) -> None:
        if self.transport.get_write_buffer_size() < self._left:
            self._wait()  # a large answer on a slow line
        else:
            self.transport.abort()


def listen(worker: Worker, listening: socket.socket, host: str) -> int:
    """Serves the viewer until it is interrupted; ``host`` is the address as the user gave it."""
    config = uvicorn.Config(
        create_app(worker, worker.facts, host=host),
        http=TimedProtocol,
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_SLOWEST_REST,
        h11_max_incomplete_event_size=65536,
    )
    shown = f"[{host}]" if ":" in host else host
    labels = ", ".join(model["label"] for model in worker.facts)
    print(
        f"{labels}: open http://{shown}:{listening.getsockname()[1]} in a browser; Ctrl-C ends the viewer.", flush=True
    )
    with suppress(KeyboardInterrupt):  # uvicorn ends its work first, and passes the signal on then
        uvicorn.Server(config).run(sockets=[listening])
    return 0
