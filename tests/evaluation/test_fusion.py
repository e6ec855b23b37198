from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import percentileofscore, zscore

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.fusion import Method, ScoreFusion

METHODS: tuple[Method, ...] = ("rank", "z_score", "robust_z_score")
Named = dict[str, NDArray[np.float64]]


@pytest.fixture
def normal() -> Named:
    """Two scores of 40 normal images in units of their own; one has ties, as rounded scores have."""
    random = np.random.default_rng(0)
    return {"Cae/mse": random.gamma(2, 1e-3, 40), "Vae/kld": random.normal(50, 9, 40).round(-1)}


@pytest.fixture
def images() -> Named:
    """Scores of 30 images within the normal ones, in the same units, and one more that is not fused."""
    random = np.random.default_rng(1)
    return {"Cae/mse": random.uniform(1e-3, 3e-3, 30), "Vae/kld": random.uniform(40, 60, 30), "l1": random.random(30)}


def test_rank_of_a_normal_score_is_its_percentile_with_ties_half(normal: Named) -> None:
    found = ScoreFusion("rank").fit(normal)(normal)
    percentiles = [[percentileofscore(values, one, kind="mean") for one in values] for values in normal.values()]
    np.testing.assert_allclose(found, np.mean(percentiles, axis=0) / 100)


def test_rank_between_two_normal_scores_is_between_theirs() -> None:
    fusion = ScoreFusion("rank").fit({"a": [1.0, 2.0, 4.0, 4.0]})
    np.testing.assert_allclose(fusion({"a": [1.0, 2.0, 3.0, 4.0]}), [0.125, 0.375, (0.375 + 0.75) / 2, 0.75])


def test_rank_beyond_the_normal_scores_rises_without_end_and_stays_within_0_and_1() -> None:
    fusion = ScoreFusion("rank").fit({"a": np.linspace(0, 1, 50)})
    beyond = np.concatenate([-np.logspace(6, -3, 40), np.linspace(0, 1, 7), 1 + np.logspace(-3, 6, 40)])
    ranks = fusion({"a": beyond})
    assert (np.diff(ranks) > 0).all()
    assert ranks.min() > 0
    assert ranks.max() < 1
    # one range above the highest normal score, half the way from its rank to 1 is left
    assert fusion({"a": [2.0]})[0] == pytest.approx(0.99 + 0.01 / 2)
    assert fusion({"a": [-1.0]})[0] == pytest.approx(0.01 / 2)


def test_z_score_is_scipys(normal: Named) -> None:
    expected = np.mean([zscore(values) for values in normal.values()], axis=0)
    np.testing.assert_allclose(ScoreFusion("z_score").fit(normal)(normal), expected)


def test_z_score_uses_the_normal_images_alone(normal: Named, images: Named) -> None:
    expected = np.mean([(images[name] - values.mean()) / values.std() for name, values in normal.items()], axis=0)
    np.testing.assert_allclose(ScoreFusion("z_score").fit(normal).transform(images), expected)


def test_robust_z_score_is_not_moved_by_an_odd_image() -> None:
    values = np.random.default_rng(2).normal(3, 2, 4001)
    odd = np.append(values, 1e9)
    deviation = 1.4826 * np.median(np.abs(odd - np.median(odd)))
    found = ScoreFusion("robust_z_score").fit({"a": odd})({"a": values})
    np.testing.assert_allclose(found, (values - np.median(odd)) / deviation)
    assert found.std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_units_of_a_score_do_not_matter(method: Method, normal: Named, images: Named) -> None:
    expected = ScoreFusion(method).fit(normal)(images)
    scaled = [{**scores, "Vae/kld": 1000 * scores["Vae/kld"] - 7} for scores in (normal, images)]
    np.testing.assert_allclose(ScoreFusion(method).fit(scaled[0])(scaled[1]), expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_higher_score_of_one_model_makes_the_image_more_anomalous(
    method: Method, normal: Named, images: Named
) -> None:
    fusion = ScoreFusion(method).fit(normal)
    higher = {**images, "Cae/mse": images["Cae/mse"] * 1.001}
    assert (fusion(higher) > fusion(images)).all()


@pytest.mark.parametrize("method", METHODS)
def test_comes_back_from_json(method: Method, normal: Named, images: Named) -> None:
    fusion = ScoreFusion(method).fit(normal)
    restored = ScoreFusion.from_dict(json.loads(json.dumps(fusion.to_dict())))
    assert restored.method == method
    np.testing.assert_array_equal(restored(images), fusion(images))


@pytest.mark.parametrize("method", METHODS)
def test_an_image_alone_has_the_score_that_it_has_among_others(method: Method, normal: Named, images: Named) -> None:
    fusion = ScoreFusion(method).fit(normal)
    alone = [fusion({name: values[index : index + 1] for name, values in images.items()})[0] for index in range(30)]
    np.testing.assert_array_equal(alone, fusion(images))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({}, "no score to fuse"),
        ({"mse": [1.0]}, "mse has 1 normal images"),
        ({"mse": [0.1, 0.1, 0.1]}, "mse is constant"),
        ({"mse": [1.0, np.nan]}, "mse is not a finite number"),
        ({"mse": [[1.0, 2.0]]}, "mse has the shape"),
    ],
)
def test_refuses_to_fit(method: Method, scores: Named, sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        ScoreFusion(method).fit(scores)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"Cae/mse": [1.0]}, "The score Vae/kld is missing; there are Cae/mse"),
        ({"Cae/mse": [1.0], "Vae/kld": [np.inf]}, "Vae/kld is not a finite number"),
        ({"Cae/mse": [1.0], "Vae/kld": [1.0, 2.0]}, "different numbers of images"),
    ],
)
def test_refuses_to_fuse(normal: Named, scores: Named, sentence: str) -> None:
    with pytest.raises(XrayError, match=sentence):
        ScoreFusion().fit(normal)(scores)


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(XrayError, match="'mean', but scores are fused by rank"):
        ScoreFusion("mean")  # type: ignore[arg-type]  # the mistake under test
    with pytest.raises(XrayError, match="fit it on the scores"):
        ScoreFusion()({"mse": [1.0]})
    with pytest.raises(XrayError, match="half of the normal images"):
        ScoreFusion("robust_z_score").fit({"mse": [1.0, 1.0, 1.0, 2.0]})
    for content in ({}, {"method": "rank"}, {"method": "rank", "scales": {"mse": {"centre": 0.0}}}):
        with pytest.raises(XrayError, match="not the description of a fusion"):
            ScoreFusion.from_dict(content)


def test_is_light_to_import() -> None:
    code = (
        "import sys, anomalib_xray.evaluation.fusion; "
        "print(sorted({'torch', 'pandas', 'anomalib', 'cv2'} & set(sys.modules)))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed == "[]\n"
