"""The pre-processor of every model here, in training and when exported."""

from __future__ import annotations

from typing import Any

import torch
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Compose

from anomalib_xray.transforms.foreground import ImageTransform
from anomalib_xray.transforms.geometry import Padding, PadResize
from anomalib_xray.transforms.grey_levels import EqualizeForeground, MinMax


class XrayPreProcessor(PreProcessor):
    """Pads and resizes, equalises where asked, and scales to [0, 1], in this order.

    Takes float images (N, 3, H, W) in [0, 1] with background 0 and gives (N, 3, S, S) with three equal channels,
    background exactly 0 and foreground in [1/255, 1]. Masks follow the geometry. Every stage and the exported graph use
    the same transform.

    Args:
        image_size: Side S of the square that the network sees, in pixels.
        equalize: Equalise the histogram of the foreground.
        padding: Place of the padding: ``centred``, or ``uniform`` for all of it at the bottom or right.

    Attributes:
        geometry: The padding and resizing alone; a data module applies it per image, because a batch needs one size.

    Raises:
        XrayError: ``image_size`` is less than 1, or the padding is unknown.

    Example:
        >>> XrayPreProcessor(image_size=64).transform(torch.rand(2, 3, 100, 50)).shape
        torch.Size([2, 3, 64, 64])
    """

    def __init__(self, image_size: int = 256, equalize: bool = False, padding: Padding = "centred") -> None:
        super().__init__()
        self._configure(image_size, equalize, padding)

    def _configure(self, image_size: int, equalize: bool, padding: Padding = "centred") -> None:
        self.image_size = image_size
        self.equalize = equalize
        self.geometry = PadResize(image_size, padding)
        grey_levels = [EqualizeForeground(), MinMax()] if equalize else [MinMax()]
        self.transform = Compose([OneChannel(), self.geometry, *grey_levels, ThreeChannels()])
        # anomalib would export a changed copy; this transform exports as it is.
        self.export_transform = self.transform

    def checkpoint_config(self) -> dict[str, Any]:
        """Settings to store in a checkpoint; anomalib would drop transforms that it does not know."""
        return {"image_size": self.image_size, "equalize": self.equalize, "padding": self.geometry.padding}

    def load_checkpoint_config(self, config: dict[str, Any]) -> None:
        """Restores the settings that :meth:`checkpoint_config` gave."""
        self._configure(**config)


def padding_of(model: object) -> Padding:
    """Padding that a model's pre-processor applies: ``centred`` unless it is ours and says otherwise."""
    geometry = getattr(getattr(model, "pre_processor", None), "geometry", None)
    return geometry.padding if isinstance(geometry, PadResize) else "centred"


class OneChannel(ImageTransform):
    """Reduces the equal channels of an image (..., C, H, W) to one, so that the work is done once."""

    def transform_image(self, image: torch.Tensor) -> torch.Tensor:
        """Gives (..., 1, H, W)."""
        # Exact for equal channels, unlike the mean; for a coloured image, what any channel shows remains foreground.
        return image.amax(dim=-3, keepdim=True)


class ThreeChannels(ImageTransform):
    """Repeats the one channel of an image (..., 1, H, W), as anomalib expects at its boundary."""

    def transform_image(self, image: torch.Tensor) -> torch.Tensor:
        """Gives (..., 3, H, W)."""
        return torch.cat([image, image, image], dim=-3)
