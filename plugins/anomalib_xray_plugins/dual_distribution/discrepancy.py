"""How two ensembles disagree, pixel by pixel.

Source: Cai et al. 2022 (2206.03935), section 2.2 and, with uncertainty, section 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anomalib_xray.components.fc_autoencoder import Made, squared_error

DISCREPANCIES = ("rec", "rec_ensemble", "intra", "inter")
"""Names of the maps of two ensembles."""


def discrepancies(image: Tensor, made_a: Sequence[Made], made_b: Sequence[Made]) -> dict[str, Tensor]:
    """Compares what the networks of modules A and B make of images.

    Args:
        image: ``(N, 1, S, S)`` in [-1, 1].
        made_a: What each network of A made of it; A also knows unlabelled images.
        made_b: What each network of B made of it; B knows normal images only.

    Returns:
        Four maps, each at least 0, ``(N, 1, S, S)``; m is the mean of an ensemble's reconstructions, V the mean
        variance that B predicts, 1 where it predicts none:

        * ``rec``: ``(x - x')^2 / v`` of the first network of B, v its own variance;
        * ``rec_ensemble``: ``(x - m_B)^2 / V``;
        * ``intra``: the standard deviation (of a population) of B's reconstructions over ``sqrt(V)``;
        * ``inter``: ``|m_A - m_B| / sqrt(V)``.
    """
    images_b = torch.stack([made.image for made in made_b])
    mean_a = torch.stack([made.image for made in made_a]).mean(0)
    mean_b = images_b.mean(0)
    maps = {
        "rec": squared_error(made_b[0], image),
        "rec_ensemble": (image - mean_b).square(),
        "intra": (images_b - mean_b).square().mean(0).sqrt(),
        "inter": (mean_a - mean_b).abs(),
    }
    logarithms = [made.log_variance for made in made_b if made.log_variance is not None]
    if logarithms:
        variance = torch.stack(logarithms).exp().mean(0)
        maps["rec_ensemble"] = maps["rec_ensemble"] / variance
        maps["intra"] = maps["intra"] / variance.sqrt()
        maps["inter"] = maps["inter"] / variance.sqrt()
    return maps
