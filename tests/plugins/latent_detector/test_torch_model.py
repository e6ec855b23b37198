from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from anomalib_xray.detectors import DetectorBank, DetectorSettings
from anomalib_xray.errors import XrayError
from anomalib_xray.networks.places import shown_places
from anomalib_xray_plugins.latent_detector.torch_model import LatentModel, Pooling, joined, pooled


class Blocks(nn.Module):
    """Mean and deviation of blocks of 16 x 16 and of 32 x 32 pixels."""

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = []
        for side in (16, 32):
            blocks = image.unfold(2, side, side).unfold(3, side, side).flatten(4)
            maps.append(torch.cat([blocks.mean(4), blocks.std(4)], 1))
        return maps


def model(pooling: Pooling, score: str = "knn", top_k: float = 1) -> LatentModel:
    bank = DetectorBank(["knn", "one_class_svm"], DetectorSettings(neighbours=1))
    return LatentModel(Blocks(), bank, pooling, score, top_k, 0.0).eval()


def hands(count: int = 6) -> Tensor:
    """Noise around a half, with a border of background that is 16 pixels wide."""
    images = 0.5 + 0.1 * torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    images[:, :, :16], images[:, :, :, :16] = 0, 0
    return images


def test_pooling_counts_places_with_foreground_only() -> None:
    features = torch.arange(8.0).reshape(1, 2, 2, 2) - 5
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 3] = mask[0, 0, 3, 0] = 1
    np.testing.assert_allclose(pooled(features, mask, "average"), [[-3.5, 0.5]])
    np.testing.assert_allclose(pooled(features, mask, "max"), [[-3, 1]])
    np.testing.assert_allclose(pooled(features, mask, "flatten"), features.reshape(1, 8))
    np.testing.assert_allclose(pooled(features[:, :, 0, 0], mask, "average"), [[-5, -1]])
    assert pooled(features, torch.zeros(1, 1, 4, 4), "max").isfinite().all()


def test_tiles_are_averages_of_overlapping_parts_behind_each_other() -> None:
    features, mask = torch.rand(2, 3, 6, 6), torch.ones(2, 1, 12, 12)
    mask[:, :, :4] = 0
    mask[0, :, 4:8, :2] = 0
    found = pooled(features, mask, "tiles").reshape(2, 4, 3)
    shown = shown_places(features, mask)
    for number, (top, left) in enumerate([(0, 0), (0, 2), (2, 0), (2, 2)]):
        for image in range(2):
            seen = shown[image, 0, top : top + 4, left : left + 4] > 0
            expected = features[image, :, top : top + 4, left : left + 4][:, seen].mean(1)
            torch.testing.assert_close(found[image, number], expected)
    assert (pooled(features, torch.zeros_like(mask), "tiles") == 0).all()


def test_maps_are_joined_at_the_largest_size() -> None:
    first, second = Blocks()(hands(1))
    joint = joined([first, second])
    assert joint.shape == (1, 4, 4, 4)
    torch.testing.assert_close(joint[:, :2], first)
    torch.testing.assert_close(joint[:, 2:, 0, 0], second[:, :, 0, 0])
    with pytest.raises(XrayError, match="no places"):
        joined([first, torch.ones(1, 3)])


def test_pooled_features_of_all_layers_are_scored() -> None:
    detector = model("average")
    vectors = detector.vectors(hands())
    assert vectors.shape == (6, 4)
    detector.fit(vectors)
    output = detector(hands().repeat(1, 3, 1, 1))
    torch.testing.assert_close(output.pred_score, torch.zeros(6))
    assert output.anomaly_map is None
    assert list(output.scores) == ["knn", "one_class_svm"]


@pytest.mark.parametrize("score", ["knn", "one_class_svm"])
def test_places_tell_where(score: str) -> None:
    detector = model("places", score)
    vectors = detector.vectors(hands())
    assert vectors.shape == (6 * 9, 4)  # 3 x 3 of the 4 x 4 places have foreground
    detector.fit(vectors)
    normal, odd = hands(1), hands(1)
    odd[:, :, 36:44, 52:60] = 1
    output = detector(torch.cat([normal, odd]).repeat(1, 3, 1, 1))
    assert output.pred_score[1] > output.pred_score[0]
    assert output.anomaly_map is not None
    assert output.anomaly_map.shape == (2, 64, 64)
    row, column = divmod(int(output.anomaly_map[1].argmax()), 64)
    assert 32 <= row < 48
    assert 48 <= column < 64
    assert (output.anomaly_map[:, :16] == 0).all()


def test_score_of_places_is_the_mean_of_the_highest() -> None:
    detector = model("places", top_k=2)
    detector.fit(detector.vectors(hands()))
    odd = hands(1)
    odd[:, :, 40:, 40:] = 1
    joint = joined(Blocks()(odd)).permute(0, 2, 3, 1).flatten(0, 2)
    by_place = detector.detectors(joint)["knn"].reshape(4, 4)[1:, 1:].flatten().sort().values
    torch.testing.assert_close(detector(odd.repeat(1, 3, 1, 1)).pred_score, by_place[-2:].mean()[None])


def test_without_an_encoder_it_says_what_to_do() -> None:
    detector = LatentModel(None, DetectorBank(), "average", "knn")
    with pytest.raises(XrayError, match="train it"):
        detector(hands().repeat(1, 3, 1, 1))
