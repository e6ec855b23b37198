"""The command that makes a bundle for the device."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path

from anomalib_xray.errors import XrayError


def bundle(
    checkpoint: Path,
    out: Path,
    images: Path | None = None,
    validation: Path | None = None,
    preparation: Path | None = None,
    int8: bool = True,
    note: str | None = None,
    licence: str = "not stated",
    model: str | None = None,
) -> int:
    """Makes a folder that holds all a device needs to judge radiographs with a trained model.

    In it are the model for OpenVINO in 32, 16 and, where it is good enough, 8 bits, the preparation, thresholds, what
    normal images score, the measured agreement with torch, a model card, and checksums. Radiographs to measure on are
    those that the checkpoint's run was validated on, unless others are given.

    Args:
        checkpoint: Checkpoint (.ckpt) that training wrote.
        out: Folder to write; it must not exist.
        images: Folder or CSV table (image_path, label) of normal radiographs for thresholds, percentiles and 8 bits; by
            default those that the run was validated on.
        validation: CSV table of labelled radiographs, normal and abnormal, that the 8-bit model must tell apart as well
            as the 32-bit one; by default the labelled ones among IMAGES.
        preparation: YAML file of the preparation; radiographs are then given raw. Without it they go in as they are.
        int8: Whether to try 8-bit integers.
        note: What the radiographs are, for the model card.
        licence: Licence of the radiographs, for the model card.
        model: Name of the checkpoint's model, such as AlphaGan; needed for old checkpoints, which do not hold it.

    Returns:
        Exit status: 0.

    Raises:
        XrayError: An argument cannot be used, or the model cannot be exported.
    """
    from anomalib_xray.bundling.folders import check_free
    from anomalib_xray.bundling.images import given_samples, merged, validation_samples
    from anomalib_xray.explain.checkpoint import check_exists

    if find_spec("torch") is None or find_spec("anomalib") is None:
        raise XrayError("Making a bundle needs torch and anomalib: pip install 'anomalib-xray[train]'.")
    check_exists(checkpoint)
    check_free(out)
    if images is None:
        samples = validation_samples(checkpoint, originals=preparation is not None)
        source = "images that the training run was validated on"
    else:
        samples = given_samples(images)
        source = f"images given as {images.name}"
    if validation is not None:
        samples = merged(samples, given_samples(validation))

    with warnings.catch_warnings(action="ignore"):  # of packages that anomalib imports
        from anomalib_xray.bundling.writer import Request, write_bundle
    from anomalib_xray.explain.checkpoint import load_model
    from anomalib_xray.preparation.pipeline import Pipeline

    pipeline = None if preparation is None else Pipeline.load(preparation)
    request = Request(samples, pipeline, int8, note or source, licence)
    manifest = write_bundle(load_model(checkpoint, model), request, out)
    _report(manifest, out)
    return 0


def _report(manifest: dict[str, object], out: Path) -> None:
    """Prints what came of it."""
    from anomalib_xray.bundling.card import figures
    from anomalib_xray.edge.bundle import NOTICE

    print(NOTICE)
    for line in figures(manifest):
        print(line)
    print(f"The bundle is in {out}; its README.md is the model card.")
