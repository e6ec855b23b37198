from __future__ import annotations

import pytest
import torch
from torch import nn

from anomalib_xray_plugins.deep_svdd.torch_model import BackboneEncoder, Decoder, Encoder, level_channels


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_published_network_has_the_published_layers() -> None:
    # 32-64-128 filters of 5 x 5 and a dense layer of 128 on 4 x 4 x 128, none with a bias; here of one channel.
    assert level_channels(32, 32) == [32, 64, 128]
    assert parameters(Encoder(32, 32, 128)) == 25 * (1 * 32 + 32 * 64 + 64 * 128) + 4 * 4 * 128 * 128


@pytest.mark.parametrize("side", [64, 128, 256, 512])
@pytest.mark.parametrize("width", [4, 7])
def test_codes_and_reconstructions_have_their_shapes(side: int, width: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        code = Encoder(side, width, 10)(torch.empty(3, 1, side, side))
        assert code.shape == (3, 10)
        assert Decoder(side, width, 10)(code).shape == (3, 1, side, side)


@pytest.mark.parametrize("network", [Encoder(64, 4, 8), Decoder(64, 4, 8), BackboneEncoder("test_resnet", 2, 8).head])
def test_no_trained_layer_has_a_bias(network: nn.Module) -> None:
    names = [name for name, _ in network.named_parameters()]
    assert names
    assert [name for name in names if "bias" in name] == []
    inner = [module for layer in list(network.children())[:-1] for module in layer.modules()]
    assert not any(isinstance(module, nn.Sigmoid | nn.Tanh) for module in inner)


def test_weights_of_0_give_a_code_of_0_and_not_the_center() -> None:
    encoder = Encoder(64, 4, 8)
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.zero_()
        assert torch.equal(encoder(torch.rand(2, 1, 64, 64)), torch.zeros(2, 8))


def test_features_of_a_backbone_are_standardised_over_the_images_and_only_its_head_learns() -> None:
    torch.manual_seed(0)
    encoder = BackboneEncoder("test_resnet", 2, 8)
    images = torch.rand(6, 1, 64, 64)
    encoder.standardise([images[:4], images[4:]])
    given: list[torch.Tensor] = []
    encoder.head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    encoder(images).sum().backward()
    (features,) = given
    torch.testing.assert_close(features.mean(0), torch.zeros_like(features[0]), atol=1e-3, rtol=0)
    varied = encoder.deviation > 1e-5
    assert varied.any()
    torch.testing.assert_close(features.std(0, correction=0)[varied], torch.ones(int(varied.sum())), atol=1e-2, rtol=0)
    learnt = {name.partition(".")[0] for name, weight in encoder.named_parameters() if weight.grad is not None}
    assert learnt == {"head"}
