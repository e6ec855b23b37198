"""The network that names body parts: a small convolutional classifier, trained on labelled radiographs and exported."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that torch's own documentation uses

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.networks import fit
from anomalib_xray.preparation.steps.recognise import SIDE, Description, recognise
from anomalib_xray.preparation_models.recogniser_data import (
    HELD_OUT,
    TRAIN,
    Labelled,
    at_most,
    draw_batch,
    load_examples,
    split_by_group,
)
from anomalib_xray.preparation_models.training import CHECKPOINT, LossAt, export_network, train_network, warm_schedule

MODEL = "recogniser.xml"
_CELL = 4  # pixels a side that are one place of the first layer: all of them are seen, at a sixteenth of the places
_CHANNELS = (32, 48, 80, 128)
_MEMORY = 0.95  # share of a body part's difficulty that stays from a batch to the next
_SMOOTHING = 0.05  # keeps a network that knows every training picture from being sure of everything
_STEPS_PER_CHECKPOINT = 100
_SURE = 0.99  # share of right names that a sure network must reach
_LEAST_THRESHOLD = 0.5


@dataclass(frozen=True)
class Settings:
    """The settings of a training beside its radiographs: arguments of ``train-recogniser``.

    The learning rate is AdamW's highest one; it rises for a twentieth of the steps, then falls to 0.
    """

    steps: int
    seed: int
    batch_size: int
    learning_rate: float
    held_out: float
    per_part: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0 and not (name in ("seed", "held_out") and value == 0):
                raise XrayError(f"The training cannot use {name} {value}: give a number above 0.")
        if self.held_out >= 1:
            raise XrayError(f"held_out is a share from 0 to less than 1, not {self.held_out}.")


@dataclass(frozen=True)
class Performance:
    """The performance of the exported network on the held-out radiographs.

    Attributes:
        body_parts: Names of the body parts.
        confusion: Number of radiographs of each (row) that are called each (column), (K, K).
        threshold: Confidence from which on it is sure.
    """

    body_parts: tuple[str, ...]
    confusion: NDArray[np.int64]
    threshold: float

    def as_text(self) -> str:
        """A line per body part, and one for all."""
        lines = []
        for part, row in zip(self.body_parts, self.confusion, strict=True):
            called = ", ".join(f"{count} {name}" for name, count in zip(self.body_parts, row, strict=True) if count)
            lines.append(f"{part}: called {called or 'nothing, for none is held out'}")
        right, total = int(np.trace(self.confusion)), int(self.confusion.sum())
        return "\n".join([*lines, f"{right} of {total} held-out radiographs are named right."])


class Recogniser(nn.Module):
    """A convolutional network with a quarter of a million parameters.

    The picture is standardised first, so that dim and bright films look alike.

    Attributes:
        difficulty: Running mean of the loss of each body part, (K,); kept with the weights for a run that goes on.
    """

    difficulty: torch.Tensor

    def __init__(self, parts: int) -> None:
        super().__init__()
        self.standardise = nn.InstanceNorm2d(1)
        layers: list[nn.Module] = [nn.PixelUnshuffle(_CELL), *_convolution(_CELL**2, _CHANNELS[0])]
        for channels, width in pairwise(_CHANNELS[:-1]):
            layers += [*_convolution(channels, width, stride=2), *_convolution(width, width)]
        self.features = nn.Sequential(*layers, *_convolution(*_CHANNELS[-2:], stride=2))
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(2 * _CHANNELS[-1], parts))
        self.register_buffer("difficulty", torch.ones(parts))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, K) of the body parts of images (N, 1, 128, 128) in [0, 1]."""
        features = self.features(self.standardise(images))
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return cast("torch.Tensor", self.head(pooled))


def _convolution(channels: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, kernel_size=3, padding=1, stride=stride, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    ]


class InAnyPose(nn.Module):
    """The mean of a network's logits over the four quarter turns of an image, so that turning it changes nothing.

    Args:
        network: The network.
        temperature: Divisor of the logits for probabilities; none for the logits themselves.
    """

    def __init__(self, network: Recogniser, temperature: float | None = None) -> None:
        super().__init__()
        self.network, self.temperature = network, temperature

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits, or probabilities, (1, K) of an image (1, 1, 128, 128) in [0, 1]."""
        turned = torch.cat([torch.rot90(image, turns, (2, 3)) for turns in range(4)])
        logits = self.network(turned).mean(dim=0, keepdim=True)
        return logits if self.temperature is None else torch.softmax(logits / self.temperature, dim=1)


def train(listed: Sequence[Labelled], out: Path, settings: Settings) -> Performance:
    """Train the network, or go on where an earlier run with the same settings stopped; export and measure it.

    ``out`` gets the checkpoint and the model :data:`MODEL`, an OpenVINO IR with weights in half precision that goes
    from (1, 1, 128, 128) in [0, 1] to the probabilities (1, K) of the body parts, with its .bin and its .json.

    Raises:
        XrayError: There are fewer than two body parts, or one has no radiograph to learn from; or ``out`` holds another
            training.
    """
    chosen = at_most(split_by_group(listed, settings.held_out, settings.seed), settings.per_part, settings.seed)
    learned, held_out = ([one for one in chosen if one.split == split] for split in (TRAIN, HELD_OUT))
    parts = tuple(sorted({one.body_part for one in chosen}))
    lacking = sorted({*parts} - {one.body_part for one in learned})
    if len(parts) < 2 or lacking:
        what = f"no radiograph of {lacking[0]} is learned from" if lacking else f"only {', '.join(parts)} is named"
        raise XrayError(f"A network tells body parts from each other, and {what}: give more groups of radiographs.")
    network = train_recogniser(learned, parts, out / CHECKPOINT, settings)
    examples = load_examples(held_out, parts)
    images = [fit(example.view, (SIDE, SIDE)) for example in examples]
    labels = np.array([example.label for example in examples], np.int64)
    quarters = InAnyPose(network).eval()
    with torch.inference_mode():
        logits = torch.cat([torch.empty(0, len(parts)), *(quarters(torch.from_numpy(i[None, None])) for i in images)])
    temperature = fitted_temperature(logits, torch.from_numpy(labels))
    threshold = sure_from(torch.softmax(logits / temperature, dim=1).numpy(), labels)
    export_recogniser(network, temperature, out / MODEL)
    write_atomically((out / MODEL).with_suffix(".json"), Description(parts, threshold).to_json())
    confusion = np.zeros((len(parts), len(parts)), np.int64)
    for image, label in zip(images, labels, strict=True):
        confusion[label, int(recognise(out / MODEL, image).argmax())] += 1
    return Performance(parts, confusion, threshold)


def train_recogniser(
    listed: Sequence[Labelled], parts: tuple[str, ...], checkpoint: Path, settings: Settings
) -> Recogniser:
    """Train the network, or go on where the run that left the checkpoint stopped; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = Recogniser(len(parts)).to(memory_format=torch.channels_last)  # a fifth faster
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-2)
    schedule = warm_schedule(optimizer, settings.steps)

    def loss_of_steps() -> LossAt:
        examples = load_examples(listed, parts)

        def loss_at(step: int) -> torch.Tensor:
            rng = np.random.default_rng([settings.seed, step])
            images, labels = draw_batch(examples, network.difficulty.numpy(), settings.batch_size, rng)
            named = torch.from_numpy(labels)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**31)))  # of the features that are left out
                logits = network(torch.from_numpy(images))
            losses = F.cross_entropy(logits, named, label_smoothing=_SMOOTHING, reduction="none")
            for part in set(labels.tolist()):
                network.difficulty[part].lerp_(losses[named == part].mean().detach(), 1 - _MEMORY)
            return losses.mean()

        return loss_at

    pictures = hashlib.sha256(repr([(one.path.name, one.body_part, one.group) for one in listed]).encode()).hexdigest()
    train_network(
        network,
        loss_of_steps,
        schedule,
        steps=settings.steps,
        checkpoint=checkpoint,
        every=_STEPS_PER_CHECKPOINT,
        settings={**asdict(settings), "body_parts": list(parts), "pictures": pictures},
    )
    return network


def export_recogniser(network: Recogniser, temperature: float, path: Path) -> None:
    """Write the network, in eval mode and in any pose, with a softmax of this temperature behind it, as OpenVINO IR."""
    export_network(InAnyPose(network, temperature).eval(), (1, 1, SIDE, SIDE), path)


def fitted_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """The divisor of the logits (N, K) that makes the labels (N,) likeliest (arXiv 1706.04599), 1/4 to 4; 1 for none.

    Example:
        >>> fitted_temperature(torch.tensor([[9.0, 0.0], [0.0, 9.0], [9.0, 0.0]]), torch.tensor([0, 1, 1]))
        4.0
    """
    if len(labels) == 0:
        return 1.0
    candidates = np.geomspace(0.25, 4, 65)
    losses = [F.cross_entropy(logits / float(candidate), labels).item() for candidate in candidates]
    return float(candidates[int(np.argmin(losses))])


def sure_from(probabilities: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The lowest confidence, from 1/2 on, from which on at least 99 % of the names are right.

    Args:
        probabilities: (N, K).
        labels: (N,).

    Example:
        >>> sure_from(np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], np.float32), np.array([0, 0, 1]))
        0.601
    """
    confidence, right = probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1) == labels
    for threshold in np.arange(_LEAST_THRESHOLD, 1, 0.001):
        sure = confidence >= threshold
        if right[sure].sum() >= _SURE * sure.sum():
            return round(float(threshold), 3)
    return 1.0
