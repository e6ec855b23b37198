from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.models import AnomalibModule
from torch import nn

import anomalib_xray.models as plugins
from anomalib_xray.errors import XrayError
from anomalib_xray.models import LatentDetector
from anomalib_xray.networks.latent import HasLatent
from anomalib_xray.testing.base import Training, fit, normal_batch, prepared, score
from anomalib_xray_plugins.latent_detector.encoder import PluginEncoder

SMALL: dict[str, dict[str, Any]] = {
    "Cae": {"width": 4, "latent_channels": 3, "levels": 3},
    "Bae": {"width": 4, "latent_channels": 3, "levels": 3},
    "Vae": {"width": 4, "latent_size": 5},
    "Bigan": {"width": 8, "latent_size": 5, "ema_decay": 0.9},
    "AlphaGan": {"width": 8, "latent_size": 5},
    "FAnoGan": {"width": 4, "latent_size": 5},
    "MemAe": {"width": 4, "hidden": 16, "latent_size": 8},
}


def make(name: str, **settings: Any) -> AnomalibModule:
    model: AnomalibModule = getattr(plugins, name)(**{"image_size": 64, **SMALL.get(name, {}), **settings})
    return model.eval()


@pytest.fixture(scope="module")
def cae(tmp_path_factory: pytest.TempPathFactory) -> Training:
    """A small autoencoder and its checkpoint."""
    model = make("Cae").train()
    return fit(model, [normal_batch(prepared(model))], tmp_path_factory.mktemp("cae"))


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_codes_are_those_of_the_plugin_without_the_rest_of_its_network(name: str) -> None:
    model = make(name)
    image = torch.rand(2, 1, 64, 64)
    assert isinstance(model.model, HasLatent)
    expected = model.model.latent(image)
    assert expected.shape[:2] == (2, SMALL[name].get("latent_size", 3))
    size = sum(weight.numel() for weight in model.parameters())

    encoder = PluginEncoder(name, model.hparams, model.model)
    assert torch.equal(encoder(image)[0], expected)
    assert sum(weight.numel() for weight in encoder.parameters()) < 0.8 * size
    assert not any(weight.requires_grad for weight in encoder.parameters())
    assert not any(module.training for module in encoder.train().modules())

    again = PluginEncoder.of_description(encoder.description())
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(image)[0], expected)


@pytest.mark.parametrize("name", ["Cae", "AlphaGan", "FAnoGan"])
@torch.no_grad()
def test_codes_are_what_the_plugin_decodes(name: str) -> None:
    model: Any = make(name).model
    image = torch.rand(1, 1, 64, 64)
    decode = model.decoder if name == "Cae" else lambda code: (model.generator(code) + 1) / 2
    torch.testing.assert_close(decode(model.latent(image)), model.reconstruct(image))


def test_building_an_encoder_leaves_the_random_state() -> None:
    description = {"model_name": "Vae", "settings": {"image_size": 64, **SMALL["Vae"]}}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    PluginEncoder.of_description(description)
    assert torch.equal(torch.rand(3), expected)


def test_a_plugin_without_codes_is_refused() -> None:
    with pytest.raises(XrayError, match="Dcgan has no encoder"):
        PluginEncoder("Dcgan", {"image_size": 64}, nn.Linear(1, 1))
    with pytest.raises(XrayError, match="Gone"):
        PluginEncoder.of_description({"model_name": "Gone", "settings": {}})


@pytest.mark.parametrize(("setting", "value"), [("image_size", 128), ("equalize", True)])
def test_other_images_than_those_of_the_checkpoint_are_refused(cae: Training, setting: str, value: Any) -> None:
    with pytest.raises(XrayError, match=f"{setting} is {value}"):
        PluginEncoder.of_checkpoint(cae.checkpoint, **{"image_size": 64, "equalize": False, setting: value})


def test_its_own_checkpoint_holds_the_encoder(cae: Training, tmp_path: Path) -> None:
    copy = tmp_path / "cae.ckpt"
    copy.write_bytes(cae.checkpoint.read_bytes())
    model = LatentDetector(image_size=64, checkpoint=str(copy), pooling="places")
    images = prepared(model)
    found = fit(model, [normal_batch(images)], tmp_path)
    assert model.model.encoder is not None
    for name, value in model.model.encoder.network.state_dict().items():
        assert torch.equal(value, cae.model.model.state_dict()[name]), name
    copy.unlink()

    with torch.serialization.safe_globals(list(LatentDetector.checkpoint_safe_globals())):
        torch.load(found.checkpoint, weights_only=True)
    restored = LatentDetector.load_from_checkpoint(found.checkpoint, map_location="cpu").eval()
    expected = score(found.model, images + 0.1 * (images > 0))
    for name, value in score(restored, images + 0.1 * (images > 0)).scores.items():
        assert torch.equal(value, expected.scores[name]), name
        assert (value > 0).any(), name

    continued = fit(
        LatentDetector(image_size=64, checkpoint=str(copy), pooling="places"),
        [normal_batch(images)],
        tmp_path / "again",
        epochs=2,
        resume=found.checkpoint,
    )
    for name, value in score(continued.model, images).scores.items():
        assert value.isfinite().all(), name


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path) -> None:
    model = LatentDetector(image_size=64, checkpoint=str(tmp_path / "none.ckpt"))
    with pytest.raises(XrayError, match=r"none\.ckpt"):
        fit(model, [normal_batch(prepared(model))], tmp_path)
