"""The command that opens the viewer."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import Literal

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status

_LONGEST_WORK = 60
"""Seconds that a radiograph is worked on before it is given up."""


def app(
    bundle: list[Path] | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    allow_remote: bool = False,
    precision: Literal["fp32", "fp16", "int8", "bf16"] | None = None,
    device: str = "CPU",
    threads: int | None = None,
) -> int:
    """Shows radiographs in a browser, with what one or several models say of them.

    Open the address that it prints, and drop radiographs onto the page. Nothing is written to disk, and no file is kept
    in memory once it is answered. Ctrl-C ends it.

    Args:
        bundle: Folders of bundles; give --bundle once for each model.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        allow_remote: Whether other machines may connect, where the host is not this machine's loopback. There is no
            login and no encryption.
        precision: Precision of all models instead of the one that each bundle names.
        device: OpenVINO device, such as CPU or GPU.
        threads: CPU threads of a model; OpenVINO decides by default.

    Returns:
        Exit status: 0 when it was ended.

    Raises:
        XrayError: A bundle, the device or the address cannot be used, or FastAPI and uvicorn are missing.
    """
    if not bundle:
        raise XrayError("Give a bundle with --bundle FOLDER; anomalib-xray bundle makes one of a trained model.")
    try:
        import fastapi  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise XrayError(
            f"The viewer needs {error.name}: pip install 'anomalib-xray[app]' installs what it needs."
        ) from error

    from anomalib_xray.app.answer import begin
    from anomalib_xray.app.listen import listen, opened_socket
    from anomalib_xray.app.worker import Worker

    with opened_socket(host, port, allow_remote=allow_remote) as socket:
        print(NOTICE)
        secret = token_bytes(16)
        start = partial(begin, bundle, secret=secret, precision=precision, device=device, threads=threads)
        with status("Loading the models"):
            worker = Worker(start, seconds=_LONGEST_WORK)
        with closing(worker):
            return listen(worker, socket, host)
