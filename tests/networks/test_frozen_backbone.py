from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.backbone import Backbone
from anomalib_xray.networks.frozen_backbone import FrozenBackbone, PerceptualError

NETWORK = "test_efficientnet"


@pytest.fixture
def pictures() -> tuple[torch.Tensor, torch.Tensor]:
    """Images with background at the top, and reconstructions."""
    generator = torch.Generator().manual_seed(0)
    image, reconstruction = torch.rand((2, 2, 1, 64, 64), generator=generator)
    image[:, :, :20] = 0
    return image, reconstruction


@pytest.mark.parametrize("network", [NETWORK, "test_vit"])
def test_loss_is_the_relative_difference_of_features(network: str, pictures: tuple[torch.Tensor, torch.Tensor]) -> None:
    error = PerceptualError(network, (0, 2), image_size=64)
    image, reconstruction = pictures
    seen = reconstruction * (image > 0)
    with torch.no_grad():
        layers = [[one.numpy() for one in error.backbone(picture)] for picture in (image, seen)]
    relative = [
        np.abs(feature - other).sum((1, 2, 3)) / np.abs(feature).sum((1, 2, 3))
        for feature, other in zip(*layers, strict=True)
    ]
    assert float(error.loss(reconstruction, image)) == pytest.approx(np.mean(relative), rel=1e-4)
    assert error(image, reconstruction).shape == image.shape
    assert float(error.loss(image, image)) == 0


@pytest.mark.parametrize("network", [NETWORK, "test_vit"])
def test_gradient_reaches_the_reconstructed_foreground_and_no_weight(
    network: str, pictures: tuple[torch.Tensor, torch.Tensor]
) -> None:
    error = PerceptualError(network, (1,), image_size=64).train()
    image, reconstruction = pictures
    reconstruction.requires_grad_()
    before = {name: value.clone() for name, value in error.state_dict().items()}
    error.loss(reconstruction, image).backward()
    assert reconstruction.grad is not None
    assert (reconstruction.grad[:, :, :20] == 0).all()
    assert (reconstruction.grad[:, :, 20:] != 0).any(-1).all()
    assert all(not weight.requires_grad for weight in error.parameters())
    # batch normalisation does not learn from what it sees either
    assert all(torch.equal(value, before[name]) for name, value in error.state_dict().items())
    assert not any(module.training for module in error.backbone.modules())


def test_random_weights_are_always_the_same_and_take_no_random_numbers() -> None:
    torch.manual_seed(1)
    first, drawn = FrozenBackbone(NETWORK).state_dict(), torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), drawn)
    second = FrozenBackbone(NETWORK).state_dict()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_random_weights_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    FrozenBackbone(NETWORK).prepare(None)
    assert f"The backbone {NETWORK} has random weights" in caplog.text


def test_weights_are_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "weights.pth"
    torch.manual_seed(5)
    stored = Backbone(NETWORK)
    torch.save(stored.network.state_dict(), file)
    frozen = FrozenBackbone(NETWORK)
    frozen.prepare(str(file))
    image = torch.rand(1, 1, 64, 64)
    for found, expected in zip(frozen(image), stored.eval()(image), strict=True):
        torch.testing.assert_close(found, expected)
    file.unlink()
    restored = FrozenBackbone(NETWORK)
    restored.load_state_dict(frozen.state_dict())
    restored.prepare(str(file))  # as after a checkpoint: the file is not needed
    assert torch.equal(restored(image)[0], frozen(image)[0])
    assert caplog.text == ""
    with pytest.raises(XrayError, match="weights"):
        FrozenBackbone(NETWORK).prepare(str(file))
