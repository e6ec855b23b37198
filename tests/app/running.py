"""Radiographs to send, what comes back, and a viewer that runs."""

from __future__ import annotations

import importlib.util
import json
import socket
import struct
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import httpx
import numpy as np
import uvicorn
from numpy.typing import NDArray
from starlette.types import ASGIApp

from anomalib_xray.app.answer import descriptions, jobs_of
from anomalib_xray.app.gate import Limits
from anomalib_xray.app.listen import TimedProtocol
from anomalib_xray.app.server import create_app
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.edge.result import Result
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.preparation.pipeline import Prepared

TESTS = Path(__file__).parents[1]
PREPARATION = "steps:\n  - inversion\n  - resize: {longest_side: 40}\n"


def module_from(path: Path) -> ModuleType:
    """A helper of another folder of tests, which is no package."""
    name = f"viewer_tests_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def picture(height: int = 50, width: int = 40, bright: float = 0.35) -> NDArray[np.uint8]:
    """A dark radiograph with one bright spot right of and below the middle, whose level is the largest."""
    rows, columns = np.mgrid[0:height, 0:width]
    spot = np.exp(-(((rows - 0.7 * height) / 4) ** 2) - ((columns - 0.7 * width) / 4) ** 2)
    return np.rint(255 * (0.1 + (bright - 0.1) * spot / spot.max())).astype(np.uint8)


def png(image: NDArray[Any]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def jpeg(image: NDArray[Any]) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@dataclass(frozen=True)
class Opened:
    """An answer, taken apart by what the layout says."""

    header: dict[str, Any]
    planes: bytes

    @classmethod
    def of(cls, message: bytes) -> Opened:
        (length,) = struct.unpack_from("<I", message)
        assert (4 + length) % 8 == 0
        return cls(json.loads(message[4 : 4 + length]), message[4 + length :])

    def plane(self, entry: dict[str, Any]) -> NDArray[Any]:
        count = entry["height"] * entry["width"]
        values = np.frombuffer(self.planes, entry["type"], count, entry["offset"])
        return values.reshape(entry["height"], entry["width"])


class Stand:
    """Stands in for a model's predictor; tests change what it does."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.bundle, self.preparation = predictor.bundle, predictor.preparation
        self.precision, self.score = predictor.precision, predictor.score

    def prepare(self, image: Radiograph) -> list[Prepared]:
        return self.predictor.prepare(image)

    def predict(
        self,
        image: Radiograph,
        *,
        threshold: float | None = None,
        stages: bool = False,
        tags: Mapping[str, str] | None = None,
        prepared: Sequence[Prepared] | None = None,
    ) -> Result:
        return self.predictor.predict(image, threshold=threshold, stages=stages, tags=tags, prepared=prepared)


def app_of(models: Ensemble, limits: Limits | None = None) -> ASGIApp:
    """The application, which has its work done in its own process."""
    jobs = jobs_of(models)
    return create_app(lambda job, body: jobs[job](body), descriptions(models), limits=limits)


class Viewer:
    """A viewer on a free port of this machine, with a real server in a thread."""

    def __init__(self, models: Ensemble, limits: Limits | None = None, app: ASGIApp | None = None) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(
            app or app_of(models, limits), http=TimedProtocol, log_level="error", access_log=False, ws="none"
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True)

    def __enter__(self) -> Viewer:
        self._thread.start()
        with httpx.Client() as client:  # the socket listens already: the answer comes as soon as the server runs
            assert client.get(f"{self.address}/health", timeout=30).status_code == 200
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self.socket.close()
