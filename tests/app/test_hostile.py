"""Hundreds of damaged files, eight at a time, while good ones are served: the viewer stays up, right, and as large."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from tests.mutations import mutations

from anomalib_xray.app.answer import Planes

from .running import Opened, jpeg, picture, png

pytestmark = pytest.mark.slow

FILES, AT_ONCE, EVERY = 500, 8, 5
WARM = 100  # files after which the process has what it needs
GROWTH = 48  # megabytes that allocators may keep; 400 files of this test together have more
LIBRARIES = r"libpng (error|warning): |Corrupt JPEG data: |Premature end of JPEG file|Invalid SOS |Unsupported marker "
POST = {"content-type": "application/octet-stream"}


@pytest.fixture
def process(bundles: list[Path]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A viewer in a process of its own, and its address."""
    command = [Path(sysconfig.get_path("scripts")) / "anomalib-xray", "app", "--port", "0", "--threads", "1"]
    with subprocess.Popen(
        [*command, "--bundle", bundles[0], "--bundle", bundles[1]],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as started:
        assert started.stdout is not None
        lines = iter(started.stdout.readline, "")
        (address,) = next(found for line in lines if (found := re.findall(r"open (http://\S+) in", line)))
        yield started, address
        started.kill()


def resident(process: subprocess.Popen[str]) -> float:
    """Megabytes of a process and those that it began that are in memory."""
    began = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    statuses = [Path(f"/proc/{number}/status").read_text() for number in (process.pid, *began)]
    return sum(int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) for status in statuses) / 1000


def said(answer: bytes) -> tuple[dict[str, object], bytes]:
    """Content of an answer, without its duration."""
    opened = Opened.of(answer)
    for result in opened.header["results"]:
        result.pop("seconds", None)
    return opened.header, opened.planes


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_hostile_uploads(process: tuple[subprocess.Popen[str], str], make_dicom: Callable[..., bytes]) -> None:
    deep = picture().astype(np.uint16) * 16
    valid = [png(picture()), png(deep), jpeg(picture()), make_dicom(deep, bits=12), make_dicom(picture())]
    capture = Planes().message({"height": 4, "width": 4, "keep_patient": False}) + bytes(48) + valid[-1]
    damaged = [("/api/analyse", file) for file in mutations(valid, FILES - FILES // 5, seed=0)]
    damaged += [("/api/secondary-capture", file) for file in mutations([capture], FILES // 5, seed=1)]
    np.random.default_rng(0).shuffle(damaged)
    started, address = process
    wrong: list[str] = []

    with httpx.Client(base_url=address, headers=POST, timeout=120) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def post(path: str, content: bytes) -> httpx.Response:
            while (response := client.post(path, content=content)).status_code == 503:
                pass
            return response

        expected = [said(post("/api/analyse?stages=1", file).content) for file in valid]

        def attack(number: int) -> None:
            path, content = damaged[number]
            if complaint := complain(path, post(path, content) if content else None):
                wrong.append(f"{number}: {complaint}")
            if number % EVERY == 0:
                good = number // EVERY % len(valid)
                if said(post("/api/analyse?stages=1", valid[good]).content) != expected[good]:
                    wrong.append(f"{number}: good file {good} was answered in another way")

        list(pool.map(attack, range(WARM)))
        before = resident(started)
        list(pool.map(attack, range(WARM, FILES)))
        after = resident(started)
        assert client.get("/health").status_code == 200

    assert wrong == []
    assert started.poll() is None
    print(f"resident memory: {before:.0f} MB after {WARM} files, {after:.0f} MB after {FILES}")
    assert after - before < GROWTH
    started.send_signal(signal.SIGINT)
    printed, _ = started.communicate(timeout=60)
    assert started.returncode == 0
    # libpng and libjpeg complain by themselves; nothing else is printed, and nothing of a file's content.
    assert not [line for line in printed.splitlines() if not re.match(LIBRARIES, line)]
    assert "Doe" not in printed


def complain(path: str, response: httpx.Response | None) -> str:
    """Fault of an answer to a damaged file: it must be one sentence, or an answer like any other."""
    if response is None:
        return ""
    if response.status_code == 422:
        error = json.loads(response.content)
        one_sentence = list(error) == ["error"] and error["error"].endswith(".") and "\n" not in error["error"]
        return "" if one_sentence and "Doe" not in error["error"] else str(error)
    if response.status_code != 200:
        return f"status {response.status_code}"
    if path == "/api/secondary-capture":
        return "" if response.content[128:132] == b"DICM" else "no DICOM file"
    header, _ = said(response.content)
    results = header["results"]
    assert isinstance(results, list)
    values = [value for result in results if not result["error"] for value in result["scores"].values()]
    return "" if all(map(math.isfinite, values)) else str(values)
