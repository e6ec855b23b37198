"""Grey levels of the foreground: histogram equalisation, and scaling to the full range."""

from __future__ import annotations

import torch

from anomalib_xray.transforms.foreground import GREY_LEVEL, ImageTransform, check_float, keep_foreground

BINS = 256


def equalize(image: torch.Tensor) -> torch.Tensor:
    """Equalises the histogram of the foreground: a pixel becomes the share of foreground pixels not brighter than it.

    This is OpenCV's ``equalizeHist`` for an 8-bit picture that has background, without its rounding to whole grey
    levels. Grey levels between two bins count for both by their distance, and are looked up between both, so that every
    runtime gives the same answer.

    Args:
        image: float32 or float64 (..., H, W) in [0, 1], background exactly 0. Leading dimensions are separate pictures.

    Returns:
        Same shape and dtype; foreground in [1/255, 1], background 0. A picture without foreground stays 0.

    Raises:
        XrayError: The image is not float32 or float64.
    """
    check_float(image)
    foreground = image > 0
    level = (image * (BINS - 1)).clamp(1, BINS - 1).flatten(-2)
    lower = level.floor()
    upper_share = level - lower
    lower_bin = lower.long()
    upper_bin = (lower_bin + 1).clamp(max=BINS - 1)

    counted = foreground.flatten(-2).to(image.dtype)
    empty = image.new_zeros((*image.shape[:-2], BINS))
    histogram = empty.scatter_add(-1, lower_bin, counted * (1 - upper_share))
    histogram = histogram.scatter_add(-1, upper_bin, counted * upper_share)
    pixels = counted.sum(-1, keepdim=True).clamp(min=1)
    table = histogram.cumsum(-1) / pixels

    lower_value, upper_value = table.gather(-1, lower_bin), table.gather(-1, upper_bin)
    equalized = lower_value + (upper_value - lower_value) * upper_share
    return keep_foreground(equalized.reshape(image.shape), foreground)


class EqualizeForeground(ImageTransform):
    """:func:`equalize` as a transform for images (..., H, W); masks pass unchanged.

    >>> EqualizeForeground()(torch.tensor([[0.0, 0.2, 0.4, 0.8]]))
    tensor([[0.0000, 0.3333, 0.6667, 1.0000]])
    """

    transform_image = staticmethod(equalize)


def min_max(image: torch.Tensor) -> torch.Tensor:
    """Scales every picture to [0, 1] by the smallest and largest value of its whole frame.

    A picture that has background keeps its zero point. In one without background the darkest foreground pixel becomes
    one grey level instead of 0, so that it does not turn into background.

    Args:
        image: float32 or float64 (..., H, W), background exactly 0. Leading dimensions are separate pictures.

    Returns:
        Same shape and dtype; foreground in [1/255, 1], background 0. A picture of one value becomes one grey level all
        over, a picture of zeros stays as it is.

    Raises:
        XrayError: The image is not float32 or float64.
    """
    check_float(image)
    low = image.amin(dim=(-2, -1), keepdim=True)
    high = image.amax(dim=(-2, -1), keepdim=True)
    # Less than one grey level between darkest and brightest is rounding noise; it must not be blown up to a picture.
    span = (high - low).clamp(min=GREY_LEVEL)
    return keep_foreground((image - low) / span, image > 0)


class MinMax(ImageTransform):
    """:func:`min_max` as a transform for images (..., H, W); masks pass unchanged.

    >>> MinMax()(torch.tensor([[0.0, 0.2, 0.4]]))
    tensor([[0.0000, 0.5000, 1.0000]])
    """

    transform_image = staticmethod(min_max)
