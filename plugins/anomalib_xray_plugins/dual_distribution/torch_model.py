"""The two ensembles as one module, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anomalib_xray.networks.fc_autoencoder import FcAutoencoder, Reconstruction, squared_error
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import ScoredBatch, SmoothedErrorMap, error_scores, foreground
from anomalib_xray_plugins.dual_distribution.refinement import REFINED_MAPS, Refinement, Refiner

DISCREPANCIES = ("rec", "rec_ensemble", "intra", "inter")
"""Names of the maps of two ensembles."""


def discrepancies(
    image: Tensor, made_a: Sequence[Reconstruction], made_b: Sequence[Reconstruction]
) -> dict[str, Tensor]:
    """Compares the reconstructions of modules A and B.

    Args:
        image: ``(N, 1, S, S)`` in [-1, 1].
        made_a: Reconstructions by each network of A, which also knows unlabelled images.
        made_b: Reconstructions by each network of B, which knows normal images only.

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


LARGEST_SEED = 2**31 - 1


class DualDistributionModel(nn.Module):
    """Modules A and B, each K networks, and the refinement.

    The networks lie side by side instead of in one stack of weights: on a CPU grouped convolutions, products of batches
    of matrices and ``vmap`` all take longer than one network after the other (``benchmarks/ensemble.py``).

    Args:
        make_network: Makes one network; called 2K times, each time under a seed of its own.
        members: Number K of networks in each module (3 as published).
        refinement: See ``DualDistribution``, as for the arguments that follow.

    Attributes:
        module_a: Networks trained with unlabelled images.
        module_b: Networks trained on normal images only.
        member_seeds: Seeds of the networks' weights and of their orders of the images, A's before B's, ``(2K,)``.
    """

    member_seeds: Tensor

    def __init__(
        self,
        make_network: Callable[[], FcAutoencoder],
        members: int = 3,
        refinement: Refinement = "none",
        refinement_width: int = 128,
        masked: bool = True,
        score: str = "inter",
        top_k: float = 0.03,
        map_sigma: float = 1.0,
    ) -> None:
        super().__init__()
        self.register_buffer("member_seeds", torch.randint(LARGEST_SEED, (2 * members,)))
        networks = []
        for seed in self.member_seeds.tolist():
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(seed)
                networks.append(make_network())
        self.module_a = nn.ModuleList(networks[:members])
        self.module_b = nn.ModuleList(networks[members:])
        self.refined_maps = REFINED_MAPS[refinement]
        self.refined_name = f"r_{refinement}"
        self.refiner = Refiner(len(self.refined_maps), refinement_width) if self.refined_maps else None
        self.masked = masked
        self.score = score
        self.top_k = top_k
        self.anomaly_map = SmoothedErrorMap(map_sigma)

    def discrepancies(self, image: Tensor) -> dict[str, Tensor]:
        """Maps of images ``(N, 1, S, S)`` in [0, 1]; see :func:`discrepancies`."""
        image = to_tanh_range(image)
        made_a = [network(image) for network in self.module_a]
        made_b = [network(image) for network in self.module_b]
        return discrepancies(image, made_a, made_b)

    def refine(self, maps: dict[str, Tensor]) -> Tensor:
        """Probabilities of normal and anomalous, ``(N, 2, S, S)``, from discrepancy maps."""
        assert self.refiner is not None  # called with a refinement only
        probabilities: Tensor = self.refiner(torch.cat([maps[name] for name in self.refined_maps], 1))
        return probabilities

    def forward(self, batch: Tensor) -> ScoredBatch:
        """Scores pre-processed images ``(N, 3, S, S)`` in [0, 1]; training drives the networks one by one."""
        image = batch.mean(1, keepdim=True)
        maps = self.discrepancies(image)
        if self.refiner is not None:
            maps[self.refined_name] = self.refine(maps)[:, 1:]
        mask = foreground(image)
        scores = error_scores(maps, mask if self.masked else torch.ones_like(mask), self.top_k)
        return ScoredBatch.of(scores, self.score, self.anomaly_map(maps[self.score.removesuffix("_top_k")], mask))


def score_names(refinement: Refinement) -> tuple[str, ...]:
    """Scores that a model with this refinement computes."""
    names = DISCREPANCIES if refinement == "none" else (*DISCREPANCIES, f"r_{refinement}")
    return tuple(name + ending for name in names for ending in ("", "_top_k"))
