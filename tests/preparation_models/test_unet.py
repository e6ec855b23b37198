from __future__ import annotations

import pytest
import torch

from anomalib_xray.preparation_models.unet import UNet


def test_it_has_at_most_300_000_parameters() -> None:
    assert sum(parameter.numel() for parameter in UNet().parameters()) <= 300_000


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 80)])
def test_every_pixel_gets_a_logit(height: int, width: int) -> None:
    assert UNet()(torch.rand(2, 1, height, width)).shape == (2, 1, height, width)


def test_brightness_and_contrast_do_not_matter() -> None:
    torch.manual_seed(0)
    network = UNet().eval()
    images = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(network(images), network(0.2 * images + 0.5), atol=1e-2, rtol=1e-2)


def test_a_constant_picture_gives_finite_logits() -> None:
    assert torch.isfinite(UNet().eval()(torch.zeros(1, 1, 32, 32))).all()
