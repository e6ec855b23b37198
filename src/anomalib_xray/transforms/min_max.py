"""Scaling of every radiograph to the full range."""

from __future__ import annotations

import torch

from anomalib_xray.transforms.foreground import GREY_LEVEL, ImageTransform, check_float, keep_foreground


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
        XrayError: the image is not float32 or float64.
    """
    check_float(image)
    low = image.amin(dim=(-2, -1), keepdim=True)
    high = image.amax(dim=(-2, -1), keepdim=True)
    # Less than one grey level between darkest and brightest is rounding noise; it must not be blown up to a picture.
    span = (high - low).clamp(min=GREY_LEVEL)
    return keep_foreground((image - low) / span, image > 0)


class MinMax(ImageTransform):
    """:func:`min_max` as a transform for images (..., H, W); masks pass unchanged."""

    def transform_image(self, image: torch.Tensor) -> torch.Tensor:
        """Scales every picture (..., H, W) to the full range."""
        return min_max(image)
