from __future__ import annotations

from pathlib import Path

import pytest

from anomalib_xray.openvino_runtime import openvino_core, silence_telemetry

ROOT = Path(__file__).parents[1]


def test_a_conversion_is_reported_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from openvino_telemetry.backend import backend_ga4

    requests: list[object] = []
    monkeypatch.setattr(backend_ga4.request, "Request", lambda url, data: requests.append((url, data)))
    silence_telemetry()
    backend_ga4.GA4Backend("id", "tests", "1").send({"name": "conversion"})
    assert not requests


def test_no_other_module_makes_a_core() -> None:
    assert openvino_core() is openvino_core()
    owner = ROOT / "src/anomalib_xray/openvino_runtime.py"
    makers = [path for folder in ("src", "plugins", "tests") for path in (ROOT / folder).rglob("*.py")]
    text = "openvino." + "Core("
    assert [path for path in makers if text in path.read_text("utf-8")] == [owner]
