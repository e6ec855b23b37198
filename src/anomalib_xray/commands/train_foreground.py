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
) -> None:
    """Trains the small U-Net that tells hands from background, on phantoms alone.

    Writes OUT/foreground_unet.xml and .bin, for the setting `model` of the step `foreground`. A stopped run goes on
    where it stopped; the same arguments give the same network.

    Args:
        out: Folder to write to.
        steps: Number of optimiser steps.
        seed: Seed of everything random.
        images: Number of phantoms to learn from.
        batch_size: Pictures a step.
        learning_rate: Highest learning rate.

    Raises:
        XrayError: torch is missing, an argument cannot be used, or ``out`` holds a training with other arguments.
    """
    try:
        from anomalib_xray.preparation_models.foreground import MODEL, Settings, train
    except ModuleNotFoundError as error:
        raise XrayError("Training needs torch: pip install 'anomalib-xray[train]'.") from error
    settings = Settings(steps=steps, seed=seed, images=images, batch_size=batch_size, learning_rate=learning_rate)
    agreement = train(out, settings)
    print(
        f"{out / MODEL}: IoU on held-out phantoms {agreement.torch:.4f} (torch), {agreement.openvino:.4f} (OpenVINO)."
    )
