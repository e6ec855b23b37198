"""Padding to a square and resizing, for images and their masks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, cast, get_args

import torch
from torch.nn import functional
from torchvision import tv_tensors
from torchvision.transforms.v2 import Transform

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms.foreground import GREY_LEVEL, call_on_plain, check_float, is_plain_tensor

Padding = Literal["centred", "uniform"]
"""Place of a picture in the padded square: in its centre, or at the top left with all padding at bottom or right."""

FAINTEST = 0.499 * GREY_LEVEL
"""Resampled values below this become background, as rounding to 8 bit would do. It is not exactly half a grey level
because halving the size often yields exact halves, which torch and OpenVINO may round differently."""

_COVERED = 0.1
"""Share of a pixel from which on an anomaly covers it. It is well below one half, since a fracture line a few pixels
thin must not vanish from a mask of 64 x 64."""


def square_pad(image: torch.Tensor, padding: Padding = "centred") -> torch.Tensor:
    """Pads an image (..., H, W) of any dtype with 0 to a square, an odd remainder at the bottom or right.

    Example:
        >>> square_pad(torch.ones(1, 4)).sum(1)
        tensor([0., 4., 0., 0.])
    """
    height, width = image.shape[-2:]
    side = _longer(height, width)
    top, left = _corner(side, height, padding), _corner(side, width, padding)
    return functional.pad(image, (left, side - width - left, top, side - height - top))


def pad_resize(image: torch.Tensor, size: int, padding: Padding = "centred") -> torch.Tensor:
    """Pads to a square as :func:`square_pad` and resizes to ``size`` with an antialiased bilinear filter.

    Enlarging equals OpenCV's ``INTER_LINEAR``; shrinking equals Pillow's and torch's antialiased bilinear filter. It is
    written as two matrix products because the antialiased filter of torch cannot be exported.

    Args:
        image: float32 or float64 (..., H, W) in [0, 1], background exactly 0. Leading dimensions are separate pictures.
        size: Side of the result in pixels.
        padding: Place of the picture in the square.

    Returns:
        (..., size, size), same dtype; foreground at least 1/255, background 0. An image of that size is not changed.

    Raises:
        XrayError: The image is not float32 or float64.
    """
    check_float(image)
    return _without_faint(_resample(image, size, padding))


def pad_resize_mask(mask: torch.Tensor, size: int, padding: Padding = "centred") -> torch.Tensor:
    """Pads and resizes a mask of anomalies exactly as :func:`pad_resize` does its image.

    Args:
        mask: (..., H, W) of any dtype, anomalous where not 0.
        size: As in :func:`pad_resize`.
        padding: As in :func:`pad_resize`.

    Returns:
        (..., size, size), same dtype: 1 where the anomaly covers more than a tenth of the pixel, else 0.
    """
    return (_resample((mask != 0).float(), size, padding) > _COVERED).to(mask.dtype)


def shrink(image: torch.Tensor, side: int) -> torch.Tensor:
    """Reduces an image to a longer side of ``side`` pixels by the filter of :func:`pad_resize`; never enlarges.

    Args:
        image: float32 or float64 (..., H, W) in [0, 1], background exactly 0.
        side: Largest height and width of the result in pixels.

    Returns:
        (..., h, w), same dtype and aspect; foreground at least 1/255, background 0.

    Example:
        >>> shrink(torch.ones(1, 100, 50), 20).shape
        torch.Size([1, 20, 10])
    """
    height, width = image.shape[-2:]
    if max(height, width) <= side:
        return image
    rows, columns = (
        _weights(length, max(1, round(length * side / max(height, width))), image) for length in (height, width)
    )
    return _without_faint(rows @ image @ columns.T)


def shrink_mask(mask: torch.Tensor, side: int) -> torch.Tensor:
    """Reduces a mask of anomalies (..., H, W) exactly as :func:`shrink` does its image; gives 0 and 1, same dtype."""
    return (shrink((mask != 0).float(), side) > _COVERED).to(mask.dtype)


def _without_faint(resized: torch.Tensor) -> torch.Tensor:
    return torch.where(resized < FAINTEST, torch.zeros_like(resized), resized.clamp(min=GREY_LEVEL))


def _longer(one: int, other: int) -> int:
    """The larger of two lengths; the built-in ``max`` cannot compare those of a traced graph."""
    return cast("int", torch.sym_max(one, other))


def _corner(side: int, length: int, padding: Padding) -> int:
    """Padding before the content along one axis."""
    return 0 if padding == "uniform" else (side - length) // 2


def _resample(image: torch.Tensor, size: int, padding: Padding) -> torch.Tensor:
    height, width = image.shape[-2:]
    # The products below would give the same image back, at a cost. A traced graph has no size yet to ask for.
    if not torch.compiler.is_compiling() and (height, width) == (size, size):
        return image
    side = _longer(height, width)
    weights = _weights(side, size, image)
    top, left = _corner(side, height, padding), _corner(side, width, padding)
    # Padding is 0 and adds nothing: leaving out its columns replaces padding the image.
    rows, columns = weights[:, top : top + height], weights[:, left : left + width]
    return rows @ image @ columns.T


_LARGEST_KEPT = 2**17
"""Weights that are kept at most: half a MiB of float32, so that all that are kept take no more than 64 MiB."""


def _weights(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """:func:`_triangle_weights`, made once for pictures of one size."""
    if torch.compiler.is_compiling() or length * size > _LARGEST_KEPT:
        return _triangle_weights(length, size, like)
    return _kept_weights(length, size, like.dtype, like.device)


@lru_cache(maxsize=128)
def _kept_weights(length: int, size: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    with torch.inference_mode(False):  # or no later call could have a gradient
        return _triangle_weights(length, size, torch.empty(0, dtype=dtype, device=device))


def _triangle_weights(length: int, size: int, like: torch.Tensor) -> torch.Tensor:
    """Weights (size, length) with which ``length`` pixels make each of ``size`` pixels; every row sums to 1.

    Pixel centres are (j + 1/2) / length and (i + 1/2) / size. Multiplied by 2 * length * size they are whole numbers,
    so that the distances are exact.
    """
    source = (2 * torch.arange(length, device=like.device) + 1) * size
    target = (2 * torch.arange(size, device=like.device) + 1) * length
    reach = 2 * _longer(length, size)
    triangle = (reach - (source - target[:, None]).abs()).clamp(min=0)
    return triangle.to(like.dtype) / triangle.sum(dim=1, keepdim=True).to(like.dtype)


class GeometricTransform(Transform):  # type: ignore[misc]  # torchvision has no types
    """A transform that moves images (..., H, W) and their masks (..., H, W) alike.

    Masks must be ``torchvision.tv_tensors.Mask``: torchvision leaves every plain tensor after the first as it is.
    """

    def check_inputs(self, flat_inputs: list[Any]) -> None:
        """Refuses a mask that would silently keep its old size."""
        tensors = [value for value in flat_inputs if isinstance(value, torch.Tensor) and value.ndim > 1]
        if any(is_plain_tensor(other) and other.shape[-2:] == tensors[0].shape[-2:] for other in tensors[1:]):
            raise XrayError(
                "A mask came as a plain tensor and would keep its old size; wrap it in torchvision.tv_tensors.Mask."
            )


class SquarePad(GeometricTransform):
    """:func:`square_pad` as a transform.

    >>> SquarePad()(torch.rand(3, 100, 50)).shape
    torch.Size([3, 100, 100])
    """

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:  # noqa: ARG002  # torchvision's
        """Pads one image or mask."""
        return call_on_plain(square_pad, inpt)


class PadResize(GeometricTransform):
    """:func:`pad_resize` and :func:`pad_resize_mask` as a transform; a mask keeps its dtype.

    Args:
        size: Side of the result in pixels.
        padding: ``centred``, or ``uniform`` for all of it at the bottom or right.

    Raises:
        XrayError: ``size`` is less than 1, or the padding is unknown.

    Example:
        >>> PadResize(64)(torch.rand(3, 100, 50)).shape
        torch.Size([3, 64, 64])
    """

    def __init__(self, size: int, padding: Padding = "centred") -> None:
        super().__init__()
        if padding not in get_args(Padding):
            raise XrayError(f"There is no padding {padding!r}; choose one of {', '.join(get_args(Padding))}.")
        if size < 1:
            raise XrayError(f"The image size is {size}; it must be at least 1 pixel.")
        self.size = size
        self.padding: Padding = padding

    def transform(self, inpt: torch.Tensor, params: dict[str, Any]) -> torch.Tensor:  # noqa: ARG002  # torchvision's
        """Pads and resizes one image or mask."""
        resize = pad_resize_mask if isinstance(inpt, tv_tensors.Mask) else pad_resize
        return call_on_plain(lambda image: resize(image, self.size, self.padding), inpt)
