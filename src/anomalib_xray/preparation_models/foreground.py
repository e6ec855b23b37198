"""The network that tells limbs from background: a small U-Net, trained on phantoms and drawn masks, and exported."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that torch's own documentation uses

from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.networks import unet as networks
from anomalib_xray.preparation.networks import Network, fit, unfit
from anomalib_xray.preparation.segmentation import limbs, snapped
from anomalib_xray.preparation.step import Mask
from anomalib_xray.preparation_models.foreground_scenes import (
    SIDE,
    Scene,
    cropped,
    draw_example,
    read_scenes,
    render_scenes,
)
from anomalib_xray.preparation_models.training import CHECKPOINT, LossAt, export_network, train_network, warm_schedule

MODEL = "foreground_unet.xml"
_CHANNELS = (8, 16, 32, 48, 64)
_SURROUNDINGS = 16  # side of the squares in which the picture is standardised again
_FAINT = 0.02  # contrast, in standard deviations of the picture, below which there is nothing to see
_HELD_OUT = 40
_STEPS_PER_CHECKPOINT = 100


@dataclass(frozen=True)
class Settings:
    """The settings of a training: the arguments of ``train-foreground``.

    The learning rate is AdamW's highest one; it rises for a twentieth of the steps, then falls to 0.

    Attributes:
        radiographs: Folder of radiographs, some of which have a mask in the folder ``masks``; they are half of what is
            learned from. Phantoms alone without the two.
    """

    steps: int
    seed: int
    images: int
    batch_size: int
    learning_rate: float
    radiographs: Path | None = None
    masks: Path | None = None

    def __post_init__(self) -> None:
        if (self.radiographs is None) != (self.masks is None):
            raise XrayError("The folders radiographs and masks need each other: give both or neither.")
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and value <= 0 and not (name == "seed" and value == 0):
                raise XrayError(f"The training cannot use {name} {value}: give a number above 0.")


@dataclass(frozen=True)
class Agreement:
    """Mean intersection over union with the truth of held-out phantoms, of the network and of the exported model."""

    torch: float
    openvino: float


class UNet(networks.UNet):
    """U-Net with a quarter of a million parameters.

    The picture is standardised first, so that dim and bright films look alike, and a second time within its
    surroundings, so that faint skin is seen beside the white borders of a plate.
    """

    def __init__(self) -> None:
        super().__init__(inputs=2, outputs=1, channels=_CHANNELS)
        self.standardise = nn.InstanceNorm2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of being foreground, (N, 1, H, W), of the pixels of images in [0, 1] with sides of 16 n pixels."""
        whole = self.standardise(images)
        apart = whole - _blurred(whole)
        return super().forward(torch.cat([whole, apart / (_blurred(apart**2) + _FAINT**2).sqrt()], dim=1))


def _blurred(plane: torch.Tensor) -> torch.Tensor:
    """Means of 16 x 16 pixels, and what lies between them for the pixels in between."""
    means = F.avg_pool2d(plane, _SURROUNDINGS)
    return F.interpolate(means, scale_factor=float(_SURROUNDINGS), mode="bilinear", align_corners=False)


def train(out: Path, settings: Settings) -> Agreement:
    """Train the network, or go on where an earlier run with the same settings stopped; export and measure it.

    ``out`` gets the checkpoint and the model :data:`MODEL`, an OpenVINO IR with weights in half precision that goes
    from (1, 1, 192, 192) in [0, 1] to probabilities of the same shape.
    """
    network = train_unet(out / CHECKPOINT, settings)
    export(network, out / MODEL)
    held_out = [cropped(scene) for scene in render_scenes(range(_HELD_OUT), settings.seed, longest_side=512)]
    exported = Network(out / MODEL)
    return Agreement(
        torch=_mean_iou([_segment(network, scene) for scene in held_out], held_out),
        openvino=_mean_iou([exported.segment(scene.image) for scene in held_out], held_out),
    )


def train_unet(checkpoint: Path, settings: Settings) -> UNet:
    """Train the network, or go on where the run that left the checkpoint stopped; in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = UNet().to(memory_format=torch.channels_last)  # trains a third faster
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = warm_schedule(optimizer, settings.steps)

    def losses() -> LossAt:
        indices = range(_HELD_OUT, _HELD_OUT + settings.images)
        kinds = [list(track(render_scenes(indices, settings.seed), "Drawing phantoms", settings.images))]
        if settings.radiographs is not None and settings.masks is not None:
            kinds.append(read_scenes(settings.radiographs, settings.masks))

        def loss_at(step: int) -> torch.Tensor:
            rng = np.random.default_rng([settings.seed, step])
            chosen = [kinds[index % len(kinds)] for index in range(settings.batch_size)]
            scenes = [kind[rng.integers(len(kind))] for kind in chosen]
            pairs = zip(*(draw_example(scene, rng) for scene in scenes), strict=True)
            images, foreground = (torch.from_numpy(np.stack(planes)[:, None]) for planes in pairs)
            return segmentation_loss(network(images), foreground)

        return loss_at

    train_network(
        network,
        losses,
        schedule,
        steps=settings.steps,
        checkpoint=checkpoint,
        every=_STEPS_PER_CHECKPOINT,
        settings={
            name: value if isinstance(value, int | float) else str(value) for name, value in asdict(settings).items()
        },
    )
    return network


def export(network: UNet, path: Path) -> None:
    """Write the network, in eval mode and with a sigmoid behind it, as OpenVINO IR in half precision."""
    export_network(torch.nn.Sequential(network, torch.nn.Sigmoid()), (1, 1, SIDE, SIDE), path)


def segmentation_loss(logits: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy plus soft Dice loss (V-Net, arXiv 1606.04797), averaged over the batch (N, 1, H, W)."""
    probability = torch.sigmoid(logits)
    overlap = (probability * foreground).sum(dim=(1, 2, 3))
    total = probability.sum(dim=(1, 2, 3)) + foreground.sum(dim=(1, 2, 3))
    dice = (2 * overlap + 1) / (total + 1)  # the ones keep it defined, and perfect, for pictures without a hand
    return F.binary_cross_entropy_with_logits(logits, foreground) + 1 - dice.mean()


def _segment(network: UNet, scene: Scene) -> Mask:
    with torch.inference_mode():
        logits = network(torch.from_numpy(fit(scene.image, (SIDE, SIDE)))[None, None])
    return snapped(limbs(unfit(logits[0, 0].numpy(), scene.image.shape)), scene.image)


def _mean_iou(masks: list[Mask], scenes: list[Scene]) -> float:
    overlaps = [
        (mask & scene.foreground).sum() / max(int((mask | scene.foreground).sum()), 1)
        for mask, scene in zip(masks, scenes, strict=True)
    ]
    return float(np.mean(overlaps))
