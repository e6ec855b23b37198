"""Write files so that a reader never meets half of one."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import cv2
import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import Radiograph

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
"""Names of files that are being written; where nothing is, they are halves that a killed process left."""


def write_png(path: str | Path, image: Radiograph) -> None:
    """Writes a radiograph, or a mask, as a grey PNG.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        image: (H, W), uint8 or uint16.

    Raises:
        XrayError: The picture has another shape or depth, or the file cannot be written.
    """
    if image.ndim != 2 or image.size == 0 or image.dtype not in (np.uint8, np.uint16):
        raise XrayError(
            f"{path} cannot hold a picture of shape {image.shape} and type {image.dtype}; give (H, W) uint8 or uint16."
        )
    _, encoded = cv2.imencode(".png", image)
    write_atomically(path, encoded.tobytes())


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Writes a file under a temporary name in the same folder and then renames it.

    Args:
        path: The file to write; missing folders are made, an existing file is replaced.
        content: Text, stored as UTF-8, or bytes.

    Raises:
        XrayError: The file cannot be written; an existing one is then unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)
        temporary.replace(path)
    except OSError as error:
        raise XrayError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):  # gone after success, or never made
            temporary.unlink()
