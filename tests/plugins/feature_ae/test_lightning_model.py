from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.backbone import Backbone
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray_plugins.feature_ae import FeatureAe

CONFIGS = Path(__file__).parents[3] / "configs"
SMALL: dict[str, Any] = {
    "image_size": 64,
    "backbone": "test_efficientnet",
    "layers": [0, 1],
    "channels": [4],
    "latent_channels": 4,
}


def test_random_features_are_reported_and_a_checkpoint_holds_the_features_of_a_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [normal_batch(torch.rand(2, 3, 64, 64))]
    fit(FeatureAe(**SMALL), batches, tmp_path / "random")
    assert "test_efficientnet has random weights" in caplog.text
    file = tmp_path / "weights.pth"
    torch.manual_seed(9)
    stored = Backbone("test_efficientnet", [0, 1])
    torch.save(stored.network.state_dict(), file)
    trained = fit(FeatureAe(**SMALL, weights=str(file)), batches, tmp_path / "file")
    file.unlink()
    restored: Any = FeatureAe.load_from_checkpoint(trained.checkpoint, map_location="cpu")
    found = restored.model.features.backbone.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in stored.network.state_dict().items())
    fit(FeatureAe(**SMALL, weights=str(file)), batches, tmp_path / "on", epochs=2, resume=trained.checkpoint)


def test_only_the_autoencoder_is_trained() -> None:
    model: Any = FeatureAe(**SMALL, learning_rate=0.02, weight_decay=0.3)
    (group,) = model.configure_optimizers().param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    trained = {id(weight) for weight in group["params"]}
    backbone = {id(weight) for weight in model.model.features.parameters()}
    assert trained == {id(weight) for weight in model.model.parameters()} - backbone


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loss": "l1"}, "loss is 'l1'.*ssim, mse, cosine"),
        ({"channels": [4, 4, 4]}, "make 4 levels, but a feature map of 16 x 16 has room for 3"),
        ({"layers": [3], "channels": [4, 4]}, "make 3 levels, but a feature map of 4 x 4 has room for 1"),
        ({"backbone": "test_vit", "image_size": 224}, "make 2 levels, but a feature map of 14 x 14 has room for 1"),
        ({"backbone": "test_vit", "image_size": 518}, "image_size is 518, but test_vit looks at patches of 16 x 16"),
        ({"layers": [9]}, "layers"),
        ({"backbone": "no_such_network"}, "no_such_network"),
    ],
)
def test_refuses_what_it_does_not_have(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        FeatureAe(**{**SMALL, **setting})


@pytest.mark.parametrize("config", ["feature_ae.yaml", "paper/feature_ae.yaml"])
def test_shipped_configurations_build_the_model(config: str) -> None:
    FeatureAe(**yaml.safe_load((CONFIGS / config).read_text())["model"]["init_args"])


def test_features_of_a_transformer_are_reconstructed() -> None:
    model: Any = FeatureAe(**{**SMALL, "backbone": "test_vit", "layers": [2, 4], "image_size": 128})
    image = torch.rand(1, 1, 128, 128)
    features = model.model.features(image)
    assert features.shape == (1, 128, 8, 8)
    assert model.model.reconstruct(features).shape == features.shape
