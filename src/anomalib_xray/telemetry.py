"""Reports of other libraries to their makers, which are switched off. Loads none of them."""

from __future__ import annotations

from contextlib import suppress


def silence_telemetry() -> None:
    """Keep OpenVINO's converter and NNCF from reporting each use to a server of their maker.

    They do so unless a file in the user's home forbids it, from a fork of the whole process.
    """
    with suppress(ImportError):  # OpenVINO works without the package that reports
        from openvino_telemetry.backend.backend_ga4 import GA4Backend  # type: ignore[import-untyped]

        GA4Backend.send = lambda *_: None
