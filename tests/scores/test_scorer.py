from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import (
    EXTRA_SCORES,
    RECONSTRUCTION_SCORES,
    ReconstructionScorer,
    ScoredBatch,
    SmoothedErrorMap,
    dissimilarity,
    error_gradient,
    foreground,
    masked_mean,
    masked_top_k_mean,
)


@pytest.fixture
def image() -> torch.Tensor:
    """Two images with background at the left."""
    image = torch.rand((2, 1, 24, 24), generator=torch.Generator().manual_seed(0)).clamp(min=0.01)
    image[..., :5] = 0
    return image


def reconstruct(image: torch.Tensor) -> torch.Tensor:
    return 0.7 * image.flip(2) + 0.1


def test_without_extras_the_scores_are_the_reconstructions_and_the_others(image: torch.Tensor) -> None:
    others = {"latent_distance": torch.tensor([3.0, 4.0])}
    output = ReconstructionScorer("l1", 0.1, 0.0)(image, reconstruct(image), reconstruct, others)
    assert tuple(output.scores) == (*RECONSTRUCTION_SCORES, "latent_distance")
    assert output.pred_score is output.scores["l1"]
    assert output.scores["latent_distance"] is others["latent_distance"]


@pytest.mark.parametrize("extra", [["ssim"], ["gradient"], ["ssim", "gradient"]])
def test_extra_scores_are_averages_of_their_errors(extra: list[str], image: torch.Tensor) -> None:
    output = ReconstructionScorer("mse", 0.1, 0.0, extra)(image, reconstruct(image), reconstruct)
    expected = {name for name in EXTRA_SCORES if name.removesuffix("_top_k") in extra}
    assert set(output.scores) == {*RECONSTRUCTION_SCORES, *expected}
    mask = foreground(image)
    errors = {
        "ssim": dissimilarity(image, reconstruct(image)),
        "gradient": error_gradient(image, reconstruct, mask),
    }
    for name in extra:
        torch.testing.assert_close(output.scores[name], masked_mean(errors[name], mask))
        torch.testing.assert_close(output.scores[f"{name}_top_k"], masked_top_k_mean(errors[name], mask, 0.1))


@pytest.mark.parametrize("score", EXTRA_SCORES)
def test_a_chosen_extra_score_needs_no_mention(score: str, image: torch.Tensor) -> None:
    output = ReconstructionScorer(score, 0.1, 0.0)(image, reconstruct(image), reconstruct)
    assert output.pred_score is output.scores[score]


@pytest.mark.parametrize("ending", ["", "_top_k"])
def test_the_map_is_the_error_of_the_chosen_score(ending: str, image: torch.Tensor) -> None:
    mask, difference = foreground(image), image - reconstruct(image)
    errors = {
        "mse": difference.square(),
        "l1": difference.abs(),
        "smooth_l1": 0.5 * difference.square(),  # no difference exceeds 1
        "ssim": dissimilarity(image, reconstruct(image)),
        "gradient": error_gradient(image, reconstruct, mask),
    }
    for name, error in errors.items():
        output = ReconstructionScorer(name + ending, 0.1, 0.0)(image, reconstruct(image), reconstruct)
        torch.testing.assert_close(output.anomaly_map, (error * mask).squeeze(1), msg=name)
        assert (output.anomaly_map[mask.squeeze(1) == 0] == 0).all()


def test_the_map_of_another_kind_of_score_is_the_squared_error(image: torch.Tensor) -> None:
    output = ReconstructionScorer("discriminator", 0.1, 0.0)(
        image, reconstruct(image), reconstruct, {"discriminator": torch.zeros(2)}
    )
    expected = (image - reconstruct(image)).square() * foreground(image)
    torch.testing.assert_close(output.anomaly_map, expected.squeeze(1))


def test_smoothing_changes_the_map_and_no_score(image: torch.Tensor) -> None:
    sharp, smooth = (
        ReconstructionScorer("mse", 0.1, sigma)(image, reconstruct(image), reconstruct) for sigma in (0, 2)
    )
    assert all(torch.equal(sharp.scores[name], smooth.scores[name]) for name in RECONSTRUCTION_SCORES)
    assert smooth.anomaly_map.amax() < sharp.anomaly_map.amax()


@pytest.mark.parametrize("unknown", ["mse", "psnr", "ssim_top_k"])
def test_an_unknown_extra_score_is_refused(unknown: str) -> None:
    with pytest.raises(XrayError, match=f"extra_scores names {unknown}, but these can be added: ssim, gradient"):
        ReconstructionScorer("mse", 0.1, 0.0, ["ssim", unknown])


def test_a_gradient_cannot_be_exported(image: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    for score in ("gradient", "gradient_top_k"):
        with pytest.raises(XrayError, match=f"The score {score} needs a gradient"):
            ReconstructionScorer(score, 0.1, 0.0)(image, reconstruct(image), reconstruct)
    # as an extra it is left out of the exported graph, which holds the predicted score alone
    output = ReconstructionScorer("mse", 0.1, 0.0, ["gradient"])(image, reconstruct(image), reconstruct)
    assert tuple(output.scores) == RECONSTRUCTION_SCORES


def test_the_chosen_score_becomes_the_predicted_one() -> None:
    scores = {"mse": torch.rand(3), "l1": torch.rand(3)}
    anomaly_map = torch.rand(3, 4, 4)
    output = ScoredBatch.of(scores, "l1", anomaly_map)
    assert output.pred_score is scores["l1"]
    assert output.anomaly_map is anomaly_map
    assert output.scores is scores
    assert output.pred_label is None
    assert output.pred_mask is None


@pytest.fixture
def mask() -> torch.Tensor:
    y, x = np.mgrid[-1:1:40j, -1:1:48j]
    disc = torch.from_numpy((x**2 + y**2 < 0.5).astype(np.float32))
    return torch.stack([disc, torch.ones_like(disc), torch.zeros_like(disc)]).unsqueeze(1)


@pytest.fixture
def error(mask: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random(mask.shape).astype(np.float32))


def test_is_the_smoothed_error_over_the_smoothed_foreground(error: torch.Tensor, mask: torch.Tensor) -> None:
    inside = error[0, 0].numpy(), mask[0, 0].numpy()
    smoothed = gaussian_filter(inside[0] * inside[1], 1.5, mode="mirror", truncate=4)
    weight = gaussian_filter(inside[1], 1.5, mode="mirror", truncate=4)
    expected = np.where(inside[1] > 0, smoothed / np.maximum(weight, 1e-7), 0)
    np.testing.assert_allclose(SmoothedErrorMap(1.5)(error, mask)[0], expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sigma", [0, 1, 4])
def test_is_exactly_0_outside_the_foreground(error: torch.Tensor, mask: torch.Tensor, sigma: float) -> None:
    anomaly_map = SmoothedErrorMap(sigma)(error, mask)
    assert anomaly_map.shape == (3, 40, 48)
    assert (anomaly_map[mask.squeeze(1) == 0] == 0).all()
    assert (anomaly_map[mask.squeeze(1) == 1] > 0).all()


@pytest.mark.parametrize("sigma", [1, 4])
def test_constant_error_stays_constant_up_to_the_edge(mask: torch.Tensor, sigma: float) -> None:
    anomaly_map = SmoothedErrorMap(sigma)(torch.full_like(mask, 0.3), mask)
    torch.testing.assert_close(anomaly_map, 0.3 * mask.squeeze(1))


def test_without_smoothing_it_is_the_masked_error(error: torch.Tensor, mask: torch.Tensor) -> None:
    assert torch.equal(SmoothedErrorMap(0)(error, mask), (error * mask).squeeze(1))


def test_background_error_does_not_leak_in(error: torch.Tensor, mask: torch.Tensor) -> None:
    spoilt = torch.where(mask > 0, error, 1e3)
    assert torch.equal(SmoothedErrorMap(3)(spoilt, mask), SmoothedErrorMap(3)(error, mask))


def test_a_further_error_has_its_scores_and_the_map() -> None:
    torch.manual_seed(0)
    image, error = torch.rand(2, 1, 8, 8) + 0.1, torch.rand(2, 1, 8, 8)
    image[..., :2] = 0
    output = ReconstructionScorer("distance", top_k=3, map_sigma=0)(
        image, image, lambda images: images, further_errors={"distance": error}
    )
    shown = error[..., 2:].flatten(1)
    torch.testing.assert_close(output.pred_score, shown.mean(1))
    torch.testing.assert_close(output.scores["distance_top_k"], shown.topk(3).values.mean(1))
    assert output.anomaly_map is not None
    torch.testing.assert_close(output.anomaly_map, (error * (image > 0)).squeeze(1))
