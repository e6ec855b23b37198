from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.networks.sagan import Trunk
from anomalib_xray_plugins.bigan.torch_model import SCORES, BiganModel, Encoder, PairDiscriminator


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()


def test_scores_are_their_formulas() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, feature_weight=0.25, references=50, patches=True).eval()
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    model.remember(torch.rand(2, 1, 64, 64), torch.Generator().manual_seed(0))
    output = model(image.repeat(1, 3, 1, 1))
    assert set(output.scores) | {"ssim", "ssim_top_k", "gradient", "gradient_top_k"} == set(SCORES)

    code = model.encoder(2 * image - 1)
    generated = model.generator(code)
    difference = array(image - (generated + 1) / 2)[:, :, 20:]
    logit = array(model.discriminator(2 * image - 1, code))
    generated_logit = array(model.discriminator(generated, code))
    features, encoded = (
        [
            array(one - other).reshape(2, -1)
            for one, other in zip(trunk.features(2 * image - 1)[-2:], trunk.features(generated)[-2:], strict=True)
        ]
        for trunk in (model.discriminator.trunk, model.encoder.trunk)
    )
    places = model.discriminator.trunk.features(2 * image - 1)[1]
    assert places.shape == (2, 16, 16, 16)
    assert model.memory is not None
    l1 = np.abs(difference).mean((1, 2, 3))
    matching = sum(np.abs(layer).mean(1) for layer in features) / 2
    expected = {
        "mse": np.square(difference).mean((1, 2, 3)),
        "l1": l1,
        "discriminator": -np.log(1 / (1 + np.exp(-logit))),
        "discriminator_difference": 1 / (1 + np.exp(-generated_logit)) - 1 / (1 + np.exp(-logit)),
        "feature_matching": matching,
        "feature_matching_signed": sum(layer.mean(1) for layer in features) / 2,
        "encoder_feature_matching": sum(np.abs(layer).mean(1) for layer in encoded) / 2,
        "feature_distance": array(model.memory(places, (image > 0).float())[:, :, 20:]).mean((1, 2, 3)),
        "latent_distance": np.square(array(code - model.encoder(generated))).mean(1),
        "bigan": 0.75 * l1 + 0.25 * matching,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(array(output.scores[name]), values, rtol=1e-4, atol=1e-7, err_msg=name)


def test_evaluation_uses_the_averages() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, ema_decay=0.9).eval()
    image = torch.rand(2, 3, 64, 64)
    names = ("mse", "encoder_feature_matching", "latent_distance")
    before = [model(image).scores[name] for name in names]
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.generator.parameters()):
            weight.add_(1)
    assert all(torch.equal(model(image).scores[name], old) for name, old in zip(names, before, strict=True))
    assert model.encoder_average is not None
    with torch.no_grad():
        for weight in model.encoder_average.module.parameters():
            weight.add_(1)
    assert not any(torch.equal(model(image).scores[name], old) for name, old in zip(names, before, strict=True))


def test_scores_of_a_critic_rank_as_its_output_far_from_0() -> None:
    torch.manual_seed(0)
    model = BiganModel(image_size=64, width=8, latent_size=16, adversarial_loss="wgan-gp").eval()
    image = torch.rand(5, 1, 64, 64)
    with torch.no_grad():
        model.discriminator.joint[-2].bias += 150  # the loss leaves a critic's zero point open
        scores = model(image.repeat(1, 3, 1, 1)).scores
        code = model.encoder(2 * image - 1)
        logit = model.discriminator(2 * image - 1, code)
        difference = model.discriminator(model.generator(code), code) - logit
    torch.testing.assert_close(scores["discriminator"], -logit)
    torch.testing.assert_close(scores["discriminator_difference"], difference)
    assert len(scores["discriminator"].unique()) == 5


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def discriminator(spectral: bool = True) -> PairDiscriminator:
    return PairDiscriminator(Trunk(64, 8, spectral=spectral), 8, 16, spectral)


@pytest.mark.parametrize("side", [64, 128])
def test_shapes(side: int) -> None:
    image, code = torch.rand(2, 1, side, side), torch.randn(2, 16)
    assert Encoder(Trunk(side, 8), 16)(image).shape == (2, 16)
    assert PairDiscriminator(Trunk(side, 8), 8, 16, True)(image, code).shape == (2,)


def test_networks_have_the_published_parameters() -> None:
    model = BiganModel(128, 64, 100)
    assert parameters(model.generator) == pytest.approx(12.8e6, abs=0.05e6)
    assert parameters(model.encoder) == pytest.approx(14.4e6, abs=0.05e6)
    assert parameters(model.discriminator) == pytest.approx(32.5e6, abs=0.05e6)
    assert parameters(model) == pytest.approx(59.7e6, abs=0.05e6)


def test_code_is_not_bounded() -> None:
    encoder = Encoder(Trunk(64, 8), 16)
    with torch.no_grad():
        encoder.head.weight *= 1000
    assert encoder(torch.rand(4, 1, 64, 64)).abs().max() > 1


def test_discriminator_looks_at_image_and_code() -> None:
    network = discriminator().eval()
    image, code = torch.rand(2, 1, 64, 64, requires_grad=True), torch.randn(2, 16, requires_grad=True)
    of_image, of_code = torch.autograd.grad(network(image, code).sum(), [image, code])
    for gradient in (of_image, of_code):
        assert (gradient.flatten(1).abs().amax(1) > 0).all()


def test_pairs_do_not_mix() -> None:
    network = discriminator(spectral=False).train()
    image, code = torch.rand(3, 1, 64, 64), torch.randn(3, 16)
    alone = torch.cat([network(image[i : i + 1], code[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(image, code), alone)


@pytest.mark.parametrize("spectral", [True, False])
def test_all_layers_but_the_last_are_spectrally_normalised(spectral: bool) -> None:
    network = discriminator(spectral)
    layers = [*network.image_head, *network.code_branch, *network.joint]
    learning = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert [hasattr(layer, "parametrizations") for layer in learning] == [spectral] * 5 + [False]
