"""Phantoms: computed radiographs of hands, healthy and with anomalies, with exact ground truth.

They stand in for a clinical data set in the demo, in the tests, and when anomalies are painted into healthy
radiographs. The names below are loaded when they are first used; they need NumPy and OpenCV only.

>>> import numpy as np
>>> from anomalib_xray.phantom import render_phantom
>>> render_phantom(np.random.default_rng(0), kind="ring").kind
'ring'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anomalib_xray.phantom.anomalies import ANOMALY_KINDS, PAINTED_KINDS, paint_anomaly
    from anomalib_xray.phantom.dataset import write_phantoms
    from anomalib_xray.phantom.exposure import ARMS, PREPARED, RAW, SceneOptions
    from anomalib_xray.phantom.scene import Phantom, render_phantom
    from anomalib_xray.phantom.sites import rough_foreground

_HOMES = {
    "anomalies": ("ANOMALY_KINDS", "PAINTED_KINDS", "paint_anomaly"),
    "dataset": ("write_phantoms",),
    "exposure": ("ARMS", "PREPARED", "RAW", "SceneOptions"),
    "scene": ("Phantom", "render_phantom"),
    "sites": ("rough_foreground",),
}

__all__ = [
    "ANOMALY_KINDS", "ARMS", "PAINTED_KINDS", "PREPARED", "RAW", "Phantom", "SceneOptions", "paint_anomaly",
    "render_phantom", "rough_foreground", "write_phantoms",
]  # fmt: skip


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
