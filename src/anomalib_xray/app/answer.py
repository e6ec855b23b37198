"""What the page is sent of a radiograph: its pixels, and what every model says of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.app.capture import secondary_capture
from anomalib_xray.app.envelope import Planes
from anomalib_xray.app.models import ServedModel, open_models
from anomalib_xray.app.worker import Jobs
from anomalib_xray.edge.bundle import NOTICE
from anomalib_xray.edge.overlay import left_out
from anomalib_xray.edge.result import Result, View
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom import decode_unwindowed
from anomalib_xray.io.dicom_tags import read_owner, read_sop_instance_uid, read_tags
from anomalib_xray.io.formats import is_dicom
from anomalib_xray.io.png import PNG_SIGNATURE
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph
from anomalib_xray.preparation.pipeline import Prepared
from anomalib_xray.preparation.view import small_view

MAX_PIXELS = 40_000_000
"""Of a radiograph that the viewer decodes; the largest flat-panel detectors have about 20 million."""

_LONGEST_PICTURE = 2048
"""Longest side in pixels of what is shown of a radiograph; screens show less."""
_LONGEST_MAP = 768
"""Longest side in pixels of a heat map that is sent; a model's own map is at most about 512 wide."""
_LONGEST_STAGE = 512
_TAILS = (0.1, 99.9)
"""Percentiles of the foreground that a picture of 16 bits is first shown between."""


def begin(
    bundles: Sequence[Path], *, precision: str | None, device: str, threads: int | None, secret: bytes
) -> tuple[list[dict[str, Any]], Jobs]:
    """Loads the models; what a :class:`~anomalib_xray.app.worker.Worker` begins with.

    Args:
        bundles: As of :func:`~anomalib_xray.app.models.open_models`.
        precision: See there.
        device: See there.
        threads: See there.
        secret: As of :func:`analyse`.

    Returns:
        What the page needs to know of each, as JSON values, and the jobs.

    Raises:
        XrayError: A bundle cannot be used.
    """
    models = open_models(bundles, precision=precision, device=device, threads=threads)
    return [model.description() for model in models], jobs_of(models, secret)


def jobs_of(models: Sequence[ServedModel], secret: bytes = b"") -> Jobs:
    """What the page can ask for, by name."""
    return {
        "analyse": partial(analyse, models, stages=False, secret=secret),
        "analyse with stages": partial(analyse, models, stages=True, secret=secret),
        "secondary capture": secondary_capture,
    }


def analyse(models: Sequence[ServedModel], content: bytes, *, stages: bool, secret: bytes = b"") -> bytes:
    """Decodes a radiograph and asks every model.

    Args:
        models: The models; one that fails is reported in its place, and the others go on.
        content: The file, PNG, JPEG or DICOM.
        stages: Whether to send the pictures of the preparation too.
        secret: Key of the tokens that stand for patient and study, so that nobody can guess behind them.

    Returns:
        A message of :mod:`anomalib_xray.app.envelope`.

    Raises:
        XrayError: The file cannot be decoded.
    """
    notes: list[str] = []
    image = decode_radiograph(content, name="The file", max_pixels=MAX_PIXELS, notes=notes)
    planes = Planes()
    tags = read_tags(content)
    patient, study = (_token(text, secret) for text in read_owner(content))
    # Preparing takes longer than scoring, and bundles of one project mostly share it.
    prepared: dict[tuple[str, ...], list[Prepared]] = {}
    header = {
        "notice": NOTICE,
        "format": _format(content),
        "tags": tags,
        "sop_instance_uid": read_sop_instance_uid(content),
        "patient": patient,
        "study": study,
        "height": image.shape[0],
        "width": image.shape[1],
        "bits": 8 * image.dtype.itemsize,
        **_shown(image, content, planes),
        "results": [_asked(model, image, tags, prepared, planes, notes, stages=stages) for model in models],
    }
    return planes.message(header)


def _token(text: str, secret: bytes) -> str | None:
    """Stands for a text that is nobody's business: the same for the same text, and different in each viewer."""
    return blake2b(text.encode(errors="replace"), key=secret, digest_size=8).hexdigest() if text else None


def _shown(image: Radiograph, content: bytes, planes: Planes) -> dict[str, Any]:
    """The picture, the values that its darkest and its brightest level stand for, and its windows in these values.

    A DICOM file is shown as it is before its window, so that the page can move it; the file's own is the first view.
    """
    raw = decode_unwindowed(content, name="The file", max_pixels=MAX_PIXELS) if is_dicom(content) else None
    if raw is None:
        top = float(np.iinfo(image.dtype).max)
        # What a DICOM file wants has been done to such a picture, down to the stretching.
        first = [0.0, top] if is_dicom(content) else _window(image)
        return {"picture": planes.add(_reduced(image, _LONGEST_PICTURE)), "ends": [0.0, top], "windows": [first]}
    first_end, last_end = raw.ends
    step = (last_end - first_end) / np.iinfo(raw.image.dtype).max
    windows = [[centre - width / 2, centre + width / 2] for centre, width in raw.windows]
    found = sorted(first_end + step * level for level in _window(raw.image))
    return {
        "picture": planes.add(_reduced(raw.image, _LONGEST_PICTURE)),
        "ends": [first_end, last_end],
        "windows": windows or [found],
    }


def _asked(
    model: ServedModel,
    image: Radiograph,
    tags: Mapping[str, str],
    prepared: dict[tuple[str, ...], list[Prepared]],
    planes: Planes,
    notes: Sequence[str],
    *,
    stages: bool,
) -> dict[str, Any]:
    started = time.perf_counter()
    predictor = model.predictor
    key = predictor.preparation
    try:
        if key not in prepared:
            prepared[key] = predictor.prepare(image)
        result = predictor.predict(image, stages=stages, tags=tags, prepared=prepared[key])
    except XrayError as error:
        return {"label": model.label, "error": str(error)}
    return _told(model, result, image.shape, planes, notes) | {"seconds": round(time.perf_counter() - started, 3)}


def _told(
    model: ServedModel, result: Result, shape: tuple[int, ...], planes: Planes, notes: Sequence[str]
) -> dict[str, Any]:
    """A result on a radiograph (H, W) as JSON values, its pictures among the planes."""
    heat_map = None if result.heat_map is None else _reduced(result.heat_map, _LONGEST_MAP)
    return {
        "label": model.label,
        "error": None,
        "score": result.score,
        "scores": result.scores,
        "percentiles": result.percentiles,
        "value": result.value,
        "threshold": result.threshold,
        "is_anomalous": result.is_anomalous,
        "not_comparable": list(result.not_comparable),
        "bundle_digest": result.bundle_digest,
        "pixel_threshold": result.pixel_threshold,
        "heat_map": None if heat_map is None else planes.add(heat_map),
        "largest": None if result.heat_map is None else float(result.heat_map.max()),
        "flags": list(dict.fromkeys([*notes, *result.flags])),
        "views": [_view(view, planes) for view in result.views],
        "frames": [frame.round(1).tolist() for frame in left_out(result, shape)],
    }


def _view(view: View, planes: Planes) -> dict[str, Any]:
    return {
        "name": view.name,
        "scores": view.scores,
        "flags": view.flags,
        "stages": [
            {"name": name, "picture": planes.add(small_view(picture, _LONGEST_STAGE))} for name, picture in view.stages
        ],
    }


def _format(content: bytes) -> str:
    if is_dicom(content):
        return "DICOM"
    return "PNG" if content.startswith(PNG_SIGNATURE) else "JPEG"


def _window(image: Radiograph) -> list[float]:
    """Levels that are first shown as black and white: all 256, or where the foreground of a deeper picture lies."""
    if image.dtype == np.uint8:
        return [0.0, 255.0]
    foreground = image[image > 0]
    if not foreground.size:
        return [0.0, 1.0]
    low, high = (float(value) for value in np.percentile(foreground, _TAILS))
    return [low, high] if low < high else [0.0, max(high, 1.0)]


def _reduced(plane: NDArray[Any], longest_side: int) -> NDArray[Any]:
    """A plane of which no side is longer than given, each pixel the mean of those it stands for."""
    scale = longest_side / max(plane.shape)
    if scale >= 1:
        return plane
    size = (max(round(plane.shape[1] * scale), 1), max(round(plane.shape[0] * scale), 1))
    return cast("NDArray[Any]", cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
