from __future__ import annotations

import numpy as np
import pytest
import torch

from anomalib_xray.networks.fc_autoencoder import Reconstruction
from anomalib_xray_plugins.dual_distribution.torch_model import discrepancies


@pytest.mark.parametrize("uncertain", [False, True])
def test_maps_are_those_of_the_formulas(uncertain: bool) -> None:
    random = np.random.default_rng(0)
    x, a, b, s = random.normal(size=(4, 3, 2, 1, 5, 5))
    x = x[0]
    made_a, made_b = (
        [
            Reconstruction(torch.from_numpy(made), torch.from_numpy(variance) if uncertain else None, None)
            for made, variance in zip(values, s, strict=True)
        ]
        for values in (a, b)
    )
    maps = discrepancies(torch.from_numpy(x), made_a, made_b)

    variance = np.exp(s).mean(0) if uncertain else np.ones_like(x)
    own = np.exp(s[0]) if uncertain else 1
    expected = {
        "rec": (x - b[0]) ** 2 / own,
        "rec_ensemble": (x - b.mean(0)) ** 2 / variance,
        "intra": b.std(0) / np.sqrt(variance),
        "inter": np.abs(a.mean(0) - b.mean(0)) / np.sqrt(variance),
    }
    assert maps.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(maps[name].numpy(), values, rtol=1e-10, err_msg=name)


def test_one_network_has_no_spread() -> None:
    made = [Reconstruction(torch.rand(2, 1, 4, 4), None, None)]
    assert (discrepancies(torch.rand(2, 1, 4, 4), made, made)["intra"] == 0).all()
