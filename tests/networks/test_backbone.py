from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


SIDE = 64
"""Side of the images of the tests of vision transformers; four patches of test_vit along each side."""


def whole_vit(name: str = "test_vit", side: int = SIDE) -> Any:
    """A whole vision transformer of timm in evaluation, with weights that are not those of another one."""
    torch.manual_seed(4)
    network: Any = timm.create_model(name, pretrained=False, img_size=side, num_classes=0).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return network


def backbone_of(state: dict[str, Tensor], folder: Path, name: str = "test_vit", side: int = SIDE) -> Backbone:
    torch.save(state, folder / "weights.pth")
    backbone = Backbone(name, (1, 3), side).eval()
    backbone.load_weights(folder / "weights.pth")
    return backbone


def assert_same_maps(backbone: Backbone, network: Any, side: int = SIDE) -> None:
    image = torch.rand(2, 1, side, side, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = backbone(image)
        inputs = (image - backbone.mean) / backbone.std
        expected = network.forward_intermediates(inputs, [1, 3], norm=True, intermediates_only=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def to_hugging_face(state: dict[str, Tensor], dino: bool) -> dict[str, Tensor]:
    """Names of transformers' Dinov2Model, or those of its ViTModel and ViTMAEModel."""
    names = {
        "cls_token": "embeddings.cls_token",
        "pos_embed": "embeddings.position_embeddings",
        "reg_token": "embeddings.register_tokens",
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "norm": "layernorm",
        "attn.proj": "attention.output.dense",
        "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1",
    }
    if not dino:
        names |= {"norm1": "layernorm_before", "norm2": "layernorm_after"}
        names |= {"mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense"}
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        block, _, rest = name.removeprefix("blocks.").partition(".") if name.startswith("blocks.") else ("", "", name)
        outer = f"encoder.layer.{block}." if block else ""
        part, _, kind = rest.rpartition(".")
        if part == "attn.qkv":
            for third, projection in zip(value.chunk(3), ("query", "key", "value"), strict=True):
                renamed[f"{outer}attention.attention.{projection}.{kind}"] = third
        else:
            known = names.get(rest) or f"{names.get(part, part)}.{kind}"
            renamed[outer + known] = value
    return renamed


def test_transformer_gives_the_normalised_patches_of_its_blocks(tmp_path: Path) -> None:
    network = whole_vit()
    backbone = backbone_of(network.state_dict(), tmp_path)
    assert (backbone.channels, backbone.strides, backbone.side) == ([64, 64], [16, 16], SIDE)
    image = torch.rand(2, 1, SIDE, SIDE)
    # Block by block; the first token is that of the class.
    with torch.no_grad():
        patches = network.patch_embed.proj((image - backbone.mean) / backbone.std).flatten(2).transpose(1, 2)
        tokens = torch.cat([network.cls_token.expand(2, -1, -1), patches], 1) + network.pos_embed
        expected = []
        for number, block in enumerate(network.blocks[:4]):
            tokens = block(tokens)
            if number in (1, 3):
                expected.append(network.norm(tokens)[:, 1:].transpose(1, 2).reshape(2, 64, 4, 4))
        found = backbone(image)
        pooled = backbone.pooled(image)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(pooled, expected[-1].mean((2, 3)))
    assert_same_maps(backbone, network)


def test_blocks_after_the_last_layer_are_not_built() -> None:
    names = Backbone("test_vit", (1, 3), SIDE).network.state_dict()
    assert {name.split(".")[1] for name in names if name.startswith("blocks.")} == set("0123")


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "teacher.backbone."])
def test_transformers_are_found_under_names_of_wrappers(prefix: str, tmp_path: Path) -> None:
    network = whole_vit()
    state = {prefix + name: value for name, value in network.state_dict().items()}
    if prefix.startswith("teacher"):  # a file of its training holds the student, too
        state |= {name.replace("teacher", "student"): torch.zeros_like(value) for name, value in state.items()}
    assert_same_maps(backbone_of(state | {"head.bias": torch.zeros(3)}, tmp_path), network)


def test_checkpoint_of_dinov2_gives_its_teacher(tmp_path: Path) -> None:
    network = whole_vit()
    state: Any = {"teacher": {f"backbone.{name}": value for name, value in network.state_dict().items()}, "epoch": 1}
    assert_same_maps(backbone_of(state, tmp_path), network)


@pytest.mark.parametrize("prefix", ["", "vit.", "dinov2."])
@pytest.mark.parametrize("dino", [False, True])
def test_names_of_hugging_face_are_known(dino: bool, prefix: str, tmp_path: Path) -> None:
    network = whole_vit()
    state = to_hugging_face(network.state_dict(), dino)
    assert "encoder.layer.5.attention.attention.value.bias" in state
    state = {prefix + name: value for name, value in state.items()}
    extra = {"decoder.mask_token": torch.zeros(1, 1, 8), f"{prefix}embeddings.mask_token": torch.zeros(1, 64)}
    assert_same_maps(backbone_of(state | extra, tmp_path), network)


def test_mae_is_taken_with_its_decoder(tmp_path: Path) -> None:
    network = whole_vit()
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 17, 8)}
    decoder |= {"decoder_blocks.0.norm1.weight": torch.zeros(8), "decoder_embed.weight": torch.zeros(8, 64)}
    state: Any = {"model": {**network.state_dict(), **decoder}}
    assert_same_maps(backbone_of(state, tmp_path), network)


@pytest.mark.parametrize("hugging_face", [False, True])
def test_registers_of_dinov2_get_no_position(hugging_face: bool, tmp_path: Path) -> None:
    """Its own files have a position of the class token, which timm adds to the token."""
    name, side = "vit_small_patch14_reg4_dinov2", 28
    network = whole_vit(name, side)
    network.prune_intermediate_layers([3], prune_norm=False)
    state = network.state_dict()
    position = torch.randn(1, 1, 384)
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], 1)
    state["cls_token"] = state["cls_token"] - position
    if hugging_face:
        state = to_hugging_face(state, dino=True) | {"embeddings.mask_token": torch.zeros(1, 384)}
    else:
        state["register_tokens"] = state.pop("reg_token")
        state["mask_token"] = torch.zeros(1, 384)
    assert_same_maps(backbone_of(state, tmp_path, name, side), network, side)


@pytest.mark.parametrize("hugging_face", [False, True])
def test_names_of_dinov3_are_known(hugging_face: bool, tmp_path: Path) -> None:
    name, side = "vit_small_patch16_dinov3_qkvb", 32
    network = whole_vit(name, side)
    network.prune_intermediate_layers([3], prune_norm=False)
    state: dict[str, Tensor] = {}
    for own, value in network.state_dict().items():
        block, _, rest = own.partition(".attn.")
        number = block.removeprefix("blocks.")
        if not hugging_face and rest in ("q_bias", "v_bias"):
            bias = state.setdefault(f"{block}.attn.qkv.bias", torch.full((3 * 384,), 7.0))  # of keys: masked
            bias[slice(384) if rest == "q_bias" else slice(2 * 384, None)] = value
        elif rest == "qkv.weight" and hugging_face:
            for third, kind in zip(value.chunk(3), "qkv", strict=True):
                state[f"layer.{number}.attention.{kind}_proj.weight"] = third
        elif rest in ("q_bias", "v_bias"):
            state[f"layer.{number}.attention.{rest[0]}_proj.bias"] = value
        else:
            state[_dinov3_name(own, hugging_face)] = value
    state["embeddings.mask_token" if hugging_face else "mask_token"] = torch.zeros(1, 384)
    assert_same_maps(backbone_of(state, tmp_path, name, side), network, side)


def _dinov3_name(name: str, hugging_face: bool) -> str:
    if not hugging_face:
        return re.sub(r"gamma_(\d)", r"ls\1.gamma", name).replace("reg_token", "storage_tokens")
    names = {"reg_token": "embeddings.register_tokens", "cls_token": "embeddings.cls_token"}
    name = names.get(name, name).replace("patch_embed.proj", "embeddings.patch_embeddings")
    name = re.sub(r"gamma_(\d)", r"layer_scale\1.lambda1", name).replace("attn.proj", "attention.o_proj")
    return name.replace("blocks", "layer").replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj")


def test_positions_of_another_image_size_are_interpolated(tmp_path: Path) -> None:
    network = whole_vit(side=96)
    backbone = backbone_of(network.state_dict(), tmp_path)
    network.set_input_size((SIDE, SIDE))
    assert_same_maps(backbone, network)
    # A position that is the same everywhere stays so.
    state = whole_vit(side=96).state_dict()
    state["pos_embed"] = torch.ones_like(state["pos_embed"])
    found = backbone_of(state, tmp_path).network.state_dict()["pos_embed"]
    torch.testing.assert_close(found, torch.ones(1, 17, 64))


def without(state: dict[str, Tensor], ending: str) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.endswith(ending)}


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: without(state, "blocks.2.mlp.fc1.weight"),
        lambda state: without(state, "patch_embed.proj.weight"),
        lambda state: state | {"patch_embed.proj.weight": torch.zeros(64, 3, 14, 14)},
        lambda state: state | {"blocks.6.norm1.weight": torch.zeros(64)},
        lambda state: {name: value for name, value in state.items() if not name.startswith("blocks.3")},
        lambda state: without(to_hugging_face(state, dino=True), "encoder.layer.1.attention.attention.key.weight"),
    ],
)
def test_files_of_other_transformers_are_refused(
    damage: Callable[[dict[str, Tensor]], dict[str, Tensor]], tmp_path: Path
) -> None:
    with pytest.raises(XrayError, match=r"weights\.pth does not hold the weights of test_vit; give a file"):
        backbone_of(damage(whole_vit().state_dict()), tmp_path)


@pytest.mark.parametrize(
    ("layers", "side", "named"),
    [((1,), 72, "patches of 16 x 16 pixels; choose a multiple, for example 256"), ((6,), 64, "choose from 0 to 5")],
)
def test_sides_and_layers_that_a_transformer_lacks_are_refused(layers: tuple[int, ...], side: int, named: str) -> None:
    with pytest.raises(XrayError, match=named):
        Backbone("test_vit", layers, side)
