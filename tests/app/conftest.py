"""A viewer with models so simple that their answers are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.app.answer import open_models
from anomalib_xray.edge.ensemble import Ensemble

from .running import PREPARATION, TESTS, Viewer, module_from


@pytest.fixture(scope="session")
def make_dicom() -> Callable[..., bytes]:
    """Content of a DICOM file: ``make_dicom(pixels, Keyword=value)``."""
    pytest.importorskip("pydicom")
    write: Callable[..., bytes] = module_from(TESTS / "io" / "conftest.py").write_dicom
    return write


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles: one that prepares, one without a preparation, a threshold and a distribution."""
    write = module_from(TESTS / "edge" / "tiny_bundle.py").write_bundle
    root = tmp_path_factory.mktemp("bundles")
    return [
        write(root / "first", preparation=PREPARATION, model="Cae"),
        write(
            root / "second", model="AlphaGan", thresholds={"brightest": None}, distribution={}, pixel_threshold=None,
            map_limits=None,
        ),
    ]  # fmt: skip


@pytest.fixture(scope="session")
def models(bundles: list[Path]) -> Ensemble:
    return open_models(bundles, precision=None, device="CPU", threads=1)


@pytest.fixture(scope="session")
def viewer(models: Ensemble) -> Iterator[Viewer]:
    with Viewer(models) as running:
        yield running


@pytest.fixture(scope="module")  # while it is open, this thread has an event loop that others cannot run theirs beside
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    from .browsing import CHROMIUM, playwright

    with playwright.sync_playwright() as running:
        opened = running.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, viewer: Viewer) -> Iterator[Any]:
    """The viewer's page, which asks no other server and reports no error that the test does not expect."""
    from .browsing import expect

    opened = browser.new_page(viewport={"width": 1400, "height": 900})
    opened.set_default_timeout(30_000)
    opened.complaints, opened.asked = [], []
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None)
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(viewer.address)
    expect(opened.locator("#open[data-ready]")).to_be_visible()
    yield opened
    assert all(address.startswith((viewer.address, "blob:")) for address in opened.asked)
    # Chromium itself reports each answer with an error status.
    assert [text for text in opened.complaints if "status of 422" not in text] == []
    opened.close()
