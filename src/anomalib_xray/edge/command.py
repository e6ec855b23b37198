"""The command that scores radiographs with an exported model."""

from __future__ import annotations

import math
from pathlib import Path

from anomalib_xray.edge.bundle import NOTICE, Bundle
from anomalib_xray.edge.inputs import find_inputs
from anomalib_xray.errors import XrayError


def predict(
    bundle: Path,
    images: list[Path],
    out: Path = Path("predictions"),
    threshold: float | None = None,
    device: str = "CPU",
) -> int:
    """Scores radiographs with an exported model and draws its heat maps.

    Writes an overlay for every image, OUT/<name>_overlay.png, and the table OUT/scores.csv. An image that cannot be
    used becomes a row with the reason, and the others go on.

    Args:
        bundle: Folder that an export wrote, or the run folder around it, or the .xml or .onnx file in it.
        images: PNG, JPEG or DICOM files, or folders, which are searched with all folders below them.
        out: Folder to write to.
        threshold: Raw score from which on an image is anomalous, instead of the bundle's own.
        device: OpenVINO device, such as CPU or GPU.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    Raises:
        XrayError: The bundle, the device or the threshold cannot be used, no image is found, or ``out`` cannot be
            written.
    """
    from anomalib_xray.edge.batch import predict_all
    from anomalib_xray.edge.runtime import Runtime

    if threshold is not None and not math.isfinite(threshold):
        raise XrayError(f"The threshold {threshold} decides nothing: give a finite raw score.")
    inputs = find_inputs(images, out)
    runtime = Runtime(Bundle.open(bundle), device=device)
    print(NOTICE)
    return predict_all(runtime, inputs, out, threshold)
