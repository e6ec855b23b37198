"""The command that explains what makes a discriminator call a radiograph abnormal."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anomalib_xray.errors import XrayError


def explain(
    checkpoint: Path,
    images: list[Path],
    out: Path = Path("explanations"),
    method: Literal["grad_cam", "lrp", "rollout"] = "grad_cam",
    layer: str | None = None,
    masks: Path | None = None,
    sanity: bool = False,
    model: str | None = None,
) -> int:
    """Shows what makes a GAN's discriminator call a radiograph abnormal.

    Writes one picture for each image, OUT/<name>_explained.png, and OUT/explain.csv. docs/how-to/explain.md says what
    the methods compute, and how far to trust them.

    Args:
        checkpoint: Checkpoint (.ckpt) that training wrote, of a model with a discriminator of images.
        images: PNG, JPEG or DICOM files, or folders, which are searched with all folders below them.
        out: Folder to write to.
        method: Grad-CAM; layer-wise relevance propagation; or attention rollout, which knows no score.
        layer: Dotted name of the layer that Grad-CAM looks at; the discriminator's last feature map if left out.
        masks: Folder with masks of anomalies, PNG files with the paths or names of their images; adds how well the
            heat maps lie on them.
        sanity: Whether to check that the explanation changes when the discriminator's weights become random; writes
            OUT/sanity.csv.
        model: Name of the checkpoint's model, such as AlphaGan; needed for old checkpoints, which do not hold it.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    Raises:
        XrayError: The checkpoint cannot be used, its model has no discriminator of images or the method does not hold
            for it, no image or mask is found, or ``out`` cannot be written.
    """
    from anomalib_xray.io.inputs import find_inputs
    from anomalib_xray.io.paths import check_checkpoint

    check_checkpoint(checkpoint)
    if masks is not None and not masks.is_dir():
        raise XrayError(f"{masks} is no folder: name the folder of the masks.")
    inputs = find_inputs(images, out)

    from anomalib_xray.explain.explainers import Explainer
    from anomalib_xray.explain.run import Masks, explain_all
    from anomalib_xray.training.checkpoint import load_model

    trained = load_model(checkpoint, model)
    return explain_all(trained, Explainer(trained, method, layer), inputs, out, Masks(masks), sanity)
