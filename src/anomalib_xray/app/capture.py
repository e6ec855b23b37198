"""What the page shows, as a DICOM secondary capture."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from anomalib_xray.app.envelope import opened
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom_write import encode_secondary_capture, map_description

_MAX_PIXELS = 40_000_000
_MAX_SCALE = 1000
_DAMAGED = "The request is damaged: send it from the viewer's own page."
_DESCRIPTION = "Anomaly map, research use only"


def secondary_capture(message: bytes) -> bytes:
    """Encodes a picture that the page drew.

    Args:
        message: As of :mod:`anomalib_xray.app.envelope`. Its header has ``height`` and ``width`` of the picture, and
            ``keep_patient``: whether to copy the patient and the study from the source; it may have ``model``, the name
            of the model that it shows, ``digest``, that of its bundle, and ``scale``, its pixels to one of the
            radiograph. Behind it are the picture's pixels, three bytes each (red, green, blue), then the content of the
            source's file, which may be empty.

    Returns:
        The DICOM file.

    Raises:
        XrayError: The message is damaged, the source is not DICOM where it must be, or pydicom is missing.
    """
    header, payload = opened(message)
    height, width, keep_patient = _side(header, "height"), _side(header, "width"), header.get("keep_patient")
    size = height * width * 3
    if not isinstance(keep_patient, bool) or height * width > _MAX_PIXELS or len(payload) < size:
        raise XrayError(_DAMAGED)
    model, digest, scale = header.get("model", ""), header.get("digest", ""), header.get("scale")
    if not isinstance(model, str) or not isinstance(digest, str) or isinstance(scale, bool):
        raise XrayError(_DAMAGED)
    if not isinstance(scale, int | float | None):
        raise XrayError(_DAMAGED)
    picture = np.frombuffer(payload[:size], np.uint8).reshape(height, width, 3)[:, :, ::-1]
    return encode_secondary_capture(
        np.ascontiguousarray(picture),
        source=bytes(payload[size:]),
        description=map_description(model) if model else _DESCRIPTION,
        keep_patient=keep_patient,
        series=digest,
        scale=scale if scale is not None and 0 < scale < _MAX_SCALE else None,
        source_name="the radiograph",
    )


def _side(header: dict[str, Any], key: str) -> int:
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**16:
        return math.isqrt(_MAX_PIXELS) * _MAX_PIXELS  # no picture has such a side, and no message its pixels
    return value
