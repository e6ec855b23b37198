"""From a per-pixel error to an anomaly map."""

from __future__ import annotations

import torch
from anomalib.models.components import GaussianBlur2d
from torch import Tensor, nn


class SmoothedErrorMap(nn.Module):
    """Smooths a per-pixel error within the foreground.

    The smoothed error is divided by the smoothed foreground, so that pixels at the foreground's edge are not darkened
    by the background beside them.

    Args:
        sigma: Standard deviation of the Gaussian, in pixels of the network's input; 0 leaves the error as it is.
            (arXiv 2001.10883's code uses 5 at 512 pixels.)
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        self.blur = GaussianBlur2d(sigma=(sigma, sigma), channels=1) if sigma > 0 else nn.Identity()

    def forward(self, error: Tensor, mask: Tensor) -> Tensor:
        """Builds the map.

        Args:
            error: Error of each pixel, at least 0, ``(N, 1, H, W)``.
            mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.

        Returns:
            Anomaly map, at least 0 and exactly 0 outside the foreground, ``(N, H, W)``.
        """
        weight = self.blur(mask).clamp(min=torch.finfo(mask.dtype).eps)
        smoothed: Tensor = self.blur(error * mask) / weight * mask
        return smoothed.squeeze(1)
