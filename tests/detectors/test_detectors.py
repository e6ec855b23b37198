from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from sklearn.cluster import DBSCAN
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM
from torch import Tensor

from anomalib_xray.detectors import (
    DETECTORS,
    USUAL_DETECTORS,
    Dbscan,
    Detector,
    DetectorBank,
    DetectorSettings,
    LocalScale,
    Mahalanobis,
    NearestNeighbours,
    OneClassSvm,
    Projection,
    Subspace,
    check_detectors,
)
from anomalib_xray.detectors.distances import nearest_distances, squared_distances
from anomalib_xray.errors import XrayError

Make = Callable[[], Detector]


def local() -> Detector:
    return LocalScale(NearestNeighbours(2), neighbours=5)


ALL: list[Make] = [NearestNeighbours, Mahalanobis, OneClassSvm, Dbscan, Subspace, local]


def normal(count: int = 80, seed: int = 0) -> NDArray[np.float64]:
    """Two groups in 6 dimensions, the first of which varies most."""
    generator = np.random.default_rng(seed)
    group = generator.integers(0, 2, (count, 1))
    return generator.normal(3 * group, np.array([2.0, 1.0, 1.0, 0.5, 0.5, 0.2]), (count, 6))


def fitted(detector: Detector, features: NDArray[np.float64] | None = None) -> Detector:
    detector.fit(torch.from_numpy(normal() if features is None else features).float())
    return detector


def score(detector: Detector, features: NDArray[np.float64]) -> NDArray[np.float64]:
    scores: Tensor = detector(torch.from_numpy(features).float())
    return scores.double().numpy()


def test_neighbours_are_those_of_scikit_learn() -> None:
    distances, _ = NearestNeighbors(n_neighbors=3).fit(normal()).kneighbors(normal(20, 1))
    np.testing.assert_allclose(score(fitted(NearestNeighbours(3)), normal(20, 1)), distances.mean(1), rtol=1e-5)


def test_distance_to_the_subspace_is_what_principal_components_leave() -> None:
    centred = normal(20, 1) - normal().mean(0)
    variance, directions = np.linalg.eigh(np.cov(normal().T))
    explained = np.cumsum(variance[::-1]) / variance.sum()
    kept = directions[:, ::-1][:, : int(np.searchsorted(explained, 0.9)) + 1]
    expected = np.sqrt((centred**2).sum(1) - ((centred @ kept) ** 2).sum(1))
    np.testing.assert_allclose(score(fitted(Subspace(0.9)), normal(20, 1)), expected, rtol=1e-4)


def test_what_one_image_has_is_all_that_is_normal() -> None:
    np.testing.assert_allclose(score(fitted(Subspace(), np.ones((1, 2))), np.array([[1.0, 3.0]])), [2.0])


def test_local_scale_is_what_the_nearest_training_images_have_out_of_sample() -> None:
    vectors, order = normal(40), np.random.default_rng(0).permutation(40)
    of_training = np.empty(40)
    for part in np.array_split(order, 10):
        others = NearestNeighbors(n_neighbors=2).fit(np.delete(vectors, part, axis=0))
        of_training[part] = others.kneighbors(vectors[part])[0].mean(1)
    distances = cdist(normal(20, 1), vectors)
    nearest = np.argsort(distances, axis=1)[:, :6]
    near = np.take_along_axis(distances, nearest, axis=1)
    weights = near[:, 5:] - near
    expected = (weights * of_training[nearest]).sum(1) / weights.sum(1)
    scores = np.sort(distances, axis=1)[:, :2].mean(1) / expected
    np.testing.assert_allclose(score(fitted(local(), vectors), normal(20, 1)), scores, rtol=1e-4)


def test_images_of_a_rare_kind_are_as_usual_as_others() -> None:
    vectors = np.concatenate([normal(100), 50 + 9 * normal(20, 1)])
    often, rare = normal(50, 2), 50 + 9 * normal(50, 3)
    plain, local_scale = (fitted(detector, vectors) for detector in (NearestNeighbours(2), local()))
    assert score(plain, rare).mean() > 8 * score(plain, often).mean()
    assert score(local_scale, rare).mean() == pytest.approx(score(local_scale, often).mean(), rel=0.3)


def test_a_score_that_is_no_distance_has_no_local_scale() -> None:
    with pytest.raises(XrayError, match=r"one_class_svm is none; name other detectors"):
        DetectorBank(["knn", "one_class_svm"], DetectorSettings(local=5))


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_a_subspace_holds_a_share(share: float) -> None:
    with pytest.raises(XrayError, match=r"^subspace_share is .* between 0 and 1"):
        Subspace(share)


def test_a_training_image_is_its_own_neighbour() -> None:
    np.testing.assert_array_equal(score(fitted(NearestNeighbours(1)), normal()), np.zeros(80))


@pytest.mark.parametrize("subset", ["random", "coreset"])
def test_neighbours_are_limited(subset: str) -> None:
    detector = NearestNeighbours(2, limit=7, subset=subset)  # type: ignore[arg-type]  # both are allowed
    fitted(detector)
    assert detector.references.shape == (7, 6)
    everything = {tuple(row) for row in torch.from_numpy(normal()).float().tolist()}
    kept = {tuple(row) for row in detector.references.tolist()}
    assert kept <= everything
    assert len(kept) == 7


def test_a_coreset_covers_better_than_chance() -> None:
    features = np.concatenate([np.random.default_rng(0).normal(size=(200, 2)), [[30.0, 30.0]]])
    farthest = {
        subset: score(fitted(NearestNeighbours(1, 10, subset), features), features).max()  # type: ignore[arg-type]
        for subset in ("random", "coreset")
    }
    assert farthest["coreset"] < 0.2 * farthest["random"]


def test_mahalanobis_distance_is_that_of_scikit_learn() -> None:
    expected = LedoitWolf().fit(normal()).mahalanobis(normal(20, 1)) ** 0.5
    np.testing.assert_allclose(score(fitted(Mahalanobis()), normal(20, 1)), expected, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.05, "scale"])
def test_support_vector_machine_is_that_of_scikit_learn(gamma: float | str) -> None:
    machine = OneClassSVM(nu=0.2, gamma=gamma).fit(normal())
    some = normal(20, 1)
    scores = score(fitted(OneClassSvm(0.2, gamma)), some)  # type: ignore[arg-type]  # both are allowed
    np.testing.assert_allclose(scores, -np.log(machine.score_samples(some) / machine.offset_), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scores > 0, machine.decision_function(some) < 0)


def test_far_away_the_support_vector_machine_still_tells_how_far() -> None:
    detector = fitted(OneClassSvm(0.2, 0.5))
    far = np.zeros((3, 6))
    far[:, 0] = 50, 100, 200
    scores = score(detector, far)
    assert np.isfinite(scores).all()
    assert (np.diff(scores) > 0).all()


def test_sweep_takes_the_narrowest_kernel_that_holds_out_of_sample() -> None:
    features = normal(200)
    detector = OneClassSvm(0.1, "sweep")
    fitted(detector, features)
    chosen = float(detector.width)
    scale = 1 / (6 * features.var())
    factor = chosen / scale
    assert np.log2(factor) == pytest.approx(round(np.log2(factor)), abs=1e-5)
    fresh = normal(2000, 5)
    assert (score(detector, fresh) > 0).mean() < 0.1 + 2 * np.sqrt(0.09 / 200) + 0.03
    narrower = fitted(OneClassSvm(0.1, 4 * chosen), features)
    assert (score(narrower, fresh) > 0).mean() > (score(detector, fresh) > 0).mean()


def test_dbscan_is_distance_to_core_samples() -> None:
    features = normal()
    machine = DBSCAN(eps=1.5, min_samples=4).fit(features)
    cores = features[machine.core_sample_indices_]
    assert 0 < len(cores) < len(features)
    some = normal(20, 1)
    expected = np.linalg.norm(some[:, None] - cores, axis=2).min(1) / 1.5
    detector = fitted(Dbscan(1.5, 4))
    np.testing.assert_allclose(score(detector, some), expected, rtol=1e-5)
    np.testing.assert_array_equal(score(detector, features) > 1, machine.labels_ == -1)


def test_dbscan_finds_a_radius_in_which_most_images_are_dense() -> None:
    detector = Dbscan(min_samples=5)
    fitted(detector)
    assert len(detector.cores) == pytest.approx(0.9 * 80, abs=1)


def test_dbscan_without_a_dense_region_is_refused() -> None:
    with pytest.raises(XrayError, match="raise eps"):
        fitted(Dbscan(eps=1e-6, min_samples=2))


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize("components", [None, 3, 0.9])
def test_projection_is_that_of_scikit_learn(components: float | None, whiten: bool) -> None:
    features, some = normal(), normal(20, 1)
    steps = (
        [StandardScaler()] if components is None and not whiten else [StandardScaler(), PCA(components, whiten=whiten)]
    )
    expected = make_pipeline(*steps).fit(features).transform(some)
    projection = Projection(components, whiten)
    projection.fit(torch.from_numpy(features).float())
    found = projection(torch.from_numpy(some).float()).numpy()
    signs = np.sign((found * expected).sum(0))  # a direction may point either way
    np.testing.assert_allclose(found, expected * signs, rtol=1e-4, atol=1e-5)


def test_a_constant_feature_does_not_count() -> None:
    features = normal()
    features[:, 2] = 7
    bank = DetectorBank()
    bank.fit(torch.from_numpy(features).float())
    for name, scores in bank(torch.from_numpy(features[:3]).float()).items():
        assert scores.isfinite().all(), name


# All but the subspace: the shift lies in the direction between the two groups.
@pytest.mark.parametrize("make", [make for make in ALL if make is not Subspace])
def test_unusual_vectors_have_higher_scores(make: Make) -> None:
    detector = fitted(make())
    assert score(detector, normal(20, 1) + 8).min() > score(detector, normal(20, 1)).max()


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_images_are_enough(make: Make, count: int) -> None:
    detector = fitted(make(), normal(count))
    assert np.isfinite(score(detector, normal(4, 1))).all()


@pytest.mark.parametrize("make", ALL)
def test_equal_images_are_enough(make: Make) -> None:
    detector = fitted(make(), np.repeat(normal(1), 20, 0))
    scores = score(detector, np.concatenate([normal(1), normal(1) + 1]))
    assert np.isfinite(scores).all()
    assert scores[1] > scores[0]


@pytest.mark.parametrize("make", ALL)
def test_nothing_is_found_before_it_is_fitted(make: Make) -> None:
    np.testing.assert_array_equal(score(make(), normal(3)), np.zeros(3))


@pytest.mark.parametrize("make", ALL)
def test_state_dict_restores_a_detector_of_another_size(make: Make) -> None:
    detector = fitted(make())
    restored = fitted(make(), normal(7)[:, :2])
    restored.load_state_dict(detector.state_dict())
    np.testing.assert_array_equal(score(restored, normal(20, 1)), score(detector, normal(20, 1)))
    assert not list(restored.parameters())


@pytest.mark.parametrize("make", ALL)
def test_fitting_again_forgets(make: Make) -> None:
    again = fitted(fitted(make(), normal(30, 3)))
    np.testing.assert_array_equal(score(again, normal(20, 1)), score(fitted(make()), normal(20, 1)))


@pytest.mark.parametrize("features", [torch.empty(0, 3), torch.ones(3), torch.tensor([[1.0, torch.nan]])])
def test_what_cannot_be_fitted_to_is_refused(features: Tensor) -> None:
    with pytest.raises(XrayError, match="train"):
        Mahalanobis().fit(features)


def test_bank_gives_the_chosen_detectors_after_the_projection() -> None:
    bank = DetectorBank(["dbscan", "knn"], DetectorSettings(components=2, neighbours=1, min_samples=3))
    features, some = torch.from_numpy(normal()).float(), torch.from_numpy(normal(9, 1)).float()
    assert all((scores == 0).all() for scores in bank(some).values())
    bank.fit(features)
    scores = bank(some)
    assert list(scores) == ["knn", "dbscan"]
    neighbours = NearestNeighbours(1)
    neighbours.fit(bank.projection(features))
    torch.testing.assert_close(scores["knn"], neighbours(bank.projection(some)))
    assert bank.projection(some).shape == (9, 2)


def test_bank_knows_all_names() -> None:
    assert tuple(DetectorBank(DETECTORS).detectors) == DETECTORS
    assert tuple(DetectorBank().detectors) == USUAL_DETECTORS
    with pytest.raises(XrayError, match="forest"):
        check_detectors(["knn", "forest"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: NearestNeighbours(0),
        lambda: LocalScale(Mahalanobis(), 0),
        lambda: NearestNeighbours(1, 0),
        lambda: OneClassSvm(1.5),
        lambda: OneClassSvm(0.1, -1),
        lambda: OneClassSvm(0.1, "auto"),
        lambda: Dbscan(0),
        lambda: Dbscan(None, 0),
        lambda: Projection(0),
        lambda: Projection(2.5),
    ],
)
def test_wrong_settings_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(XrayError, match="is "):
        make()


def test_squared_distances_are_those_of_scipy() -> None:
    generator = np.random.default_rng(0)
    some, others = generator.normal(5, 1, (5, 10)), generator.normal(5, 1, (13, 10))
    found = squared_distances(torch.from_numpy(some), torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, cdist(some, others, "sqeuclidean"), rtol=1e-10)


@pytest.mark.parametrize("count", [1, 4, 13])
def test_nearest_distances_are_the_smallest(count: int) -> None:
    generator = np.random.default_rng(0)
    some, others = generator.normal(size=(5, 10)), generator.normal(size=(13, 10))
    found = nearest_distances(torch.from_numpy(some), torch.from_numpy(others), count).numpy()
    np.testing.assert_allclose(found, np.sort(cdist(some, others))[:, :count], rtol=1e-10)


def test_small_distances_far_from_the_origin_survive_single_precision() -> None:
    some = torch.tensor([[1000.0, 1000.0, 1000.0, 1000.0], [-7.0, 3.0, 0.0, 1.0]])
    found = nearest_distances(some[:1], some + 2**-10, 1)
    assert found.item() == 2 * 2**-10
