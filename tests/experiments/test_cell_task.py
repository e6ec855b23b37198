from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import anomalib.models
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.cell_task import _pre_processor, build_model, local_weights, run_cell
from anomalib_xray.experiments.configuration import trainer_arguments
from anomalib_xray.experiments.grid import Cell
from anomalib_xray.io.write import write_png
from anomalib_xray.jobs import Task
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


def test_what_timm_cannot_find_is_named_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Identity()

    def offline(*_: Any, pretrained: bool = False, **__: Any) -> nn.Module:
        if pretrained:
            raise OSError
        return network

    monkeypatch.setattr(timm, "create_model", offline)
    with local_weights(None):
        with pytest.raises(XrayError, match="no trained weights of resnet18; give a local file of them as weights"):
            timm.create_model("resnet18", pretrained=True)
        assert timm.create_model("resnet18") is network


LATEST: dict[str, tuple[str, dict[str, Any]]] = {
    "MHPatchcore": ("test_resnet", {"backbone": "test_resnet", "layers": ["layer1", "layer2"]}),
    "Rad": ("test_vit", {"backbone": "test_vit", "layers": [1, 4]}),
    "AnomalyDINO": ("vit_small_patch14_dinov2", {"encoder_name": "vit_small_patch14_dinov2"}),
}


@pytest.fixture(scope="module")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("weights")

    def write(network: str) -> Path:
        path = folder / f"{network}.safetensors"
        if not path.exists():
            torch.manual_seed(0)
            save_file(timm.create_model(network, pretrained=False).state_dict(), path)
        return path

    return write


@pytest.mark.parametrize("model", ["MHPatchcore", "Rad", "Dinomaly", "Padim"])
def test_models_of_anomalib_see_the_whole_picture_at_a_side(model: str) -> None:
    framed = torch.zeros(1, 3, 400, 400)
    framed[..., :20] = 1
    seen = _pre_processor(getattr(anomalib.models, model), 56).transform(framed)
    assert seen.shape == (1, 3, 56, 56)
    assert seen[..., 0].min() > seen[..., -1].max()


def test_dinomaly_takes_local_weights_without_a_network(
    weights_of: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked for a server"))
    network = "vit_small_patch14_dinov2"
    path = weights_of(network)
    # Its training, of a decoder of 14 million weights, would take longer than all others here.
    model: Any = build_model(cell("anomalib.models.Dinomaly", {"encoder_name": network}, weights=str(path)))
    found = model.model.encoder.feature_extractor.state_dict()
    torch.testing.assert_close(found["blocks.9.mlp.fc1.weight"], load_file(path)["blocks.9.mlp.fc1.weight"])


@pytest.mark.parametrize("model", LATEST)
def test_the_latest_models_of_anomalib_run_on_local_weights_without_a_network(
    model: str, weights_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked for a server"))
    network, init_args = LATEST[model]
    random = np.random.default_rng(0)
    rows = ["image_path,label,patient,split"]
    for split, labels in {"train": [0] * 4, "val": [0], "test": [0, 1]}.items():
        for number, label in enumerate(labels):
            write_png(tmp_path / f"{split}{number}.png", random.integers(1, 255, (40, 30), dtype=np.uint8))
            rows.append(f"{split}{number}.png,{label},{split}{number},{split}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    data = {"table": str(tmp_path / "table.csv"), "num_workers": 0}
    one = cell(
        f"anomalib.models.{model}",
        init_args,
        data_config={"class_path": "anomalib_xray.data.Radiographs", "init_args": data},
        trainer={"max_epochs": 1, "accelerator": "cpu"},
        image_size=28 if network.startswith("vit") else 32,
        weights=str(weights_of(network)),
    )
    run_cell(Task(tmp_path, asdict(one)))
    scores = pd.read_csv(tmp_path / "scores.csv")["pred_score"]
    assert len(scores) == 2
    assert np.isfinite(scores).all()
    assert scores.nunique() == 2


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
