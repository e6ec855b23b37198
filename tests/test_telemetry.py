from __future__ import annotations

import pytest

from anomalib_xray.telemetry import silence_telemetry


def test_a_conversion_is_reported_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    from openvino_telemetry.backend import backend_ga4

    requests: list[object] = []
    monkeypatch.setattr(backend_ga4.request, "Request", lambda url, data: requests.append((url, data)))
    silence_telemetry()
    backend_ga4.GA4Backend("id", "tests", "1").send({"name": "conversion"})
    assert not requests
