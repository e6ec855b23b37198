"""The command that trains the network of the foreground step."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.errors import XrayError


def train_foreground(
    out: Path,
    steps: int = 1200,
    seed: int = 0,
    images: int = 600,
    batch_size: int = 8,
    learning_rate: float = 3e-3,
    radiographs: Path | None = None,
    masks: Path | None = None,
) -> None:
    """Trains the small U-Net that tells limbs from background, on phantoms and on masks of your own.

    Writes OUT/foreground_unet.xml and .bin, for the setting `model` of the step `foreground`. A stopped run goes on
    where it stopped; the same arguments give the same network.

    Args:
        out: Folder to write to.
        steps: Number of optimiser steps.
        seed: Seed of everything random.
        images: Number of phantoms to learn from.
        batch_size: Pictures a step.
        learning_rate: Highest learning rate.
        radiographs: Folder of raw radiographs, which is searched with all folders below it; those with a mask are half
            of what is learned from.
        masks: Folder of the masks that were drawn for some of the radiographs: below it, the mask of `a/b.jpg` is
            `a/b.png`, as large as the original and 0 on the background. A few dozen help; the more kinds the better.

    Raises:
        XrayError: torch is missing, an argument cannot be used, or ``out`` holds a training with other arguments.
    """
    try:
        from anomalib_xray.preparation_models.foreground import MODEL, Settings, train
    except ModuleNotFoundError as error:
        raise XrayError("Training needs torch: pip install 'anomalib-xray[train]'.") from error
    settings = Settings(steps, seed, images, batch_size, learning_rate, radiographs, masks)
    agreement = train(out, settings)
    print(
        f"{out / MODEL}: IoU on held-out phantoms {agreement.torch:.4f} (torch), {agreement.openvino:.4f} (OpenVINO)."
    )
