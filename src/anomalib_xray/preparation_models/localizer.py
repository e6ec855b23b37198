"""The network that finds hands: SSDLite on MobileNetV3, as torchvision has it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD

from anomalib_xray.errors import XrayError

SIDE = 320
"""Height and width of the network's input in pixels."""


def build_localizer(classes: int, weights: Path | None = None) -> SSD:
    """SSDLite 320 with MobileNetV3-Large (arXiv 1905.02244), which has 2.2 million parameters.

    Args:
        classes: Number of classes without the background, at least 1.
        weights: A state dict of the same architecture to start from, of torchvision's COCO weights or of an earlier
            training; what depends on another number of classes starts at random. None starts all at random.

    Returns:
        The network, in training mode; it draws its first weights from torch's global generator.

    Raises:
        XrayError: ``weights`` cannot be read, or fits nowhere.
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
    """The network without choosing among its boxes, so that all shapes are fixed and the graph has no branches.

    Args:
        network: In eval mode.
    """

    anchors: torch.Tensor

    def __init__(self, network: SSD) -> None:
        super().__init__()
        self.network = network
        image = torch.zeros(1, 3, SIDE, SIDE)
        features = list(network.backbone(image).values())
        (anchors,) = network.anchor_generator(ImageList(image, [(SIDE, SIDE)]), features)
        self.register_buffer("anchors", anchors)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Finds boxes.

        Args:
            image: (1, 3, 320, 320) in [0, 1].

        Returns:
            Boxes (K, 4) as x0, y0, x1, y1 in pixels of the input, and the score of each class in each box, (K, C).
        """
        answers = self.network.head(list(self.network.backbone(2 * image - 1).values()))
        boxes = self.network.box_coder.decode_single(answers["bbox_regression"][0], self.anchors)
        scores = torch.softmax(answers["cls_logits"][0], dim=-1)[:, 1:]
        return boxes.clamp(0, SIDE), scores


def export_localizer(network: SSD, path: Path) -> None:
    """Writes the network as OpenVINO IR, with the inputs and outputs of :class:`Candidates`.

    Args:
        network: In eval mode.
        path: The ``.xml`` file; the ``.bin`` file is written beside it.
    """
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

    example = torch.zeros(1, 3, SIDE, SIDE)
    # OpenVINO still traces with what torch calls deprecated; all shapes are fixed, so that tracing is safe.
    with torch.inference_mode(), warnings.catch_warnings(action="ignore"):
        model = openvino.convert_model(Candidates(network), example_input=example, input=list(example.shape))
    # Full precision, because halves move boxes by pixels.
    openvino.save_model(model, path, compress_to_fp16=False)
