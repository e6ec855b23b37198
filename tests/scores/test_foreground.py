from __future__ import annotations

import pytest
import torch

from anomalib_xray.scores import foreground


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_marks_every_pixel_above_0(dtype: torch.dtype) -> None:
    image = torch.tensor([[[[0, 1 / 255, 0.5], [1, 0, 1e-7]]]], dtype=dtype)
    mask = foreground(image)
    assert mask.dtype == dtype
    assert mask.tolist() == [[[[0, 1, 1], [1, 0, 1]]]]
