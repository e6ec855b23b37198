"""The way of anomaly masks to the prepared picture, and of heat maps back to the original radiograph."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import list_radiographs
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation.manifest import read_manifest
from anomalib_xray.preparation.record import Record, read_record
from anomalib_xray.preparation.sources import prepared_name
from anomalib_xray.preparation.step import Mask, Matrix

logger = logging.getLogger(__name__)


def to_prepared(mask: Mask, matrix: Matrix, shape: tuple[int, int]) -> Mask:
    """Move a mask (H, W) drawn on the original to the prepared picture of the given ``shape``.

    ``matrix`` (3, 3) leads from the original's pixel coordinates to the prepared picture's.
    """
    grey = mask.astype(np.uint8) * np.uint8(255)
    # Interpolated and halved, so that thin masks survive a reduction better than with the nearest pixel.
    moved = cv2.warpPerspective(grey, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR)
    return np.asarray(moved >= 128)


def to_original(heat_map: NDArray[np.float32], matrix: Matrix, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Move a heat map of the prepared picture back onto the original.

    Args:
        heat_map: (h, w), of the prepared picture; any finite values.
        matrix: (3, 3), leads from the original's pixel coordinates to the prepared picture's.
        shape: Height and width of the original.

    Returns:
        (H, W), float32; 0 where the original was cropped away.

    >>> to_original(np.ones((1, 1), np.float32), np.array([[1.0, 0, -1], [0, 1, 0], [0, 0, 1]]), (1, 3))
    array([[0., 1., 0.]], dtype=float32)
    """
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpPerspective(heat_map.astype(np.float32), matrix, shape[::-1], flags=flags), np.float32)


def restore(heat_maps: Path, out: Path, prepared: Path) -> int:
    """Move heat maps back onto the originals of their pictures.

    Args:
        heat_maps: Folder of heat maps, grey pictures under the relative paths of their prepared pictures; a heat map
            may have another size than its picture, with the same proportions.
        out: Folder to write to, under the relative paths of the originals. The parts of an original become one picture.
        prepared: Folder of the prepared pictures.

    Returns:
        Exit status: 0, 1 if a heat map could not be used.

    Raises:
        XrayError: A folder is missing or unusable, or there is no heat map of any prepared picture.
    """
    for folder, what in ((heat_maps, "heat maps"), (prepared, "prepared pictures")):
        if absolute(folder) == absolute(out):
            raise XrayError(f"The {what} in {out} would be overwritten: give another folder as --out.")
    try:
        names = sorted({row["source_path"] for row in read_manifest(prepared) if row["image_path"]})
    except (XrayError, KeyError) as error:
        raise XrayError(f"{prepared} has no manifest of prepared radiographs: run prepare to its end there.") from error
    records = [record for name in names if (record := read_record(prepared, name)) and _found(heat_maps, record)]
    if not records:
        raise XrayError(f"{heat_maps} holds no picture that is named as one in {prepared}; give heat maps as --root.")
    known = {path for record in records for path in _found(heat_maps, record)}
    if unknown := [path for path in list_radiographs(heat_maps, leave_out=[out, prepared]) if path not in known]:
        said = f"{len(unknown)} (first {unknown[0].relative_to(heat_maps)})"
        logger.warning("%s: passed over pictures that are not named as one in %s: %s.", heat_maps, prepared, said)
    failed = 0
    for record in track(records, "Moving back"):
        try:
            write_png(out / prepared_name(record.source, 1, 1), _restored(heat_maps, record))
        except XrayError as error:
            failed += 1
            print(f"error: {error}", file=sys.stderr)
    print(f"The heat maps of {len(records) - failed} of {len(records)} radiographs are in {out}.")
    return 1 if failed else 0


def _found(heat_maps: Path, record: Record) -> list[Path]:
    return [heat_maps / output.name for output in record.outputs if (heat_maps / output.name).is_file()]


def _restored(heat_maps: Path, record: Record) -> Radiograph:
    """The heat map of all parts on the original, (H, W), with 16 bits if a part has them."""
    moved: list[NDArray[np.float32]] = []
    deep = False
    for output in record.outputs:
        if (heat_maps / output.name).is_file():
            heat_map = read_radiograph(heat_maps / output.name)
            deep |= heat_map.dtype == np.uint16
            resized = cv2.resize(heat_map.astype(np.float32), output.shape[::-1], interpolation=cv2.INTER_LINEAR)
            moved.append(to_original(np.asarray(resized, np.float32), output.matrix, record.shape))
    levels = np.asarray(np.rint(np.clip(np.max(moved, axis=0), 0, 65535 if deep else 255)), np.float32)
    return levels.astype(np.uint16) if deep else levels.astype(np.uint8)
