from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import nnls
from sklearn.decomposition import NMF
from torch import Tensor

from anomalib_xray.detectors import USUAL_DETECTORS, DetectorBank
from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.nmf.torch_model import Dictionary, NmfModel, enlarged, shrunk


def mixtures(count: int, seed: int = 0) -> Tensor:
    """Images ``(N, 1, 16, 16)`` that are mixtures of four bars."""
    generator = np.random.default_rng(seed)
    bars = np.zeros((4, 16, 16))
    for index in range(4):
        bars[index, 4 * index : 4 * index + 4, 2 * index : 2 * index + 9] = 1
    return torch.from_numpy(np.einsum("nk,khw->nhw", generator.uniform(0.1, 1, (count, 4)), bars)).float().unsqueeze(1)


def dictionary(updates: int = 100, components: int = 4) -> Dictionary:
    return Dictionary(components, "random", 1e-5, updates, seed=1)


def model(resolution: int = 16) -> NmfModel:
    return NmfModel(resolution, dictionary(), DetectorBank(), ReconstructionScorer("mse", 0.03, 0.0)).eval()


def test_parts_are_those_of_scikit_learn_with_unit_length() -> None:
    pixels = mixtures(30).flatten(1)
    found = dictionary()
    found.fit(pixels)
    parts = NMF(4, init="random", tol=1e-5, random_state=1).fit(pixels.numpy()).components_
    np.testing.assert_allclose(found.parts, parts / np.linalg.norm(parts, axis=1, keepdims=True), rtol=1e-3, atol=1e-4)


def test_codes_are_non_negative_least_squares() -> None:
    found = dictionary(updates=300, components=6)
    generator = np.random.default_rng(0)
    parts = generator.gamma(1, 1, (6, 40))
    found.parts = torch.from_numpy(parts).float()
    pixels = generator.gamma(1, 1, (5, 40))
    codes = found.encode(torch.from_numpy(pixels).float()).numpy()
    assert (codes >= 0).all()
    for code, image in zip(codes, pixels, strict=True):
        expected, residual = nnls(parts.T, image)
        assert np.linalg.norm(code @ parts - image) == pytest.approx(residual, rel=1e-3)
        np.testing.assert_allclose(code, expected, atol=0.03)


def test_more_updates_reconstruct_better() -> None:
    few, many = dictionary(1), dictionary(50)
    generator = torch.Generator().manual_seed(0)
    few.parts = many.parts = torch.rand(4, 20, generator=generator)
    pixels = torch.rand(3, 20, generator=generator)
    errors = [(found.decode(found.encode(pixels)) - pixels).square().sum(1) for found in (few, many)]
    assert (errors[1] < errors[0]).all()


def test_a_black_image_is_made_of_nothing() -> None:
    found = dictionary()
    found.fit(mixtures(9).flatten(1))
    assert torch.equal(found.encode(torch.zeros(1, 256)), torch.zeros(1, 4))


def test_fewer_images_than_parts_are_enough() -> None:
    found = dictionary(components=50)
    found.fit(mixtures(3).flatten(1))
    assert found.parts.shape == (3, 256)


def test_what_the_parts_cannot_make_up_is_unusual() -> None:
    found = model()
    found.fit(found.vectors(mixtures(40)))
    normal = mixtures(2, seed=3)
    odd = normal[:1].clone()
    odd[:, :, 12:, 0:4] = 1
    output = found(torch.cat([normal, odd]).repeat(1, 3, 1, 1))
    assert output.pred_score[:2].max() < 1e-3
    assert output.pred_score[2] > 0.01
    assert output.anomaly_map is not None
    row, column = divmod(int(output.anomaly_map[2].argmax()), 16)
    assert row >= 12
    assert column < 4
    assert set(USUAL_DETECTORS) < set(output.scores)


def test_an_unusual_mixture_is_unusual() -> None:
    found = model()
    found.fit(found.vectors(mixtures(60)))
    normal = mixtures(3, seed=5)
    odd = torch.zeros(1, 1, 16, 16)
    odd[:, :, :4, :9] = 6
    scores = found(torch.cat([normal, odd]).repeat(1, 3, 1, 1)).scores
    for name in USUAL_DETECTORS:
        assert scores[name][3] > scores[name][:3].max(), name


def test_comparison_has_the_resolution_of_the_dictionary() -> None:
    found = model(resolution=4)
    found.fit(found.vectors(mixtures(40)))
    image = mixtures(1, seed=9)
    checkerboard = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2 - 1
    fine = image + 0.05 * checkerboard * (image > 0)
    scores = found(torch.cat([image, fine]).repeat(1, 3, 1, 1)).scores["mse"]
    torch.testing.assert_close(scores[1], scores[0], rtol=0.05, atol=1e-4)


def test_shrinking_averages_and_enlarging_restores_the_size() -> None:
    image = torch.rand(2, 1, 8, 8)
    small = shrunk(image, 4)
    np.testing.assert_allclose(small, image.numpy().reshape(2, 1, 4, 2, 4, 2).mean((3, 5)), rtol=1e-6)
    assert enlarged(small, image).shape == image.shape
    assert enlarged(image, image) is image
