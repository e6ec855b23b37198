from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.backbone import Backbone


def randomised(network: nn.Module) -> dict[str, Tensor]:
    """A state dict without two equal tensors, so that a mix-up shows."""
    generator = torch.Generator().manual_seed(3)
    state = network.state_dict()
    return {
        name: torch.rand(value.shape, generator=generator) + 0.1 if value.is_floating_point() else value
        for name, value in state.items()
    }


@pytest.fixture(scope="module")
def resnet() -> dict[str, Tensor]:
    return randomised(timm.create_model("resnet18", pretrained=False))


@pytest.mark.parametrize("side", [64, 512])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_maps_have_the_channels_and_strides_that_it_names(name: str, side: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        backbone = Backbone(name).eval()
        maps = backbone(torch.empty(2, 1, side, side))
    assert backbone.strides == [4, 8, 16]
    sides = [side // stride for stride in backbone.strides]
    assert [tuple(m.shape) for m in maps] == [(2, c, s, s) for c, s in zip(backbone.channels, sides, strict=True)]


def test_channels_of_resnet_are_the_published_ones() -> None:
    with torch.device("meta"):
        assert Backbone("resnet18", (1, 2, 3)).channels == [64, 128, 256]
        assert Backbone("wide_resnet50_2", (2, 4)).channels == [512, 2048]


def test_gives_what_the_whole_network_computes_on_three_normalised_channels(
    resnet: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(resnet, tmp_path / "weights.safetensors")
    backbone = Backbone("resnet18", (1, 4)).eval()
    backbone.load_weights(tmp_path / "weights.safetensors")
    whole = timm.create_model("resnet18", pretrained=False).eval()
    whole.load_state_dict(resnet)
    image = torch.rand(2, 1, 64, 64)

    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    colours = (image.numpy() - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        expected = whole.forward_features(torch.from_numpy(colours).float())
        torch.testing.assert_close(backbone(image)[-1], expected)
        torch.testing.assert_close(backbone.pooled(image), expected.mean((2, 3)))


def test_network_with_statistics_of_its_own_is_given_those() -> None:
    torch.testing.assert_close(Backbone("tf_efficientnet_lite0", (1,)).mean.flatten(), torch.full((3,), 0.5))


@pytest.mark.parametrize("prefix", ["", "module.", "model.feature_extractor."])
@pytest.mark.parametrize("nested", [None, "state_dict", "model"])
def test_weights_are_found_under_names_of_wrappers(
    resnet: dict[str, Tensor], tmp_path: Path, prefix: str, nested: str | None
) -> None:
    state = {prefix + name: value for name, value in resnet.items()} | {"head.bias": torch.zeros(3)}
    torch.save(state if nested is None else {nested: state, "epoch": 3}, tmp_path / "weights.pth")
    backbone = Backbone()
    backbone.load_weights(tmp_path / "weights.pth")
    for name, value in backbone.network.state_dict().items():
        torch.testing.assert_close(value, resnet[name])


@pytest.mark.parametrize(("name", "layers"), [("convnext_atto", (0, 1)), ("efficientnet_lite0", (1, 2))])
def test_weights_of_networks_with_other_names_of_parts_are_found(
    name: str, layers: tuple[int, ...], tmp_path: Path
) -> None:
    whole = timm.create_model(name, pretrained=False).eval()
    state = randomised(whole)
    torch.save(state, tmp_path / "weights.pth")
    backbone = Backbone(name, layers)
    backbone.load_weights(tmp_path / "weights.pth")
    for own, value in backbone.network.state_dict().items():
        # the first parts of ConvNeXt are "stem.0" in the file and "stem_0" here
        expected = next(given for key, given in state.items() if key.replace(".", "_") == own.replace(".", "_"))
        torch.testing.assert_close(value, expected)


def test_weights_of_another_library_are_taken_in_order(resnet: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({f"_tensor_{number}": value for number, value in enumerate(resnet.values())}, tmp_path / "weights.pt")
    backbone = Backbone()
    with pytest.raises(XrayError, match="resnet18"):  # its counters of batches cannot be told from weights
        backbone.load_weights(tmp_path / "weights.pt")

    others = {"_" + name: value for name, value in resnet.items()}
    torch.save(others, tmp_path / "weights.pt")
    backbone.load_weights(tmp_path / "weights.pt")
    for name, value in backbone.network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, resnet[name])


@pytest.mark.parametrize("other", ["resnet34", "resnet50", "efficientnet_lite0"])
def test_weights_of_another_network_are_refused(other: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(other, pretrained=False).state_dict(), tmp_path / "other.pth")
    backbone = Backbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(XrayError, match=r"other\.pth does not hold the weights of resnet18"):
        backbone.load_weights(tmp_path / "other.pth")
    for name, value in backbone.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_weights_of_a_deeper_network_are_refused_where_all_shapes_fit(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet34", pretrained=False).state_dict(), tmp_path / "other.pth")
    with pytest.raises(XrayError, match=r"other\.pth does not hold"):
        Backbone("resnet18", (1,)).load_weights(tmp_path / "other.pth")


def test_missing_damaged_and_executable_files_are_refused(tmp_path: Path) -> None:
    backbone = Backbone()
    with pytest.raises(XrayError, match=r"nothing\.pth is missing"):
        backbone.load_weights(tmp_path / "nothing.pth")
    for name in ("damaged.pth", "damaged.safetensors"):
        (tmp_path / name).write_bytes(b"no weights at all")
        with pytest.raises(XrayError, match=f"{name} cannot be read"):
            backbone.load_weights(tmp_path / name)
    torch.save(nn.Linear(2, 2), tmp_path / "pickled.pth")
    with pytest.raises(XrayError, match=r"pickled\.pth cannot be read"):
        backbone.load_weights(tmp_path / "pickled.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(XrayError, match=r"list\.pth does not hold"):
        backbone.load_weights(tmp_path / "list.pth")


@pytest.mark.parametrize("name", ["resnet81", "hf_hub:timm/resnet18"])
def test_unknown_networks_are_refused(name: str) -> None:
    with pytest.raises(XrayError, match="timm has no network of this name; choose"):
        Backbone(name)


@pytest.mark.parametrize("layers", [(), (7,), (2, 1), (1, 1), (-1,)])
def test_impossible_layers_are_refused(layers: tuple[int, ...]) -> None:
    with pytest.raises(XrayError, match="layers"):
        Backbone("resnet18", layers)


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0"])
def test_exported_network_answers_as_torch_does(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    backbone = Backbone(name, (1, 2)).eval()
    image = torch.rand(1, 1, 64, 64)
    torch.onnx.export(backbone, (image,), tmp_path / "backbone.onnx", opset_version=18, dynamo=True, verbose=False)
    exported = openvino.compile_model(tmp_path / "backbone.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        expected = backbone(image)
    answers = exported(image.numpy())
    for index, value in enumerate(expected):
        scale = float(value.abs().max())
        np.testing.assert_allclose(answers[index] / scale, value.numpy() / scale, atol=1e-4)
