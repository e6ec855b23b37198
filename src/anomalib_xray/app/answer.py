"""The jobs of the viewer: answers on a radiograph, and DICOM captures of pictures that the page drew.

Both travel as one message of a JSON header and raw planes, so that the browser gets pixels and heat maps as they are:
the length of the header in bytes (4 bytes, little-endian), the header (UTF-8), then the planes one behind the other,
each at a multiple of 8 bytes from the end of the header, which is padded with spaces to such a multiple itself.
"""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

from anomalib_xray import NOTICE
from anomalib_xray.app.worker import Jobs
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.edge.overlay import left_out
from anomalib_xray.edge.predictor import open_predictor
from anomalib_xray.edge.result import Result
from anomalib_xray.errors import XrayError
from anomalib_xray.io.dicom import decode_unwindowed
from anomalib_xray.io.dicom_tags import read_owner, read_sop_instance_uid, read_tags
from anomalib_xray.io.dicom_write import encode_secondary_capture, map_description
from anomalib_xray.io.formats import PNG_SIGNATURE, is_dicom
from anomalib_xray.io.radiograph import Radiograph
from anomalib_xray.io.read import decode_radiograph
from anomalib_xray.preparation.view import reduced, small_view

MAX_PIXELS = 40_000_000
"""Of a radiograph that the viewer decodes; the largest flat-panel detectors have about 20 million."""

_LONGEST_PICTURE = 2048
"""Longest side in pixels of what is shown of a radiograph; screens show less."""
_LONGEST_MAP = 768
"""Longest side in pixels of a heat map that is sent; a model's own map is at most about 512 wide."""
_LONGEST_STAGE = 512
_TAILS = (0.1, 99.9)
"""Percentiles of the foreground between which a picture of 16 bits is first shown."""
_MOST_BUNDLES = 8
"""More pictures side by side could not be compared."""
_LARGEST_SCALE = 1000
_DAMAGED = "The request is damaged: send it from the viewer's own page."
_ALIGNMENT = 8
"""Typed arrays of a browser start at a multiple of their element's size."""
_LENGTH = struct.Struct("<I")
_LONGEST_HEADER = 65536
"""Bytes of a header that is read."""


class Planes:
    """Planes of one message, collected while its header is made.

    >>> planes = Planes()
    >>> planes.add(np.zeros((2, 3), np.uint8))
    {'offset': 0, 'height': 2, 'width': 3, 'type': 'uint8'}
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, plane: NDArray[Any]) -> dict[str, Any]:
        """Puts a plane (H, W), uint8, uint16 or float32, into the message; returns its entry for the header."""
        content = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<")).tobytes()
        entry = {"offset": self._size, "height": plane.shape[0], "width": plane.shape[1], "type": plane.dtype.name}
        self._pieces.append(content + bytes(-len(content) % _ALIGNMENT))
        self._size += len(self._pieces[-1])
        return entry

    def message(self, header: dict[str, Any]) -> bytes:
        """Puts the message together; numbers of the header must be finite."""
        text = json.dumps(header, allow_nan=False).encode()
        text += b" " * (-(len(text) + _LENGTH.size) % _ALIGNMENT)
        return b"".join([_LENGTH.pack(len(text)), text, *self._pieces])


def split_message(message: bytes) -> tuple[dict[str, Any], memoryview]:
    """The header of a message and all that follows it; a damaged one is an :class:`XrayError`."""
    if len(message) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(message)
        end = _LENGTH.size + length
        if length <= _LONGEST_HEADER and end <= len(message):
            try:
                header = json.loads(message[_LENGTH.size : end])
            except (ValueError, RecursionError):
                header = None
            if isinstance(header, dict):
                return header, memoryview(message)[end:]
    raise XrayError(_DAMAGED)


def begin(
    bundles: Sequence[Path], *, precision: str | None, device: str, threads: int | None, secret: bytes
) -> tuple[list[dict[str, Any]], Jobs]:
    """Loads the models in a :class:`~anomalib_xray.app.worker.Worker`; returns their descriptions and the jobs."""
    ensemble = open_models(bundles, precision=precision, device=device, threads=threads)
    return descriptions(ensemble), jobs_of(ensemble, secret)


def open_models(paths: Sequence[Path], *, precision: str | None, device: str, threads: int | None) -> Ensemble:
    """Loads 1 to 8 bundles, in the order given, under labels for the page."""
    if not 1 <= len(paths) <= _MOST_BUNDLES:
        raise XrayError(f"{len(paths)} bundles cannot be shown: give 1 to {_MOST_BUNDLES} with --bundle.")
    predictors = [open_predictor(path, precision=precision, device=device, threads=threads) for path in paths]
    models = [predictor.bundle.model for predictor in predictors]
    return Ensemble(predictors, distinct_labels(models, [path.name for path in paths]))


def distinct_labels(models: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Names for models, the folder added where two are the same, and a number where that does not help.

    >>> distinct_labels(["Cae", "Vae", "Cae"], ["a", "b", "c"])
    ['Cae (a)', 'Vae', 'Cae (c)']
    """
    times = Counter(models)
    labels = [
        model if times[model] == 1 or not folder else f"{model} ({folder})"
        for model, folder in zip(models, folders, strict=True)
    ]
    again = Counter(labels)
    return [f"{label} {number}" if again[label] > 1 else label for number, label in enumerate(labels, 1)]


def descriptions(ensemble: Ensemble) -> list[dict[str, Any]]:
    """Description of each model for the page, as JSON values."""
    return [
        {
            "label": label,
            "model": (bundle := predictor.bundle).model,
            "precision": predictor.precision,
            "score": bundle.score,
            "scores": list(bundle.scores),
            "thresholds": {name: bundle.thresholds.get(name) for name in bundle.scores},
            "pixel_threshold": bundle.pixel_threshold,
            "map_limits": None if bundle.map_limits is None else list(bundle.map_limits),
            "distribution": bundle.distribution,
            "normal_images": bundle.data.normal,
            "bundle_digest": bundle.digest,
            "prepares": bundle.preparation is not None,
        }
        for label, predictor in ensemble.predictors.items()
    ]


def jobs_of(ensemble: Ensemble, secret: bytes = b"") -> Jobs:
    """Jobs that the page can ask for, by name."""
    return {
        "analyse": partial(analyse, ensemble, stages=False, secret=secret),
        "analyse with stages": partial(analyse, ensemble, stages=True, secret=secret),
        "secondary capture": secondary_capture,
    }


def analyse(ensemble: Ensemble, content: bytes, *, stages: bool, secret: bytes = b"") -> bytes:
    """Decodes the content of a file and asks every model; one that fails is reported in its place.

    With ``stages`` the pictures of the preparation are sent, too; ``secret`` is the key of the tokens for patient and
    study, without which they could be guessed.
    """
    notes: list[str] = []
    image = decode_radiograph(content, name="The file", max_pixels=MAX_PIXELS, notes=notes)
    planes = Planes()
    tags = read_tags(content)
    patient, study = (_token(text, secret) for text in read_owner(content))
    header: dict[str, Any] = {
        "notice": NOTICE,
        "format": "DICOM" if is_dicom(content) else "PNG" if content.startswith(PNG_SIGNATURE) else "JPEG",
        "tags": tags,
        "sop_instance_uid": read_sop_instance_uid(content),
        "patient": patient,
        "study": study,
        "height": image.shape[0],
        "width": image.shape[1],
        "bits": 8 * image.dtype.itemsize,
        **_picture(image, content, planes),
        "results": [],
    }
    started = time.perf_counter()
    for label, result in ensemble.each(image, stages=stages, tags=tags, flags=notes):
        seconds = time.perf_counter() - started
        entry: dict[str, Any] = {"label": label, "error": str(result)}
        if isinstance(result, Result):
            entry |= _entry(result, image.shape, planes) | {"error": None, "seconds": round(seconds, 3)}
        header["results"].append(entry)
        started = time.perf_counter()
    return planes.message(header)


def _token(text: str, secret: bytes) -> str | None:
    """Token for a private text: the same for the same text, and different in each viewer."""
    return blake2b(text.encode(errors="replace"), key=secret, digest_size=8).hexdigest() if text else None


def _picture(image: Radiograph, content: bytes, planes: Planes) -> dict[str, Any]:
    """The picture, the values of its darkest and its brightest level, and its windows in these values.

    A DICOM file is shown as it is before its window, so that the page can move it; the file's own is the first view.
    """
    raw = decode_unwindowed(content, name="The file", max_pixels=MAX_PIXELS) if is_dicom(content) else None
    if raw is None:
        top = float(np.iinfo(image.dtype).max)
        # Decoding has already applied the window of such a DICOM file.
        first = [0.0, top] if is_dicom(content) else _window(image)
        return {"picture": planes.add(reduced(image, _LONGEST_PICTURE)), "ends": [0.0, top], "windows": [first]}
    first_end, last_end = raw.ends
    step = (last_end - first_end) / np.iinfo(raw.image.dtype).max
    windows = [[centre - width / 2, centre + width / 2] for centre, width in raw.windows]
    found = sorted(first_end + step * level for level in _window(raw.image))
    return {
        "picture": planes.add(reduced(raw.image, _LONGEST_PICTURE)),
        "ends": [first_end, last_end],
        "windows": windows or [found],
    }


def _entry(result: Result, shape: tuple[int, ...], planes: Planes) -> dict[str, Any]:
    """A result on a radiograph (H, W) as JSON values, its pictures among the planes."""
    heat_map = None if result.heat_map is None else reduced(result.heat_map, _LONGEST_MAP)
    return {
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
        "flags": result.flags,
        "views": [
            {
                "name": view.name,
                "scores": view.scores,
                "flags": view.flags,
                "stages": [
                    {"name": name, "picture": planes.add(small_view(picture, _LONGEST_STAGE))}
                    for name, picture in view.stages
                ],
            }
            for view in result.views
        ],
        "frames": [frame.round(1).tolist() for frame in left_out(result, shape)],
    }


def _window(image: Radiograph) -> list[float]:
    """Levels first shown as black and white: all 256, or the range of the foreground of a deeper picture."""
    if image.dtype == np.uint8:
        return [0.0, 255.0]
    foreground = image[image > 0]
    if not foreground.size:
        return [0.0, 1.0]
    low, high = (float(value) for value in np.percentile(foreground, _TAILS))
    return [low, high] if low < high else [0.0, max(high, 1.0)]


class _Capture(Struct):
    """A picture that the page drew: its sides, and whether to copy patient and study from the source.

    It shows the model of a bundle with this digest; ``scale`` is its pixels per pixel of the radiograph.
    """

    height: Annotated[int, Meta(gt=0, lt=2**16)]
    width: Annotated[int, Meta(gt=0, lt=2**16)]
    keep_patient: bool
    model: str = ""
    digest: str = ""
    scale: float | None = None


def secondary_capture(message: bytes) -> bytes:
    """Encodes a picture that the page drew as a DICOM file.

    The header of the message is a :class:`_Capture`. Behind it are the picture's pixels, three bytes each (red, green,
    blue), then the source's file, which may be empty.

    Raises:
        XrayError: The message is damaged, the source is not DICOM where it must be, or pydicom is missing.
    """
    header, payload = split_message(message)
    try:
        about = msgspec.convert(header, _Capture)
    except msgspec.ValidationError as error:
        raise XrayError(_DAMAGED) from error
    size = about.height * about.width * 3
    if size > 3 * MAX_PIXELS or len(payload) < size:
        raise XrayError(_DAMAGED)
    picture = np.frombuffer(payload[:size], np.uint8).reshape(about.height, about.width, 3)[:, :, ::-1]
    return encode_secondary_capture(
        np.ascontiguousarray(picture),
        source=bytes(payload[size:]),
        description=map_description(about.model) if about.model else "Anomaly map, research use only",
        keep_patient=about.keep_patient,
        series=about.digest,
        scale=about.scale if about.scale is not None and 0 < about.scale < _LARGEST_SCALE else None,
        source_name="the radiograph",
    )
