"""The viewer's server: one page, and an answer for each radiograph that the page sends. It keeps nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from anomalib_xray import NOTICE, __version__
from anomalib_xray.app.answer import MAX_PIXELS
from anomalib_xray.app.gate import Gate, Limits, Place
from anomalib_xray.app.guard import Guard, RequestError
from anomalib_xray.errors import XrayError

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NOTHING_HERE = "There is nothing here: open the viewer's first page."


def create_app(
    ask: Callable[[str, bytes], bytes],
    models: Sequence[dict[str, Any]],
    *,
    host: str = "127.0.0.1",
    limits: Limits | None = None,
) -> ASGIApp:
    """Builds the ASGI application.

    ``ask`` does one job at a time, by name, on a body, and refuses bodies by :class:`XrayError`; see :func:`jobs_of`.
    ``models`` are their descriptions as JSON values. Requests under other names than ``host`` are refused.
    """
    limits = limits or Limits()
    gate = Gate(limits)
    # The pages of FastAPI's documentation load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(HTTPException, _unknown)
    app.add_exception_handler(Exception, _failed)
    _add_page(app)
    _add_facts(app, models, limits)

    async def work(request: Request, job: str, largest: int) -> Response:
        """Lets a request in, reads its body and has the job done."""
        async with Place(gate) as place:
            body = await _read(request, place, largest)
            try:
                answer = await place.run(partial(ask, job, body), partial(_gone, request))
            except XrayError as error:
                raise RequestError(422, str(error)) from error
            return Response(answer, media_type="application/octet-stream")

    @app.post("/api/analyse")
    async def analyse_radiograph(request: Request) -> Response:
        stages = request.query_params.get("stages") == "1"
        return await work(request, "analyse with stages" if stages else "analyse", limits.body)

    @app.post("/api/secondary-capture")
    async def make_secondary_capture(request: Request) -> Response:
        return await work(request, "secondary capture", limits.body + limits.capture)

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
            raise RequestError(404, _NOTHING_HERE)
        content, kind = assets[name]
        return Response(content, media_type=kind)

    @app.get("/")
    async def page() -> Response:
        return serve("index.html")

    @app.get("/assets/{name}")
    async def asset(name: str) -> Response:
        return serve(name)


def _add_facts(app: FastAPI, models: Sequence[dict[str, Any]], limits: Limits) -> None:
    """Serves the state of the server and the descriptions of the models."""

    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok", "models": len(models), "version": __version__, "notice": NOTICE})

    @app.get("/api/models")
    async def describe() -> Response:
        return JSONResponse({
            "notice": NOTICE,
            "version": __version__,
            "limits": {"bytes": limits.body, "pixels": MAX_PIXELS},
            "models": list(models),
        })  # fmt: skip


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


async def _gone(request: Request) -> None:
    """Ends when the browser that sent a request, whose body is read, has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _refused(_: Request, error: Exception) -> Response:
    return error.response() if isinstance(error, RequestError) else await _failed(_, error)


async def _unknown(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    return RequestError(status, _NOTHING_HERE).response()


async def _failed(_: Request, error: Exception) -> Response:
    del error  # the guard reports it
    return RequestError(500, "The viewer failed inside: try another file.").response()
