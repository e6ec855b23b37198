from __future__ import annotations

import numpy as np
import torch

from anomalib_xray.scores import discriminator_score


def test_is_minus_log_probability_of_real() -> None:
    logit = torch.linspace(-30, 30, 121, dtype=torch.float64)
    probability = 1 / (1 + np.exp(-logit.numpy()))
    np.testing.assert_allclose(discriminator_score(logit), -np.log(probability), rtol=1e-6, atol=1e-14)


def test_ranks_as_the_published_score() -> None:
    logit = torch.from_numpy(np.random.default_rng(0).normal(0, 5, 200))
    published = 1 - torch.sigmoid(logit)
    assert torch.equal(discriminator_score(logit).argsort(), published.argsort())


def test_does_not_tie_where_the_published_score_does() -> None:
    very_fake = torch.tensor([-20.0, -25.0, -100.0, -1000.0])
    assert len((1 - torch.sigmoid(very_fake)).unique()) == 1
    score = discriminator_score(very_fake)
    assert (score.diff() > 0).all()
    assert torch.isfinite(score).all()
