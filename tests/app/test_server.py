from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message

from anomalib_xray import NOTICE
from anomalib_xray.app.answer import Planes, descriptions
from anomalib_xray.app.gate import Limits
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.preparation.pipeline import Prepared

from .running import Opened, Stand, Viewer, app_of, picture, png

HERE = "http://127.0.0.1:8000"
POST = {"content-type": "application/octet-stream"}


@pytest.fixture
def client(models: Ensemble) -> Iterator[TestClient]:
    with TestClient(app_of(models, limits=Limits(body=100_000)), base_url=HERE, headers=POST) as opened:
        yield opened


class Held(Stand):
    """A model that answers when it is allowed to."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor)
        self.started, self.released = threading.Semaphore(0), threading.Event()
        self.at_once = self.most_at_once = 0
        self._lock = threading.Lock()

    def prepare(self, image: Radiograph) -> list[Prepared]:
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.started.release()
        assert self.released.wait(30)
        with self._lock:
            self.at_once -= 1
        return super().prepare(image)


def one_of(models: Ensemble) -> Ensemble:
    return Ensemble([models.predictors["Cae"]])


def send(viewer: Viewer) -> httpx.Response:
    return httpx.post(f"{viewer.address}/api/analyse", content=png(picture()), headers=POST, timeout=30)


def posted(
    models: Ensemble, limits: Limits, receive: Callable[[], Awaitable[Message]], declared: str
) -> tuple[int, bytes]:
    """Status and body of the answer to a radiograph whose body comes from ``receive``."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = {"host": "127.0.0.1", "content-length": declared, **POST}
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/analyse",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(app_of(models, limits=limits)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


@contextmanager
def slow_sender(viewer: Viewer, content: bytes) -> Iterator[socket.socket]:
    """A connection that has sent a request's head and one byte of its body, which is being waited for."""
    head = (
        f"POST /api/analyse HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\nexpect: 100-continue\r\n"
    )
    with socket.create_connection(viewer.socket.getsockname(), 30) as sender:
        sender.sendall(f"{head}content-type: application/octet-stream\r\n\r\n".encode())
        assert sender.recv(1000).startswith(b"HTTP/1.1 100")  # comes when the viewer asks for the body
        sender.sendall(content[:1])
        yield sender


def sentence(response: httpx.Response) -> str:
    body = response.json()
    assert list(body) == ["error"]
    return str(body["error"])


def test_the_page_and_its_assets_are_all_here(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert NOTICE in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    folder = Path(__file__).parents[2] / "src" / "anomalib_xray" / "app" / "assets"
    names = [path.name for path in folder.iterdir()]
    assert "main.js" in names
    for name in names:
        assert client.get(f"/assets/{name}").content == (folder / name).read_bytes()
        assert client.get(f"/assets/{name}").headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    ["/docs", "/redoc", "/openapi.json", "/assets/", "/assets/../server.py", "/assets/..%2fserver.py", "/assets/x.js",
     "/assets/%2e%2e/%2e%2e/errors.py", "//etc/passwd", "/api/nothing"],
)  # fmt: skip
def test_there_is_nothing_else(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert sentence(response).startswith("There is nothing here")


def test_health(client: TestClient) -> None:
    assert client.get("/health").json() == client.get("/health").json() | {
        "status": "ok",
        "models": 2,
        "notice": NOTICE,
    }


def test_the_models_are_described(client: TestClient, models: Ensemble) -> None:
    told = client.get("/api/models").json()
    assert told["notice"] == NOTICE
    assert told["limits"] == {"bytes": 100_000, "pixels": 40_000_000}
    assert told["models"] == descriptions(models)


def test_a_radiograph_is_answered(client: TestClient) -> None:
    response = client.post("/api/analyse?stages=1", content=png(picture()))
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    opened = Opened.of(response.content)
    np.testing.assert_array_equal(opened.plane(opened.header["picture"]), picture())
    assert [result["label"] for result in opened.header["results"]] == ["Cae", "AlphaGan"]


def test_a_capture_is_made(client: TestClient) -> None:
    pytest.importorskip("pydicom")
    message = Planes().message({"height": 2, "width": 2, "keep_patient": False}) + bytes(12)
    response = client.post("/api/secondary-capture", content=message)
    assert response.status_code == 200
    assert response.content[128:132] == b"DICM"


@pytest.mark.parametrize("address", ["/api/analyse", "/api/secondary-capture"])
def test_what_cannot_be_used_is_a_sentence(client: TestClient, address: str) -> None:
    response = client.post(address, content=b"GIF89a" + bytes(100))
    assert response.status_code == 422
    assert sentence(response).endswith(".")


def test_an_empty_body_is_refused(client: TestClient) -> None:
    response = client.post("/api/analyse", content=b"")
    assert response.status_code == 400
    assert "The file is empty" in sentence(response)


@pytest.mark.parametrize("declared", ["100001", "9" * 30, "-1", "1e9"])
def test_a_body_that_is_declared_too_large_is_not_read(models: Ensemble, declared: str) -> None:
    async def receive() -> Message:
        pytest.fail("the body was read")

    status, body = posted(models, Limits(body=100_000), receive, declared)
    assert status == 413
    assert b"The file is larger than 0.1 megabytes" in body


def test_a_body_of_unknown_length_is_read_up_to_the_limit(client: TestClient) -> None:
    response = client.post("/api/analyse", content=iter([bytes(60_000), bytes(60_000)]))
    assert response.status_code == 413
    assert client.post("/api/analyse", content=iter([png(picture())])).status_code == 200


def test_other_methods_do_nothing(client: TestClient) -> None:
    assert client.get("/api/analyse").status_code == 405
    assert client.put("/api/analyse", content=b"x").status_code == 405


def test_who_finds_no_place_is_sent_away_and_places_come_back(models: Ensemble) -> None:
    held = Held(models.predictors["Cae"])
    with Viewer(Ensemble([held], ["Held"]), Limits(places=1)) as viewer, ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, viewer)
        assert held.started.acquire(timeout=30)
        refused = send(viewer)
        held.released.set()
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert "busy" in sentence(refused)
        assert first.result().status_code == 200
        assert send(viewer).status_code == 200


def test_one_is_worked_on_at_once_and_the_page_answers_meanwhile(models: Ensemble) -> None:
    held = Held(models.predictors["Cae"])
    with Viewer(Ensemble([held], ["Held"])) as viewer, ThreadPoolExecutor(4) as pool:
        four = [pool.submit(send, viewer) for _ in range(4)]
        assert held.started.acquire(timeout=30)
        for path in ("/health", "/", "/assets/main.js", "/api/models"):
            assert httpx.get(f"{viewer.address}{path}", timeout=30).status_code == 200
        held.released.set()
        assert [future.result().status_code for future in four] == [200] * 4
        assert held.most_at_once == 1


def test_who_waits_too_long_is_sent_away(models: Ensemble) -> None:
    held = Held(models.predictors["Cae"])
    with (
        Viewer(Ensemble([held], ["Held"]), Limits(wait_seconds=0.05)) as viewer,
        ThreadPoolExecutor(1) as pool,
    ):
        first = pool.submit(send, viewer)
        assert held.started.acquire(timeout=30)
        assert send(viewer).status_code == 503
        held.released.set()
        assert first.result().status_code == 200  # work that has begun is not dropped


def test_bodies_together_have_a_limit_too(models: Ensemble) -> None:
    content = png(picture())
    with TestClient(app_of(models, limits=Limits(bodies=len(content) - 1)), base_url=HERE, headers=POST) as client:
        assert client.post("/api/analyse", content=content).status_code == 503
        assert client.post("/api/analyse", content=content[:100]).status_code == 422
    with TestClient(app_of(models, limits=Limits(bodies=len(content))), base_url=HERE, headers=POST) as client:
        assert [client.post("/api/analyse", content=content).status_code for _ in range(3)] == [200, 200, 200]


@pytest.mark.parametrize("what", ["a place to arrive", "the room of all bodies"])
def test_who_sends_slowly_keeps_nobody_out(models: Ensemble, what: str) -> None:
    content = png(picture())
    limits = Limits(arrivals=1, grace=0) if what == "a place to arrive" else Limits(bodies=len(content), grace=0)
    with Viewer(one_of(models), limits) as viewer, slow_sender(viewer, content) as slow:
        assert send(viewer).status_code == 200
        assert slow.recv(12) == b"HTTP/1.1 408"


def test_files_that_have_just_begun_to_arrive_are_not_pushed_out(models: Ensemble) -> None:
    content = png(picture())
    with Viewer(one_of(models), Limits(arrivals=1, grace=3600)) as viewer, slow_sender(viewer, content) as slow:
        assert send(viewer).status_code == 503
        slow.sendall(content[1:])
        assert slow.recv(12) == b"HTTP/1.1 200"


def test_a_file_that_never_arrives_is_given_up(models: Ensemble) -> None:
    pieces = iter([b"\x89PNG"])

    async def receive() -> Message:
        piece = next(pieces, None)
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": True}

    status, body = posted(models, Limits(read_seconds=0.05), receive, "1000")
    assert status == 408
    assert b"arrived too slowly" in body


def test_a_browser_that_goes_away_is_no_failure(models: Ensemble, capsys: pytest.CaptureFixture[str]) -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    status, _ = posted(models, Limits(), receive, "1000")
    assert status == 400
    assert capsys.readouterr().err == ""


def test_nothing_of_the_patient_is_printed(
    viewer: Viewer, make_dicom: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    good = make_dicom(picture(), PatientName="Roe^Richard")
    for content in (good, good[: len(good) // 2], good.replace(b"DICM", b"DICX")):
        response = httpx.post(f"{viewer.address}/api/analyse", content=content, headers=POST, timeout=30)
        assert b"Roe" not in response.content
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
