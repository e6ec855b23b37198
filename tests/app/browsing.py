"""A browser, and what tests do in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect
expect.set_options(timeout=30_000)  # milliseconds: continuous integration may be slow

CHROMIUM = Path("/usr/bin/chromium")
Page = Any

IN_A_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} (Debian's chromium) is not installed"),
]
"""Marks of tests that need it."""


def files(**contents: bytes) -> list[dict[str, Any]]:
    return [
        {"name": name.replace("_", "."), "mimeType": "application/octet-stream", "buffer": content}
        for name, content in contents.items()
    ]


def add(page: Page, **contents: bytes) -> None:
    """Opens files by the picker, and waits until all are finished."""
    before = page.locator(".thumb").count()
    page.locator("#files").set_input_files(files(**contents))
    expect(page.locator(".thumb.done, .thumb.failed")).to_have_count(before + len(contents))
