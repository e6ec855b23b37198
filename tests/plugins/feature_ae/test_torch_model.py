from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d

from anomalib_xray.scores import ScoredBatch, masked_mean, masked_top_k_mean
from anomalib_xray_plugins.feature_ae.loss import masked_feature_loss
from anomalib_xray_plugins.feature_ae.torch_model import SCORES, FeatureAeModel, FeatureMap

NETWORK = "test_efficientnet"


def small_model(**changes: object) -> FeatureAeModel:
    return FeatureAeModel(**{"backbone": NETWORK, "channels": [8], "latent_channels": 4, **changes})  # type: ignore[arg-type]  # by name


@pytest.fixture
def image() -> torch.Tensor:
    """Two images with background at the left."""
    image = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0)).clamp(min=0.01)
    image[..., :24] = 0
    return image


def test_published_settings_leave_2_by_2_places_of_300_channels() -> None:
    with torch.device("meta"):  # shapes without numbers
        model = FeatureAeModel("resnet18", (0, 1, 2), (100, 150, 200), 300)
        assert model.features.channels == 64 + 64 + 128
        code = model.encoder(torch.empty(2, 256, 32, 32))
        assert code.shape == (2, 300, 2, 2)
        assert model.decoder(code).shape == (2, 256, 32, 32)
    steps = [256, 100, 150, 200, 300]
    expected = 25 * 300**2 + 256**2  # the convolutions without stride
    for narrow, wide in pairwise(steps):
        expected += (25 + 36) * narrow * wide + 2 * (wide + narrow)
    trained = [*model.encoder.parameters(), *model.decoder.parameters()]
    assert sum(weight.numel() for weight in trained) == expected


def test_levels_are_resized_to_one_map_and_put_side_by_side(image: torch.Tensor) -> None:
    features = FeatureMap(NETWORK, (0, 1, 2), standardized=False)(image)
    maps = FeatureMap(NETWORK, (0, 1, 2)).backbone(image)
    assert features.shape == (2, sum(one.shape[1] for one in maps), 16, 16)
    first, second, third = features.split([one.shape[1] for one in maps], 1)
    # half the side, bilinearly, is the mean of four; a level of the joint side stays
    torch.testing.assert_close(first, adaptive_avg_pool2d(maps[0], 16))
    torch.testing.assert_close(second, maps[1])
    assert maps[2].shape[2] == 8
    assert third.shape[2] == 16


def test_a_deeper_first_layer_has_a_smaller_map(image: torch.Tensor) -> None:
    deep = FeatureMap(NETWORK, (2, 3))
    assert deep.reduction == 8
    assert deep(image).shape[2:] == (8, 8)


def test_standardised_features_have_the_statistics_of_all_training_images(image: torch.Tensor) -> None:
    raw, scaled = FeatureMap(NETWORK, (1, 2), standardized=False), FeatureMap(NETWORK, (1, 2))
    others = image.flip(2) * 0.5
    untouched = scaled.eval()(image)
    torch.testing.assert_close(untouched, raw(image))  # before training, nothing is known
    scaled.train()
    scaled(image)
    scaled(others[:1])
    seen = np.concatenate([raw(image).numpy(), raw(others[:1]).numpy()])
    mean, deviation = (
        statistic(seen, axis=(0, 2, 3), keepdims=True, dtype=np.float64) for statistic in (np.mean, np.std)
    )
    found = scaled.eval()(others)
    np.testing.assert_allclose(found, (raw(others).numpy() - mean) / np.maximum(deviation, 1e-3), rtol=1e-3, atol=1e-3)
    assert torch.equal(scaled(others), found)  # evaluation learns nothing


def test_scores_are_enlarged_errors_of_the_foreground(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = small_model(score="feature_mse", top_k=0.1, map_sigma=0.0).eval()
    output = model(image.repeat(1, 3, 1, 1))
    assert isinstance(output, ScoredBatch)
    assert set(output.scores) == set(SCORES)
    assert output.pred_score is output.scores["feature_mse"]
    assert output.anomaly_map is not None
    shown, mask = output.anomaly_map.unsqueeze(1), (image > 0).float()
    assert (shown[image == 0] == 0).all()
    torch.testing.assert_close(masked_mean(shown, mask), output.scores["feature_mse"])
    torch.testing.assert_close(masked_top_k_mean(shown, mask, 0.1), output.scores["feature_mse_top_k"])


def test_loss_counts_the_foreground_and_trains_the_autoencoder_alone(image: torch.Tensor) -> None:
    torch.manual_seed(0)
    model = small_model(standardized=False).eval()
    features = model.features(image)
    weight = adaptive_avg_pool2d((image > 0).float(), 16)
    assert set(np.unique(weight.numpy())) == {0.0, 1.0}
    expected = masked_feature_loss(features, model.reconstruct(features), weight, "mse")
    loss = model.loss(image, "mse")
    torch.testing.assert_close(loss, expected)
    loss.backward()
    trained = {name for name, weight in model.named_parameters() if weight.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if not name.startswith("features.")}


def test_training_returns_the_reconstructed_features(image: torch.Tensor) -> None:
    made = small_model()(image.repeat(1, 3, 1, 1))
    assert made.shape == (2, small_model().features.channels, 16, 16)
    assert made.min() < 0 < made.max()
