from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anomalib_xray.phantom.film import Film, expose, sample_film

CLEAN = Film(1.0, 10, 250, photons=1e12, scatter=0, vignette=0, vignette_centre=(0.5, 0.5))


def test_the_response_follows_the_formula() -> None:
    attenuation = np.full((40, 40), 0.7, np.float32)
    grey = expose(attenuation, CLEAN, np.random.default_rng(0))
    assert grey == pytest.approx(np.full((40, 40), np.rint(10 + 240 * (1 - np.exp(-0.7)))))


def test_dense_matter_is_noisier_as_fewer_photons_are_left() -> None:
    noisy = dataclasses.replace(CLEAN, photons=2000)
    attenuation = np.zeros((200, 100), np.float32)
    attenuation[100:] = 1.5
    grey = expose(attenuation, noisy, np.random.default_rng(0)).astype(float)
    # The response is flatter where it is bright; the noise in the attenuation is what grows with exp(A / 2).
    spread = [np.std(-np.log(1 - (part - 10) / 240)) for part in (np.maximum(grey[5:90], 10), grey[110:195])]
    assert spread[1] > 1.5 * spread[0]


def test_vignetting_darkens_the_corners() -> None:
    dim = dataclasses.replace(CLEAN, vignette=0.3)
    grey = expose(np.full((101, 101), 1.0, np.float32), dim, np.random.default_rng(0))
    assert grey[0, 0] == pytest.approx(grey[50, 50] * 0.7, abs=1)


def test_prepared_films_have_a_dark_ground() -> None:
    blacks = [sample_film(np.random.default_rng(seed), prepared=True).black for seed in range(30)]
    assert max(blacks) <= 12
    assert max(sample_film(np.random.default_rng(seed), prepared=False).black for seed in range(30)) > 25
