"""Last part of an adversarial training, in which a discriminator learns to find patches of other images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, max_pool2d

from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.networks.gan_network import AT_A_TIME, TrunkGan, patch_errors
from anomalib_xray.networks.patch_discriminator import PatchDiscriminator
from anomalib_xray.networks.places import shown_places
from anomalib_xray.networks.sagan import to_tanh_range
from anomalib_xray.scores import PATCH_DISCRIMINATOR, PATCH_SCORES, error_scores, foreground
from anomalib_xray.training.gan_model import GanModel
from anomalib_xray.training.trained_model import Phases, check_share
from anomalib_xray_plugins.pseudo_lesion.lesions import Lesions, paint_lesions

SIZES = (0.06, 0.25)
"""Least and largest side of a patch, as shares of the image's side: one to four of the places that are judged."""

LEARNT = Lesions(tasks=("foreign_patch",), sizes=SIZES, count=2)
"""What is learnt: patches of other images, mixed in. Those that are blended in without an edge are not learnt at 64
pixels."""

ASKED = Lesions(tasks=("cut_paste",), sizes=SIZES, count=1)
"""What tells the best epoch: another kind, patches of the same image."""

JUDGES = 256
"""Images of an epoch that are painted to tell how good it is."""

CLEAR = 0.3
"""Least share of the other image in a patch that is to be found."""


class PatchTraining(GanModel):
    """Mixin of a GAN on a :class:`~anomalib_xray.networks.gan_network.TrunkGan`: a discriminator of patches.

    In the last epochs patches of other images of the batch are blended into the images' foreground, and a discriminator
    of places learns where. What it tells of real anomalies may fall again where it learns too long, so the weights that
    score are those of the epoch that told patches of another kind best from the training images as they are; no label
    is needed for that. The adversaries, and so all other scores, stay as they were.

    A plugin writes its adversarial step in :meth:`adversarial_step`, adds :meth:`patch_player` to its players, and
    builds its network with ``patches`` where ``patch_share`` is above 0.

    Args:
        patch_share: Share of the epochs, at the end, that train the discriminator of patches; 0 for none.
    """

    model: TrunkGan
    top_k: float

    def __init__(self, patch_share: float = 0.0, **settings: Any) -> None:
        super().__init__(**settings)
        check_share("patch_share", patch_share, "no discriminator of patches", 0.5)
        self.patch_share = patch_share
        self._judged_at = -1

    def scores_of_patches(self, scores: Sequence[str]) -> list[str]:
        """The scores that there are: those of patches only where these are learnt."""
        return [name for name in scores if self.hparams["patch_share"] or name not in PATCH_SCORES]

    def patch_player(self) -> dict[str, tuple[Sequence[nn.Module], float]]:
        """The discriminator of patches as a player, if there is one."""
        network = self.model.patch_discriminator
        return {} if network is None else {PATCH_DISCRIMINATOR: ([network], self.learning_rate)}

    def part_of(self, player: str) -> int | None:
        """The discriminator of patches is trained last."""
        return int(player == PATCH_DISCRIMINATOR) if self.patch_share else None

    def phases(self) -> Phases:
        """The adversaries, then the discriminator of patches; in each step all of them where this is not divided."""
        if not self.patch_share:
            return Phases()
        self.check_end("patch_share", self.patch_share, "patch_share: 0")
        return Phases.by_share(1 - self.patch_share, self.trainer.max_epochs)

    def adversarial_step(self, image: Tensor) -> None:
        """Updates the adversaries on images ``(N, 1, S, S)`` in [0, 1]."""
        raise NotImplementedError

    def training_step(self, batch: ImageBatch, *_: Any) -> None:
        """Updates the players of this part of the training."""
        image = self.grey(batch)
        self.keep(image)
        if self.plays():
            self.adversarial_step(image)
        if self._learns_patches():
            self._patch_step(image)

    def _learns_patches(self) -> bool:
        """Whether the current epoch trains the discriminator of patches."""
        return bool(self.patch_share) and self.phases().of(self.current_epoch) != 0

    def _patch_step(self, image: Tensor) -> None:
        """Updates the discriminator of patches."""
        network = self._patches()
        self.turn_of(PATCH_DISCRIMINATOR)
        seeds = torch.randint(2**63 - 1, (len(image),)).tolist()
        painted, foreign = self._painted(image, LEARNT, seeds)
        loss = patch_loss(network(to_tanh_range(painted)), foreign, foreground(painted))
        self.update(PATCH_DISCRIMINATOR, loss)
        if not self.plays():  # otherwise the adversarial step has done it
            self.step_schedules()
        self.log_losses({f"{PATCH_DISCRIMINATOR}_loss": loss}, len(image))

    def remember(self) -> None:
        """Stores features, and keeps the discriminator of patches if it is better than before."""
        super().remember()
        if not self.seen or not self._learns_patches() or self._judged_at == self.global_step:
            return
        self._judged_at = self.global_step
        network = self._patches()
        auroc = self.trainer.strategy.reduce(self._auroc(network), reduce_op="mean")
        if auroc > self.model.best_auroc:
            self.model.best_auroc.copy_(auroc)
            best = self.model.best_patch_discriminator
            assert best is not None  # there is one where patches are learnt
            best.load_state_dict(network.state_dict())

    @torch.no_grad()
    def _auroc(self, network: PatchDiscriminator) -> Tensor:
        """How well it tells images with a patch of another kind from those of the epoch as they are."""
        images = torch.cat(self.seen)[:JUDGES]
        painted, foreign = self._painted(images, ASKED, range(len(images)))
        clear = foreign.amax((1, 2, 3)) > CLEAR
        if not clear.any():
            return torch.tensor(0.5, device=self.device)
        both = torch.cat([images, painted[clear]])
        errors = torch.cat([patch_errors(network, part) for part in torch.split(both, AT_A_TIME)])
        scores = (
            error_scores({PATCH_DISCRIMINATOR: errors}, foreground(both), self.top_k)[PATCH_SCORES[1]].cpu().numpy()
        )
        truth = np.arange(len(both)) >= len(images)
        return torch.tensor(Ranking(truth, scores).auroc().item(), device=self.device)

    def _painted(self, image: Tensor, lesions: Lesions, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images with patches, in single precision."""
        with torch.autocast(self.device.type, enabled=False):
            return paint_lesions(image, lesions, seeds)

    def _patches(self) -> PatchDiscriminator:
        network = self.model.patch_discriminator
        assert network is not None  # there is one where patches are learnt
        return network


def patch_loss(logits: Tensor, foreign: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of places with foreground under them.

    Args:
        logits: ``(N, 1, h, w)``.
        foreign: How foreign each pixel is, from 0 to 1, ``(N, 1, H, W)``; the largest of a place is its label.
        mask: 1 in the foreground and 0 outside, ``(N, 1, H, W)``.

    Example:
        >>> foreign = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])
        >>> patch_loss(torch.zeros(1, 1, 1, 1), foreign, torch.ones(1, 1, 2, 2))
        tensor(0.6931)
    """
    wanted, shown = max_pool2d(foreign, mask.shape[-1] // logits.shape[-1]), shown_places(logits, mask)
    loss = binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (loss * shown).sum() / shown.sum().clamp(min=1)
