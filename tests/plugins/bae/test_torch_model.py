from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.scores import ScoredBatch
from anomalib_xray_plugins.bae.torch_model import BaeModel, BatchNorm, Down, Up

PUBLISHED: dict[str, Any] = {"width": 16, "latent_channels": 256, "levels": 5, "stride": 2, "code_padding": 1}


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def shapes(model: BaeModel, side: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Sides and channels after each level of the encoder with its code, and of the decoder."""
    found: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])

    def note(where: list[tuple[int, ...]]) -> Any:  # a hook
        return lambda _module, _inputs, out: where.append(tuple((out[0] if isinstance(out, tuple) else out).shape[1:]))

    for level in [*model.encoder, model.code]:
        level.register_forward_hook(note(found[0]))
    for level in [*model.decoder, model.last]:
        level.register_forward_hook(note(found[1]))
    model.reconstruct(torch.empty(1, 1, side, side, device="meta"))
    return found


@pytest.mark.parametrize(("skip", "millions"), [(False, 1.53), (True, 2.18)])
def test_published_settings_have_the_published_number_of_parameters(skip: bool, millions: float) -> None:
    assert round(parameters(BaeModel(**PUBLISHED, skip=skip)) / 1e6, 2) == millions


@pytest.mark.parametrize("skip", [False, True])
def test_published_settings_have_the_published_shapes(skip: bool) -> None:
    with torch.device("meta"):  # shapes without numbers
        encoder, decoder = shapes(BaeModel(**PUBLISHED, skip=skip).eval(), 512)
    assert encoder == [(16, 256, 256), (32, 64, 64), (64, 16, 16), (128, 4, 4), (256, 1, 1), (256, 3, 3)]
    assert decoder == [(256, 2, 2), (128, 8, 8), (64, 32, 32), (32, 128, 128), (16, 512, 512), (1, 512, 512)]


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("side", "levels", "stride", "place"),
    [(64, 2, 2, 8), (64, 3, 2, 2), (128, 4, 2, 1), (256, 4, 2, 2), (512, 2, 2, 64), (64, 3, 1, 8), (128, 7, 1, 1)],
)
def test_every_size_comes_back(side: int, levels: int, stride: int, place: int, skip: bool) -> None:
    with torch.device("meta"):
        model = BaeModel(width=4, latent_channels=6, levels=levels, stride=stride, skip=skip)
        encoder, decoder = shapes(model.eval(), side)
    assert encoder[-1] == (6, place, place)
    assert decoder[-1] == (1, side, side)


def test_published_decoder_sees_the_two_deepest_levels_before_pooling() -> None:
    model = BaeModel(width=2, latent_channels=3, levels=4, skip=True).eval()
    seen: list[Tensor] = []
    for level in model.decoder:
        level.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    image = torch.rand(1, 1, 128, 128)
    _, wholes = model.encode(image)
    model.reconstruct(image)
    assert [features.shape[1] for features in seen] == [3, 32, 16, 4]
    torch.testing.assert_close(seen[1][:, 16:], wholes[3])
    torch.testing.assert_close(seen[2][:, 8:], wholes[2])


def test_without_skip_connections_all_goes_through_the_code() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 64, 64)
    for skip in (False, True):
        model = BaeModel(width=4, latent_channels=3, levels=3, skip=skip).eval()
        model.code.register_forward_hook(lambda _module, _inputs, out: (out[0] * 0, out[1]))
        made = model.reconstruct(image)
        assert torch.equal(made[0], made[1]) != skip


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("activate_first", [False, True])
def test_level_does_its_steps_in_order(activate_first: bool, activation: Any) -> None:
    torch.manual_seed(0)
    level = Down(nn.Conv2d(2, 3, 1), True, activate_first, activation)
    features = torch.randn(4, 2, 6, 6)
    pooled, whole = level(features)

    weight, bias = (part.detach().numpy() for part in (level.convolution.weight, level.convolution.bias))
    made = np.einsum("oi,nihw->nohw", weight[:, :, 0, 0], features.numpy()) + bias[:, None, None]

    def act(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.tanh(x) if activation == "tanh" else np.maximum(x, 0)

    def pool(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return x.reshape(4, 3, 3, 2, 3, 2).max((3, 5))

    def norm(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)

    expected_whole = act(made) if activate_first else made
    expected = pool(norm(act(made))) if activate_first else act(norm(pool(made)))
    np.testing.assert_allclose(whole.detach(), expected_whole, atol=1e-5)
    np.testing.assert_allclose(pooled.detach(), expected, atol=1e-4)


def test_upsampling_copies_the_nearest_pixel() -> None:
    level = Up(nn.ConvTranspose2d(1, 1, 1, bias=False), False, "tanh").eval()
    with torch.no_grad():
        level[0].weight.fill_(1)
    small = torch.tensor([[[[0.1, 0.2], [0.3, 0.4]]]])
    expected = np.tanh(np.kron(small.numpy()[0, 0] / np.sqrt(1 + 1e-5), np.ones((2, 2))))
    np.testing.assert_allclose(level(small).detach()[0, 0], expected, atol=1e-6)


def test_one_value_a_channel_is_normalised_by_the_running_statistics() -> None:
    norm = BatchNorm(3)
    norm(torch.randn(8, 3, 2, 2))
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    single = torch.tensor([1.0, -2.0, 5.0]).reshape(1, 3, 1, 1)
    expected = (single.flatten() - mean) / (variance + norm.eps).sqrt()
    torch.testing.assert_close(norm(single).flatten(), expected)
    assert torch.equal(norm.running_mean, mean)
    assert torch.equal(norm.running_var, variance)


@pytest.mark.parametrize("code_padding", [0, 1])
def test_one_image_trains_a_code_without_places(code_padding: int) -> None:
    torch.manual_seed(0)
    model = BaeModel(width=2, latent_channels=4, levels=4, code_padding=code_padding)
    image = torch.rand(1, 1, 128, 128)
    code, _ = model.encode(image)
    assert code.shape[2:] == (1 + 2 * code_padding,) * 2
    (model.reconstruct(image) - image).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(("output", "least"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_reconstruction_lies_between_0_and_1(output: Any, least: float) -> None:
    torch.manual_seed(0)
    model = BaeModel(width=4, latent_channels=8, levels=2, output=output)
    image = torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        model.last.weight *= 1e5  # far into both ends of the activation
        training = model.reconstruct(image)
        evaluation = model.eval().reconstruct(image)
    assert training.min() == least
    assert evaluation.min() == 0
    assert training.max() == evaluation.max() == 1


def test_training_reconstructs_and_evaluation_scores() -> None:
    torch.manual_seed(0)
    model = BaeModel(width=4, latent_channels=8, levels=2)
    batch = torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)
    assert model(batch).shape == (2, 1, 64, 64)
    output = model.eval()(batch)
    assert isinstance(output, ScoredBatch)
    error = (batch[:, 0] - model.reconstruct(batch[:, :1])[:, 0]) ** 2
    torch.testing.assert_close(output.scores["mse"], error.mean((1, 2)))
