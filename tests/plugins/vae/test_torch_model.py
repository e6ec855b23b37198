from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.scores import ReconstructionScorer, ScoredBatch
from anomalib_xray_plugins.vae.torch_model import SCORES, Reconstruction, VaeModel, cross_entropy


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def sides(model: VaeModel, side: int) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Sides and channels after each convolution of the encoder, and of the decoder."""
    found: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([], [])
    for where, part in zip(found, (model.encoder, model.decoder), strict=True):
        for layer in part.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                layer.register_forward_hook(lambda _module, _inputs, out, where=where: where.append(out.shape[1:]))
    model.reconstruct(torch.empty(2, 1, side, side, device="meta"))
    return found


def test_published_settings_have_the_published_number_of_parameters() -> None:
    assert round(parameters(VaeModel(512, width=8, latent_size=1024)) / 1e6, 1) == 11.9


def test_published_settings_have_the_published_shapes() -> None:
    with torch.device("meta"):  # shapes without numbers
        encoder, decoder = sides(VaeModel(512, width=8, latent_size=1024).eval(), 512)
    channels, places = [8, 16, 32, 64, 128, 256, 512], [255, 126, 62, 30, 14, 6, 2]
    assert encoder == [(count, place, place) for count, place in zip(channels, places, strict=True)]
    channels, places = [256, 128, 64, 32, 16, 8, 1], [6, 14, 30, 62, 126, 254, 512]
    assert decoder == [(count, place, place) for count, place in zip(channels, places, strict=True)]


@pytest.mark.parametrize(
    ("side", "places"), [(64, [31, 14, 6, 2]), (128, [63, 30, 14, 6, 2]), (256, [127, 62, 30, 14, 6, 2])]
)
def test_smaller_images_have_fewer_levels_and_come_back(side: int, places: list[int]) -> None:
    with torch.device("meta"):
        encoder, decoder = sides(VaeModel(side, width=3, latent_size=5).eval(), side)
    assert [shape[2] for shape in encoder] == places
    assert decoder[-1] == (1, side, side)


def test_training_draws_the_code_and_evaluation_takes_its_mean() -> None:
    torch.manual_seed(0)
    model = VaeModel(64, width=4, latent_size=6)
    batch = torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)
    codes: list[Tensor] = []
    model.decoder[0].register_forward_pre_hook(lambda _module, inputs: codes.append(inputs[0]))
    torch.manual_seed(1)
    made = model(batch)
    noise = (codes[0] - made.mean) / made.deviation
    torch.manual_seed(1)
    torch.testing.assert_close(noise, torch.randn(2, 6))
    assert isinstance(made, Reconstruction)
    assert made.image.shape == (2, 1, 64, 64)

    codes.clear()
    output = model.eval()(batch)
    assert isinstance(output, ScoredBatch)
    torch.testing.assert_close(codes[0], model.encode(batch[:, :1])[0])


def test_deviation_is_the_square_root_of_the_exponential_of_its_layer() -> None:
    torch.manual_seed(0)
    model = VaeModel(64, width=4, latent_size=6).eval()
    image = torch.rand(2, 1, 64, 64)
    features = model.encoder(image).detach()
    _, deviation = model.encode(image)
    log_variance = features.numpy() @ model.head.spread.weight.detach().numpy().T
    log_variance += model.head.spread.bias.detach().numpy()
    np.testing.assert_allclose(deviation.detach(), np.exp(log_variance / 2), rtol=1e-4)


def test_scores_of_the_code_follow_their_formulas() -> None:
    torch.manual_seed(0)
    model = VaeModel(64, width=4, latent_size=6).eval()
    image = torch.rand(3, 1, 64, 64)
    image[:, :, :30] = 0
    scores = {name: value.detach().numpy() for name, value in model(image.repeat(1, 3, 1, 1)).scores.items()}
    assert set(scores) | {"ssim", "ssim_top_k", "gradient", "gradient_top_k"} == set(SCORES)

    mean, deviation = (part.detach().double().numpy() for part in model.encode(image))
    kld = -0.5 * (1 + np.log(deviation**2) - mean**2 - deviation**2).sum(1)
    error = (image - model.reconstruct(image)).detach().numpy()[:, 0, 30:]
    np.testing.assert_allclose(scores["kld"], kld, rtol=1e-4)
    np.testing.assert_allclose(scores["l1_kld"], kld + np.abs(error).mean((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(scores["mse_kld"], kld + (error**2).mean((1, 2)), rtol=1e-4)
    made, seen = (part.detach().double().numpy()[:, 0, 30:] for part in (model.reconstruct(image), image))
    entropy = -(seen * np.log(made) + (1 - seen) * np.log(1 - made)).reshape(3, -1)
    np.testing.assert_allclose(scores["bce"], entropy.mean(1), rtol=1e-4)
    np.testing.assert_allclose(scores["bce_kld"], kld + entropy.mean(1), rtol=1e-4)
    largest = np.sort(entropy, 1)[:, -math.ceil(0.03 * entropy.shape[1]) :]
    np.testing.assert_allclose(scores["bce_top_k"], largest.mean(1), rtol=1e-4)


def test_the_cross_entropy_has_a_map_of_its_own_and_stays_finite() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 3, 64, 64).mean(1, keepdim=True).repeat(1, 3, 1, 1)
    maps = {}
    for score in ("bce", "mse"):
        torch.manual_seed(1)
        model = VaeModel(64, 4, 6, ReconstructionScorer(score, 0.03, 0.0)).eval()
        with torch.no_grad():
            logits = model.decoder[:-1](model.encode(image[:, :1])[0])
            maps[score] = model(image).anomaly_map
    made, seen = logits.sigmoid().double(), image[:, :1].double()
    expected = -(seen * made.log() + (1 - seen) * (1 - made).log())
    torch.testing.assert_close(maps["bce"].double(), expected[:, 0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(maps["bce"], maps["mse"])
    assert torch.isfinite(cross_entropy(torch.zeros(1), torch.tensor([500.0])))


def test_gradient_reaches_every_weight() -> None:
    torch.manual_seed(0)
    model = VaeModel(64, width=4, latent_size=6)
    made = model(torch.rand(2, 3, 64, 64))
    (made.image.square().mean() + made.mean.square().sum() + made.deviation.sum()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad != 0).any(), name
