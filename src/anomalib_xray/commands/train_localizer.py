"""The command that trains the detector of the step for hands."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.errors import XrayError


def train_localizer(
    images: Path,
    boxes: Path,
    out: Path,
    steps: int = 600,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    seed: int = 0,
    held_out: float = 0.15,
    hand_classes: tuple[str, ...] = ("rh", "lh", "hand"),
    threshold: float = 0.7,
    weights_path: Path | None = None,
) -> None:
    """Trains a detector of hands on pictures with boxes that people drew; about 150 are enough.

    Writes OUT/localizer.xml, .bin and .json, for the setting `model` of the step `hands`. The pictures must be as that
    step gets them: masked ones where it comes after the foreground step. A stopped run goes on where it stopped; the
    same arguments give the same network.

    Args:
        images: Folder of the pictures, which is searched with all folders below it.
        boxes: Folder of Pascal VOC files (.xml), COCO file (.json) or labelImg table (.csv) with the boxes.
        out: Folder to write to.
        steps: Number of optimiser steps.
        batch_size: Pictures a step, at least 2.
        learning_rate: Highest learning rate.
        seed: Seed of everything random.
        held_out: Share of the pictures that is not learned from but measured on.
        hand_classes: Names of the classes that are hands; others, such as those of markers, are learned too.
        threshold: Score from which on a box counts.
        weights_path: File with torchvision's COCO weights, ssdlite320_mobilenet_v3_large_coco-a79551df.pth, or with a
            checkpoint of this command, to start from.

    Raises:
        XrayError: torch is missing, an argument, the boxes or the pictures cannot be used, or ``out`` holds another
            training.
    """
    try:
        from anomalib_xray.preparation_models.localizer import MODEL, Settings, train
    except ModuleNotFoundError as error:
        raise XrayError("Training needs torch and torchvision: pip install 'anomalib-xray[train]'.") from error
    settings = Settings(
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        held_out=held_out,
        hand_classes=hand_classes,
        threshold=threshold,
        weights=weights_path,
    )
    result = train(images, boxes, out, settings)
    print(f"{out / MODEL} finds the right number of hands on {result.right_counts} of {result.pictures} held-out "
          f"pictures; mean IoU {result.iou:.3f}.")  # fmt: skip
