"""The command that draws where a model looks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal


def attention(
    checkpoint: Path,
    images: list[Path],
    out: Path = Path("attention"),
    query: Literal["anomaly", "centre"] = "anomaly",
    model: str | None = None,
) -> int:
    """Draws where the self-attention of a trained model looks.

    Writes one picture for each image and self-attention layer, OUT/<name>_<layer>.png: on the left what a chosen
    position attends to, the position marked; on the right how much attention every position receives.

    Args:
        checkpoint: Checkpoint (.ckpt) that training wrote.
        images: PNG, JPEG or DICOM files, or folders, which are searched with all folders below them.
        out: Folder to write to.
        query: The chosen position: that of the highest anomaly, or the centre of the foreground.
        model: Name of the checkpoint's model, such as AlphaGan; needed for old checkpoints, which do not hold it.

    Returns:
        Exit status: 0, 1 if an image could not be used.

    Raises:
        XrayError: The checkpoint cannot be used, its model has no self-attention, no image is found, or ``out`` cannot
            be written.
    """
    from anomalib_xray.io.inputs import find_inputs
    from anomalib_xray.io.paths import check_checkpoint

    check_checkpoint(checkpoint)
    inputs = find_inputs(images, out)

    from anomalib_xray.explain.attention import draw_all
    from anomalib_xray.training.checkpoint import load_model

    return draw_all(load_model(checkpoint, model), inputs, query, out)
