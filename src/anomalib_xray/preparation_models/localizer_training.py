"""Trains the network that finds hands on labelled pictures, and exports it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.localization.boxes import LabelledPictures, read_boxes
from anomalib_xray.preparation.localization.detector import Description, Detector
from anomalib_xray.preparation_models.checkpoint import resume, save_checkpoint
from anomalib_xray.preparation_models.localizer import build_localizer, export_localizer
from anomalib_xray.preparation_models.localizer_data import Example, draw_batch, load_examples

MODEL = "localizer.xml"
_CHECKPOINT = "checkpoint.pt"
_STEPS_A_CHECKPOINT = 50


@dataclass(frozen=True)
class Settings:
    """What a training depends on beside its pictures.

    Attributes:
        steps: Number of optimiser steps.
        batch_size: Pictures a step, at least 2.
        learning_rate: Highest learning rate of AdamW; it rises for a tenth of the steps, then falls.
        seed: Of the held-out share, of the order and variation of the pictures, and of the network's first weights.
        held_out: Share of the pictures that is not learned from but measured on, 0 to less than 1.
        hand_classes: Names of the classes that are hands.
        threshold: Score from which on a box counts, 0 to 1.
        weights: State dict to start from; None starts at random.
    """

    steps: int
    batch_size: int
    learning_rate: float
    seed: int
    held_out: float
    hand_classes: tuple[str, ...]
    threshold: float
    weights: Path | None

    def __post_init__(self) -> None:
        for name in ("steps", "learning_rate"):
            if getattr(self, name) <= 0:
                raise XrayError(f"The training cannot use {name} {getattr(self, name)}: give a number above 0.")
        if self.batch_size < 2:
            raise XrayError(
                f"batch_size is at least 2, not {self.batch_size}: the network compares pictures of a batch."
            )
        if self.seed < 0:
            raise XrayError(f"The seed must be 0 or larger, not {self.seed}.")
        if not 0 <= self.held_out < 1:
            raise XrayError(f"held_out is a share from 0 to less than 1, not {self.held_out}.")
        if not 0 <= self.threshold <= 1:
            raise XrayError(f"threshold is a score from 0 to 1, not {self.threshold}.")


@dataclass(frozen=True)
class Performance:
    """How the exported detector does on the held-out pictures.

    Attributes:
        pictures: Their number.
        right_counts: On how many of them it finds as many hands as are labelled.
        iou: Mean intersection over union of each labelled hand with the box that fits it best; NaN without any.
    """

    pictures: int
    right_counts: int
    iou: float


def train(images: Path, boxes: Path, out: Path, settings: Settings) -> Performance:
    """Trains the network, or goes on where an earlier run with the same settings stopped, and exports it.

    Args:
        images: Folder of the pictures.
        boxes: What :func:`anomalib_xray.preparation.localization.boxes.read_boxes` reads.
        out: Folder for the checkpoint and the model :data:`MODEL`, with its .bin and its .json.
        settings: What the training depends on.

    Returns:
        How well the exported model does on held-out pictures.

    Raises:
        XrayError: The boxes or pictures cannot be used, no class is a hand, or ``out`` holds a checkpoint of another
            training.
    """
    pictures = read_boxes(boxes)
    classes = _classes(pictures, settings, boxes)
    learned, held_out = _split(load_examples(images, pictures, classes), settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_localizer(len(classes), settings.weights)
    _optimise(network, learned, settings, sorted(pictures), out / _CHECKPOINT)
    network.eval()
    export_localizer(network, out / MODEL)
    hands = tuple(name for name in classes if name in settings.hand_classes)
    description = Description(classes, hands, settings.threshold)
    write_atomically((out / MODEL).with_suffix(".json"), description.to_json())
    return measure(Detector(out / MODEL), held_out, [classes.index(name) for name in hands])


def measure(detector: Detector, examples: Sequence[Example], hands: Sequence[int]) -> Performance:
    """Compares a detector's boxes with the labelled ones.

    Args:
        detector: The detector.
        examples: Labelled pictures.
        hands: Positions of the hands' classes in the list of all classes.

    Returns:
        How well it does.
    """
    right_counts = 0
    overlaps: list[float] = []
    for example in examples:
        height, width = example.view.shape
        stretch = np.array([width / example.image.shape[1], height / example.image.shape[0]] * 2)
        truth = torch.from_numpy(example.boxes[np.isin(example.labels, hands)] * stretch).float()
        found = torch.from_numpy(np.array(detector.boxes(example.view)).reshape(-1, 4)).float()
        right_counts += len(found) == len(truth)
        overlaps += box_iou(truth, found).amax(dim=1).tolist() if len(found) else [0.0] * len(truth)
    return Performance(len(examples), right_counts, float(np.mean(overlaps)) if overlaps else float("nan"))


def _classes(pictures: LabelledPictures, settings: Settings, boxes: Path) -> tuple[str, ...]:
    """All classes, sorted by name."""
    classes = sorted({box.label for listed in pictures.values() for box in listed})
    if not set(classes) & set(settings.hand_classes):
        raise XrayError(
            f"{boxes} labels {', '.join(classes) or 'nothing'}, of which nothing is a hand: name the classes of hands "
            f"with hand_classes, which is {', '.join(settings.hand_classes)}."
        )
    return tuple(classes)


def _split(examples: list[Example], settings: Settings) -> tuple[list[Example], list[Example]]:
    """The examples to learn from, and the others."""
    order = np.random.default_rng(settings.seed).permutation(len(examples))
    count = round(settings.held_out * len(examples))
    if count == len(examples):
        raise XrayError(f"{len(examples)} pictures of which {count} are held out leave none to learn from.")
    return [examples[index] for index in order[count:]], [examples[index] for index in order[:count]]


def _optimise(network: SSD, examples: list[Example], settings: Settings, pictures: list[str], checkpoint: Path) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
    )
    parts = {"network": network, "optimizer": optimizer, "schedule": schedule}
    identity = {**asdict(settings), "weights": str(settings.weights), "pictures": pictures}
    done = resume(checkpoint, identity, parts)
    network.train()
    for step in track(range(done, settings.steps), "Training", settings.steps, done=done):
        images, targets = draw_batch(examples, np.random.default_rng([settings.seed, step]), settings.batch_size)
        losses = network(images, targets)
        loss = losses["bbox_regression"] + losses["classification"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _STEPS_A_CHECKPOINT == 0 or step + 1 == settings.steps:
            print(f"step {step + 1} of {settings.steps}: loss {loss.item():.4f}", flush=True)
            save_checkpoint(checkpoint, identity, step + 1, parts)
