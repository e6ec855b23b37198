"""The command that trains the network of the step for body parts."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.errors import XrayError


def train_recogniser(
    out: Path,
    table: Path | None = None,
    root: Path | None = None,
    steps: int = 4000,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    held_out: float = 0.2,
    per_part: int = 1000,
) -> None:
    """Trains the small network that names body parts, on radiographs of known ones.

    Writes OUT/recogniser.xml, .bin and .json, for the setting `model` of the step `recognise`. Radiographs are listed
    by a table or lie in a folder per body part; MURA as it is unpacked serves. A stopped run goes on where it stopped;
    the same arguments give the same network.

    Args:
        out: Folder to write to.
        table: CSV table with image_path and body_part; group (or patient) names what must not stand on both sides of
            the split, and split (train or another word) makes the split itself.
        root: Folder with a folder per body part, such as ROOT/hip/1.png, or MURA's as it is unpacked; instead of a
            table.
        steps: Number of optimiser steps.
        batch_size: Pictures a step.
        learning_rate: Highest learning rate.
        seed: Seed of everything random.
        held_out: Share of the groups that is not learned from but measured on, and that confidence is calibrated by.
        per_part: Largest number of radiographs per body part, drawn with the seed, on either side of the split.

    Raises:
        XrayError: torch is missing, an argument or the radiographs cannot be used, or ``out`` holds another training.
    """
    if (table is None) == (root is None):
        raise XrayError("Give either --table, a CSV table, or --root, a folder with a folder per body part.")
    try:
        from anomalib_xray.preparation_models.recogniser import MODEL, Settings, train
        from anomalib_xray.preparation_models.recogniser_data import list_folders, list_table
    except ModuleNotFoundError as error:
        raise XrayError("Training needs torch: pip install 'anomalib-xray[train]'.") from error
    settings = Settings(steps, seed, batch_size, learning_rate, held_out, per_part)
    listed = list_table(table) if table is not None else list_folders(Path(str(root)))
    print(f"{out / MODEL}:\n{train(listed, out, settings).as_text()}")
