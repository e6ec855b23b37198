"""Base of the online transforms: the foreground inside the image, and the kinds of tensor they take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from anomalib_xray.errors import XrayError

GREY_LEVEL = 1 / 255
"""One step of an 8-bit radiograph: the smallest value that a foreground pixel may have."""


def keep_foreground(result: torch.Tensor, foreground: torch.Tensor) -> torch.Tensor:
    """Writes 0 into the background and clips the foreground to [1/255, 1].

    Args:
        result: Values of any range, any shape.
        foreground: bool, same shape.

    Example:
        >>> keep_foreground(torch.tensor([0.5, 0.5, 7.0]), torch.tensor([False, True, True]))
        tensor([0.0000, 0.5000, 1.0000])
    """
    return torch.where(foreground, result.clamp(GREY_LEVEL, 1.0), torch.zeros_like(result))


def is_plain_tensor(value: object) -> bool:
    """Whether a value is a tensor without a torchvision type; torchvision takes the first of these as the image."""
    return isinstance(value, torch.Tensor) and not isinstance(value, tv_tensors.TVTensor)


def check_float(image: torch.Tensor) -> None:
    """Refuses an image whose numbers are not float32 or float64.

    Raises:
        XrayError: whole numbers would be taken as [0, 1], and half precision cannot count the pixels of a grey level.
    """
    if image.dtype not in (torch.float32, torch.float64):
        raise XrayError(f"The image has dtype {image.dtype}; convert it to float32 in [0, 1] (to_dtype, scale=True).")


def call_on_plain(function: Callable[[torch.Tensor], torch.Tensor], value: torch.Tensor) -> torch.Tensor:
    """Calls a function on a tensor without its torchvision type and gives the result that type back."""
    # Only a real torchvision type is taken off and put on: doing it to a plain tensor breaks torch.export.
    if not isinstance(value, tv_tensors.TVTensor):
        return function(value)
    typed: torch.Tensor = tv_tensors.wrap(function(value.as_subclass(torch.Tensor)), like=value)
    return typed


class ImageTransform(Transform):  # type: ignore[misc]  # torchvision has no types
    """A transform of the grey levels alone: the first image of a sample changes, its masks pass unchanged."""

    _transformed_types = (tv_tensors.Image, is_plain_tensor)

    def transform_image(self, image: torch.Tensor) -> torch.Tensor:
        """Transforms a plain tensor (..., H, W)."""
        raise NotImplementedError

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:  # noqa: ARG002  # torchvision's
        """Called by torchvision for every input that :attr:`_transformed_types` names."""
        return call_on_plain(self.transform_image, inpt)
