from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.cell_task import build_model, local_weights
from anomalib_xray.experiments.configuration import trainer_arguments
from anomalib_xray.experiments.grid import Cell
from anomalib_xray.transforms.grey_levels import equalize


def cell(class_path: str, init_args: dict[str, Any], equalized: bool = False, **options: Any) -> Cell:
    settings = {"class_path": class_path, "init_args": init_args}
    return Cell("Model", "hands", "raw", equalized, 7, settings, **options)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_file(timm.create_model("resnet10t", pretrained=False).state_dict(), tmp_path / "weights.safetensors")
    return tmp_path / "weights.safetensors"


PADIM = {"backbone": "resnet10t", "layers": ["layer1"], "n_features": 8}


def test_models_of_anomalib_take_size_and_local_weights(weights: Path) -> None:
    model = build_model(cell("anomalib.models.Padim", PADIM, image_size=32, weights=str(weights)))
    extractor: Any = model.model
    found = extractor.feature_extractor.feature_extractor.state_dict()
    torch.manual_seed(0)
    expected = timm.create_model("resnet10t", pretrained=False).state_dict()
    torch.testing.assert_close(found["layer1.0.conv1.weight"], expected["layer1.0.conv1.weight"])
    assert model.pre_processor is not None
    assert model.pre_processor.transform(torch.zeros(1, 3, 50, 40)).shape == (1, 3, 32, 32)
    # Its metrics of pixels would refuse data without masks.
    assert model.evaluator is None


def test_models_of_anomalib_are_equalised_before_their_own_pre_processing() -> None:
    settings = {**PADIM, "pre_trained": False}
    plain = build_model(cell("anomalib.models.Padim", settings, image_size=32)).pre_processor
    first = build_model(cell("anomalib.models.Padim", settings, equalized=True, image_size=32)).pre_processor
    assert plain is not None
    assert first is not None
    image = torch.zeros(1, 3, 32, 32)
    image[..., 8:24, 8:24] = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) / 4 + 0.1
    torch.testing.assert_close(first.transform(image), plain.transform(equalize(image)))
    assert not torch.allclose(first.transform(image), plain.transform(image))


def test_models_of_this_project_take_seed_and_equalisation() -> None:
    settings = {"image_size": 64, "resolution": 16, "components": 2, "seed": 1}
    model: Any = build_model(cell("anomalib_xray.models.Nmf", settings, equalized=True))
    assert model.hparams["seed"] == 7
    assert model.pre_processor.equalize
    assert model.evaluator is not None


def test_weights_that_are_missing_or_of_another_network_are_named(weights: Path, tmp_path: Path) -> None:
    create = timm.create_model
    for path, message in (
        (tmp_path / "gone.pth", "gone.pth is missing"),
        (weights, "not hold the weights of resnet18"),
    ):
        with local_weights(str(path)), pytest.raises(XrayError, match=message):
            timm.create_model("resnet18", pretrained=True)
    with local_weights(str(weights)):
        assert timm.create_model("resnet18", pretrained=False) is not None
    assert timm.create_model is create


def test_callbacks_are_built_as_the_command_builds_them() -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    callback = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "val_normal_mean_mse", "mode": "min"},
    }
    arguments = trainer_arguments({"max_epochs": 3, "logger": True, "callbacks": [callback]})
    (built,) = arguments.pop("callbacks")
    assert isinstance(built, ModelCheckpoint)
    assert built.monitor == "val_normal_mean_mse"
    assert arguments == {"max_epochs": 3}
    assert trainer_arguments({}) == {"callbacks": []}
