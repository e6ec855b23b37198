"""Phantoms: computed radiographs of hands, healthy and with anomalies, with exact ground truth.

They stand in for a clinical data set where none is at hand: in the demo, in the tests, and when anomalies are painted
into healthy radiographs. The names below are loaded when they are first used; they need NumPy and OpenCV only.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib_xray.phantom.anomalies import ANOMALY_KINDS, PAINTED_KINDS, paint_anomaly
    from anomalib_xray.phantom.dataset import write_phantoms
    from anomalib_xray.phantom.scene import PREPARED, RAW, Phantom, SceneOptions, render_phantom
    from anomalib_xray.phantom.sites import rough_foreground

_HOMES = {
    "ANOMALY_KINDS": "anomalies",
    "PAINTED_KINDS": "anomalies",
    "PREPARED": "scene",
    "RAW": "scene",
    "Phantom": "scene",
    "SceneOptions": "scene",
    "paint_anomaly": "anomalies",
    "render_phantom": "scene",
    "rough_foreground": "sites",
    "write_phantoms": "dataset",
}

__all__ = [
    "ANOMALY_KINDS",
    "PAINTED_KINDS",
    "PREPARED",
    "RAW",
    "Phantom",
    "SceneOptions",
    "paint_anomaly",
    "render_phantom",
    "rough_foreground",
    "write_phantoms",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
