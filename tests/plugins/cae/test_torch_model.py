from __future__ import annotations

import pytest
import torch

from anomalib_xray.scores import ScoredBatch
from anomalib_xray_plugins.cae.torch_model import CaeModel, Output


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("output", "expected"), [("relu_tanh", 6_374_560), ("sigmoid", 6_374_561)])
def test_published_settings_have_the_published_number_of_parameters(output: Output, expected: int) -> None:
    assert parameters(CaeModel(width=16, latent_channels=512, output=output)) == expected


@pytest.mark.parametrize("side", [64, 128, 512])
def test_bottleneck_has_a_32nd_of_the_side(side: int) -> None:
    with torch.device("meta"):  # shapes without numbers
        model = CaeModel(width=16, latent_channels=512).eval()
        code = model.encoder(torch.empty(2, 1, side, side))
        assert code.shape == (2, 512, side // 32, side // 32)
        assert model.decoder(code).shape == (2, 1, side, side)


@pytest.mark.parametrize("output", ["sigmoid", "relu_tanh"])
def test_reconstruction_lies_between_0_and_1(output: Output) -> None:
    torch.manual_seed(0)
    model = CaeModel(width=4, latent_channels=8, output=output)
    with torch.no_grad():
        last = model.decoder[-2 if output == "sigmoid" else -3]
        assert isinstance(last, torch.nn.ConvTranspose2d)
        last.weight *= 1000  # far into both ends of the activation
        reconstruction = model.reconstruct(torch.rand(3, 1, 64, 64))
    assert reconstruction.min() == 0
    assert reconstruction.max() == 1


def test_training_reconstructs_and_evaluation_scores() -> None:
    torch.manual_seed(0)
    model = CaeModel(width=4, latent_channels=8)
    batch = torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)
    assert model(batch).shape == (2, 1, 64, 64)
    output = model.eval()(batch)
    assert isinstance(output, ScoredBatch)
    error = (batch[:, 0] - model.reconstruct(batch[:, :1])[:, 0]) ** 2
    torch.testing.assert_close(output.scores["mse"], error.mean((1, 2)))
