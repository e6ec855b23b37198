"""Listen where only this machine can reach, unless told otherwise."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress

import uvicorn

from anomalib_xray.app.guard import is_loopback
from anomalib_xray.app.models import ServedModel
from anomalib_xray.app.server import create_app
from anomalib_xray.errors import XrayError

_BACKLOG = 128
_SLOWEST_REST = 5
"""Seconds that open connections have to end."""


def opened_socket(host: str, port: int, *, allow_remote: bool) -> socket.socket:
    """Opens the address before models are loaded, so that a port in use is said at once.

    Args:
        host: Name or address to listen on.
        port: Port; 0 takes a free one.
        allow_remote: Whether the address may be one that other machines reach.

    Returns:
        The listening socket; close it.

    Raises:
        XrayError: The address cannot be used, or others could reach it and are not allowed to.
    """
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
        listening.listen(_BACKLOG)  # who connects before the server runs waits, and is not refused
    except OSError as error:
        listening.close()
        raise XrayError(f"The viewer cannot listen on {host}, port {port}: {error.strerror or error}.") from error
    return listening


def listen(models: Sequence[ServedModel], listening: socket.socket, host: str) -> int:
    """Serves the viewer until it is interrupted.

    Args:
        models: What it asks.
        listening: Where.
        host: Name or address of it, as the user gave it.

    Returns:
        Exit status, 0.
    """
    config = uvicorn.Config(
        create_app(models, host=host),
        access_log=False,
        log_level="error",
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_SLOWEST_REST,
        h11_max_incomplete_event_size=65536,
    )
    shown = f"[{host}]" if ":" in host else host
    labels = ", ".join(model.label for model in models)
    print(
        f"{labels}: open http://{shown}:{listening.getsockname()[1]} in a browser; Ctrl-C ends the viewer.", flush=True
    )
    with suppress(KeyboardInterrupt):  # uvicorn ends its work first, and passes the signal on then
        uvicorn.Server(config).run(sockets=[listening])
    return 0
