from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from torch import Tensor, nn
from torch.utils.data import DataLoader

from anomalib_xray.errors import XrayError
from anomalib_xray.models import AlphaGan, Bigan, Dcgan
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.networks.grad_cam import GRAD_CAM, feature_maps, grad_cam, grad_cam_map

SMALL: dict[str, Any] = {"image_size": 64, "width": 8, "latent_size": 16}
DCGAN: dict[str, Any] = {**SMALL, "width": 4, "discriminator_width": 4, "references": 64}
MODELS = [(AlphaGan, SMALL, "reconstruction"), (Bigan, SMALL, "reconstruction"), (Dcgan, DCGAN, "feature_distance")]


def radiographs(count: int) -> Tensor:
    """Noise with a background, ``(N, 3, 64, 64)``."""
    image = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count)) * 0.9 + 0.1
    image[..., :20] = 0
    return image.repeat(1, 3, 1, 1)


def with_attention(model: Any) -> Any:
    for layer in model.modules():
        if isinstance(layer, SelfAttention):
            nn.init.constant_(layer.gamma, 0.5)
    return model.eval()


def lively(model: Any, settings: dict[str, Any], images: Tensor) -> tuple[Any, Any]:
    """A model with its usual map and with Grad-CAM's, of a random discriminator to which something is unreal."""
    usual, chosen = (
        with_attention(model(**settings, **more)) for more in ({}, {"anomaly_map": GRAD_CAM, "map_sigma": 0.0})
    )
    for seed in range(20):
        torch.manual_seed(seed)
        for weight in chosen.model.discriminator.parameters():
            nn.init.normal_(weight, std=0.1)
        if bool((chosen.model(images).anomaly_map > 0).any()):
            break
    usual.load_state_dict(chosen.state_dict(), strict=False)  # but for the weights of the smoothing
    return usual, chosen


class Head(nn.Module):
    """Two convolutions, the second one to the logit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 3, 4, 2, 1), nn.LeakyReLU(0.1, inplace=True))
        self.head = nn.Conv2d(3, 1, 8)

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(image)).flatten()
        return logits


def test_map_is_that_of_the_formula() -> None:
    torch.manual_seed(0)
    network = Head()
    image = torch.randn(2, 1, 16, 16)
    found = grad_cam(network, network.body, image).numpy()
    features = network.body(image).detach().numpy()
    # The logit is linear in the features: its gradient is the weight of the last layer, at every place its own.
    weights = -network.head.weight.detach().numpy()[0].mean((1, 2))
    expected = np.maximum(np.einsum("c,nchw->nhw", weights, features), 0)
    assert (expected > 0).any()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5, atol=1e-7)


def test_a_layer_whose_output_is_changed_in_place_is_explained_as_it_was() -> None:
    torch.manual_seed(0)
    network = Head()
    image = torch.randn(1, 1, 16, 16)
    features = network.body[0](image).detach().numpy()
    slope = np.where(features > 0, 1, 0.1)
    weights = -(network.head.weight.detach().numpy() * slope).mean((2, 3), keepdims=True)
    expected = np.maximum((weights * features).sum(1), 0)
    np.testing.assert_allclose(grad_cam(network, network.body[0], image).numpy()[:, 0], expected, rtol=1e-4, atol=1e-7)


def test_what_lowers_the_logit_is_hot() -> None:
    layer = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(layer.weight)
    image = torch.zeros(1, 1, 8, 8)
    image[..., 2, 5] = 1
    heat = grad_cam(lambda pixels: -layer(pixels).sum((1, 2, 3)), layer, image)
    assert heat.argmax() == 2 * 8 + 5
    assert (grad_cam(lambda pixels: layer(pixels).sum((1, 2, 3)), layer, image) == 0).all()


def test_a_layer_that_says_nothing_is_refused() -> None:
    network = Head()
    image = torch.zeros(1, 1, 16, 16)
    with pytest.raises(XrayError, match="name another --layer"):
        grad_cam(network, nn.Conv2d(1, 1, 1), image)
    with pytest.raises(XrayError, match="does not depend on the chosen layer"):
        grad_cam(
            lambda pixels: network.body(pixels).sum((1, 2, 3)) * 0 + network(pixels * 0).detach(), network.head, image
        )


def test_layers_are_listed_in_the_order_of_their_use() -> None:
    network = Head()
    shapes = feature_maps(network, network, torch.zeros(1, 1, 16, 16))
    assert shapes == {"body.0": (3, 8, 8), "body.1": (3, 8, 8), "body": (3, 8, 8)}


@pytest.mark.parametrize(("model", "settings", "default"), MODELS)
def test_a_model_gives_the_map_of_its_setting(model: Any, settings: dict[str, Any], default: str) -> None:
    images = radiographs(3)
    usual, chosen = lively(model, settings, images)
    assert usual.hparams["anomaly_map"] == default
    with torch.inference_mode():
        expected, found = usual.model(images), chosen.model(images)
        alone = [chosen.model(image[None]).anomaly_map for image in images]
    assert not found.anomaly_map.requires_grad
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(torch.cat(alone), found.anomaly_map, rtol=1e-4, atol=1e-8)
    assert (found.anomaly_map[..., :20] == 0).all()
    assert (found.anomaly_map > 0).any()

    network = chosen.model
    layer = network.discriminator.levels[-1] if model is Dcgan else network.discriminator.trunk.levels[-1]
    heat = grad_cam_map(network.discriminator_logit, layer, 2 * images[:, :1] - 1)[:, 0]
    heat[..., :20] = 0
    torch.testing.assert_close(found.anomaly_map, heat, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("model", "settings", "default"), MODELS)
def test_a_model_with_such_a_map_is_not_exported(
    model: Any, settings: dict[str, Any], default: str, tmp_path: Path
) -> None:
    chosen = model(**settings, anomaly_map="grad_cam").eval()
    for export in (chosen.to_onnx, chosen.to_openvino):
        with pytest.raises(XrayError, match=f"{model.__name__} with anomaly_map: grad_cam is not exported"):
            export(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(XrayError, match=f"'heat'.*{default} and grad_cam"):
        model(**settings, anomaly_map="heat")


def test_works_where_lightning_records_no_gradient(tmp_path: Path) -> None:
    build: Any = AlphaGan
    model = with_attention(build(**SMALL, anomaly_map="grad_cam"))
    batch = ImageBatch(image=radiographs(2), gt_label=torch.tensor([0, 1]))
    engine = Engine(
        default_root_dir=tmp_path, accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, max_epochs=1
    )
    batches: Any = [batch]
    predictions: Any = engine.predict(model, DataLoader(batches, batch_size=None))
    (found,) = predictions
    assert found.anomaly_map.shape == (2, 64, 64)
    assert found.anomaly_map.isfinite().all()
