from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import DBSCAN
from sklearn.decomposition import NMF
from sklearn.svm import OneClassSVM
from torch import Tensor

from anomalib_xray.scores import ReconstructionScorer
from anomalib_xray_plugins.nmf.per_image import OUTLIER_COLUMNS, Outliers, PerImageModel


def model(outliers: Outliers = "dbscan", components: int = 8) -> PerImageModel:
    scorer = ReconstructionScorer(OUTLIER_COLUMNS, 0.03, 0.0)
    return PerImageModel(32, components, "random", 5e-3, outliers, scorer, seed=3).eval()


def image() -> Tensor:
    """``(1, 1, 32, 32)``: rows and columns alike, but for a bright spot; background on the left."""
    pixels = 0.3 + 0.01 * torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    pixels[:, :, 10, 20] = 1
    pixels[:, :, :, :8] = 0
    return pixels


@pytest.mark.parametrize("outliers", ["dbscan", "one_class_svm"])
def test_outliers_are_those_of_the_published_settings(outliers: Outliers) -> None:
    pixels = image()[0, 0].double().numpy()
    nmf = NMF(8, init="random", tol=5e-3, random_state=3)
    left = nmf.fit_transform(255 * pixels)
    marked = []
    for vectors in (left, nmf.components_.T):
        if outliers == "dbscan":
            marked.append(DBSCAN(eps=3, min_samples=2).fit(vectors).labels_ == -1)
        else:
            marked.append(OneClassSVM(kernel="rbf", nu=0.15, gamma=0.001).fit(vectors).predict(vectors) == -1)
    rows, columns = marked
    columns[:8] = False  # background
    assert rows.any()
    assert columns.any()

    output = model(outliers)(image().repeat(1, 3, 1, 1))
    expected = (rows.sum() + columns.sum()) / (32 + 24)
    assert output.pred_score.item() == pytest.approx(expected)
    assert output.anomaly_map is not None
    np.testing.assert_array_equal(output.anomaly_map[0].numpy(), np.outer(rows, columns))


def test_the_bright_spot_is_marked() -> None:
    output = model()(image().repeat(1, 3, 1, 1))
    assert output.anomaly_map is not None
    assert output.anomaly_map[0, 10, 20] == 1


def test_the_product_of_the_factors_is_scored_as_a_reconstruction() -> None:
    found = model(components=32)
    reconstruction = found.reconstruct(image())
    mask = image() > 0
    error = (image() - reconstruction)[mask].square().mean()
    torch.testing.assert_close(found(image().repeat(1, 3, 1, 1)).scores["mse"][0], error)


def test_an_image_without_foreground_has_no_outliers() -> None:
    output = model()(torch.zeros(1, 3, 32, 32))
    assert output.pred_score.item() == 0
    assert output.anomaly_map is not None
    assert not output.anomaly_map.any()
