"""The viewer's server: one page of its own, and an answer for each radiograph that the page sends. It keeps nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import PurePath

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from anomalib_xray import __version__
from anomalib_xray.app.answer import MAX_PIXELS, analyse
from anomalib_xray.app.capture import secondary_capture
from anomalib_xray.app.gate import Gate, Place
from anomalib_xray.app.guard import Guard
from anomalib_xray.app.models import ServedModel
from anomalib_xray.app.refusal import RequestError
from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.errors import XrayError

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_MESSAGE = "application/octet-stream"
_UNPROCESSABLE = 422


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Attributes:
        body: Largest file in bytes.
        bodies: Bytes of all files that are in memory at once.
        workers: Radiographs worked on at once.
        places: Requests let in at once, waiting ones included.
        read_seconds: Time limit for receiving a file.
        work_seconds: Time limit for a radiograph, waiting included.
    """

    body: int = 64_000_000
    bodies: int = 256_000_000
    workers: int = 1
    places: int = 16
    read_seconds: float = 60
    work_seconds: float = 60


def create_app(models: Sequence[ServedModel], *, host: str = "127.0.0.1", limits: Limits | None = None) -> ASGIApp:
    """Builds the application.

    Args:
        models: What it asks.
        host: Name or address that it will listen on; requests under foreign names are refused.
        limits: How much it takes on.

    Returns:
        An ASGI application.
    """
    limits = limits or Limits()
    gate = Gate(workers=limits.workers, places=limits.places, seconds=limits.work_seconds, budget=limits.bodies)
    # The pages of FastAPI's documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)
    _add_page(app)
    _add_facts(app, models, limits)

    @app.post("/api/analyse")
    async def analyse_radiograph(request: Request) -> Response:
        stages = request.query_params.get("stages") == "1"
        return await _worked_on(request, gate, limits, lambda content: analyse(models, content, stages=stages))

    @app.post("/api/secondary-capture")
    async def make_secondary_capture(request: Request) -> Response:
        return await _worked_on(request, gate, limits, secondary_capture)

    return Guard(app, host)


def _add_page(app: FastAPI) -> None:
    """Serves the page and its assets, which are read once: no request leads to a file."""
    folder = files("anomalib_xray.app") / "assets"
    assets = {
        item.name: (item.read_bytes(), _TYPES[PurePath(item.name).suffix])
        for item in folder.iterdir()
        if PurePath(item.name).suffix in _TYPES
    }

    def serve(name: str) -> Response:
        if name not in assets:
            raise RequestError(404, "There is nothing here: open the viewer's first page.")
        content, kind = assets[name]
        return Response(content, media_type=kind)

    @app.get("/")
    async def page() -> Response:
        return serve("index.html")

    @app.get("/assets/{name}")
    async def asset(name: str) -> Response:
        return serve(name)


def _add_facts(app: FastAPI, models: Sequence[ServedModel], limits: Limits) -> None:
    """Serves what is known without a radiograph."""

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "models": len(models), "version": __version__, "notice": NOTICE})

    @app.get("/api/models")
    async def describe() -> Response:
        return JSONResponse({
            "notice": NOTICE,
            "version": __version__,
            "limits": {"bytes": limits.body, "pixels": MAX_PIXELS},
            "models": [model.description() for model in models],
        })  # fmt: skip


async def _worked_on(request: Request, gate: Gate, limits: Limits, job: Callable[[bytes], bytes]) -> Response:
    """Lets a request in, reads its body and does the job in a thread."""
    with gate.place() as place:
        body = await _in_time(_read(request, place, limits.body), limits.read_seconds)
        try:
            return Response(await place.run(partial(job, body)), media_type=_MESSAGE)
        except XrayError as error:
            raise RequestError(_UNPROCESSABLE, str(error)) from error


async def _in_time(body: Awaitable[bytes], seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await body
    except TimeoutError as error:
        raise RequestError(408, f"The file did not arrive within {seconds:g} seconds: send it again.") from error


async def _read(request: Request, place: Place, largest: int) -> bytes:
    """Receives a body piece by piece, and not more of it than is allowed."""
    too_large = RequestError(413, f"The file is larger than {largest / 1e6:g} megabytes, the most that is taken.")
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal() or (float(declared) if len(declared) < 20 else math.inf) > largest:
        raise too_large
    pieces: list[bytes] = []
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > largest:
                raise too_large
            place.hold(len(piece))
            pieces.append(piece)
    except ClientDisconnect as error:
        raise RequestError(400, "The file did not arrive whole: send it again.") from error
    if not size:
        raise RequestError(400, "The file is empty: choose another one.")
    return b"".join(pieces)


async def _refused(_: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, RequestError) else await _failed(_, error)


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return RequestError(status, "There is nothing here: open the viewer's first page.").response()


async def _failed(_: Request, error: Exception) -> Response:
    del error  # the guard reports it
    return RequestError(500, "The viewer failed inside: try another file.").response()
