"""The network that finds hands: torchvision's SSDLite on MobileNetV3, trained on labelled pictures and exported."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD
from torchvision.ops import box_iou

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically
from anomalib_xray.openvino_runtime import silence_telemetry
from anomalib_xray.preparation.detector import Description, Detector
from anomalib_xray.preparation_models.localizer_data import (
    SIDE,
    Example,
    LabelledPictures,
    draw_batch,
    load_examples,
    read_boxes,
)
from anomalib_xray.preparation_models.training import CHECKPOINT, train_network

MODEL = "localizer.xml"
_STEPS_PER_CHECKPOINT = 50


@dataclass(frozen=True)
class Settings:
    """The settings of a training beside its pictures: arguments of ``train-localizer``.

    The learning rate is AdamW's highest one; it rises for a tenth of the steps, then falls. Without ``weights``, a
    state dict to start from, the network starts at random.
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
    """The performance of the exported detector on the held-out pictures.

    Attributes:
        pictures: Their number.
        right_counts: Number of pictures on which it finds as many hands as are labelled.
        iou: Mean intersection over union of each labelled hand with the box that fits it best; NaN without any.
    """

    pictures: int
    right_counts: int
    iou: float


def build_localizer(classes: int, weights: Path | None = None) -> SSD:
    """SSDLite 320 with MobileNetV3-Large (arXiv 1905.02244), which has 2.2 million parameters, in training mode.

    It draws its first weights from torch's global generator. ``classes`` do not count the background. ``weights`` is a
    state dict of the same architecture to start from, of torchvision's COCO weights or of an earlier training;
    parameters of another number of classes start at random.
    """
    network: SSD = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=classes + 1)
    if weights is not None:
        _start_from(network, weights)
    return network


def _start_from(network: SSD, path: Path) -> None:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        given: dict[str, torch.Tensor] = content.get("network", content)
        own = network.state_dict()
        fitting = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    except Exception as error:  # torch raises about anything for damaged files
        raise XrayError(f"{path} holds no weights that can be read safely: give a state dict of torch.") from error
    if not any(name.startswith("backbone.") for name in fitting):
        raise XrayError(f"{path} holds weights of another network: give those of ssdlite320_mobilenet_v3_large.")
    network.load_state_dict(fitting, strict=False)


class Candidates(nn.Module):
    """The network, in eval mode, without the choice among its boxes: all shapes are fixed, without a branch."""

    anchors: torch.Tensor

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.network = network
        image = torch.zeros(1, 3, SIDE, SIDE)
        features = list(network.backbone(image).values())
        (anchors,) = network.anchor_generator(ImageList(image, [(SIDE, SIDE)]), features)
        self.register_buffer("anchors", anchors)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (K, 4) as x0, y0, x1, y1, and the score of each class in each, (K, C), in (1, 3, 320, 320)."""
        answers = self.network.head(list(self.network.backbone(2 * image - 1).values()))
        boxes = self.network.box_coder.decode_single(answers["bbox_regression"][0], self.anchors)
        scores = torch.softmax(answers["cls_logits"][0], dim=-1)[:, 1:]
        return boxes.clamp(0, SIDE), scores


def export_localizer(network: SSD, path: Path) -> None:
    """Write the network, in eval mode, as OpenVINO IR with the inputs and outputs of :class:`Candidates`."""
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

    silence_telemetry()
    example = torch.zeros(1, 3, SIDE, SIDE)
    # OpenVINO still traces with what torch calls deprecated; all shapes are fixed, so that tracing is safe.
    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
        model = openvino.convert_model(Candidates(network), example_input=example, input=list(example.shape))
    # Full precision, because halves move boxes by pixels.
    openvino.save_model(model, path, compress_to_fp16=False)


def train(images: Path, boxes: Path, out: Path, settings: Settings) -> Performance:
    """Train the network, or go on where an earlier run with the same settings stopped; export and measure it.

    Args:
        images: Folder of the pictures.
        boxes: Input of :func:`anomalib_xray.preparation_models.localizer_data.read_boxes`.
        out: Folder for the checkpoint and the model :data:`MODEL`, with its .bin and its .json.
        settings: Settings of the training.
    """
    pictures = read_boxes(boxes)
    classes = _classes(pictures, settings, boxes)
    learned, held_out = _split(load_examples(images, pictures, classes), settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_localizer(len(classes), settings.weights)
    _optimise(network, learned, settings, sorted(pictures), out / CHECKPOINT)
    export_localizer(network, out / MODEL)
    hands = tuple(name for name in classes if name in settings.hand_classes)
    description = Description(classes, hands, settings.threshold)
    write_atomically((out / MODEL).with_suffix(".json"), description.to_json())
    return measure(Detector(out / MODEL), held_out, [classes.index(name) for name in hands])


def measure(detector: Detector, examples: Sequence[Example], hands: Sequence[int]) -> Performance:
    """Compare a detector's boxes with the labelled ones; ``hands`` are positions in the list of all classes."""
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

    def loss_at(step: int) -> torch.Tensor:
        images, targets = draw_batch(examples, np.random.default_rng([settings.seed, step]), settings.batch_size)
        losses: dict[str, torch.Tensor] = network(images, targets)
        return losses["bbox_regression"] + losses["classification"]

    train_network(
        network,
        lambda: loss_at,
        torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=settings.steps + 1, pct_start=0.1
        ),
        steps=settings.steps,
        checkpoint=checkpoint,
        every=_STEPS_PER_CHECKPOINT,
        settings={**asdict(settings), "weights": str(settings.weights), "pictures": pictures},
    )
