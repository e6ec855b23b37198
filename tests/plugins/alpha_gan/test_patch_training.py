from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.checkpoint import load_model
from anomalib_xray_plugins.alpha_gan import AlphaGan
from anomalib_xray_plugins.alpha_gan.patch_training import patch_loss
from anomalib_xray_plugins.bigan import Bigan

IMAGES = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(min=0.1).repeat(1, 3, 1, 1)
BATCHES = [normal_batch(IMAGES[:2]), normal_batch(IMAGES[2:])]
PATCHES = "patch_discriminator"


def small(kind: Any = AlphaGan, **settings: Any) -> Any:
    return kind(**{"image_size": 64, "width": 8, "latent_size": 8, "references": 16, **settings})


def weights(model: Any, network: str) -> torch.Tensor:
    return torch.cat([weight.detach().flatten() for weight in getattr(model.model, network).parameters()])


class FirstPart(Callback):
    """Copies a model as it was when its second epoch began."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            self.state = {name: value.clone() for name, value in pl_module.model.state_dict().items()}


@pytest.mark.parametrize("kind", [AlphaGan, Bigan])
def test_the_last_epochs_train_the_discriminator_of_patches_alone(kind: Any, tmp_path: Path) -> None:
    first = FirstPart()
    settings: Any = {"patch_share": 0.5, "schedule": "cosine"}
    training = fit(small(kind, **settings), BATCHES, tmp_path, epochs=2, callbacks=(first,))
    model: Any = training.model
    untrained = small(kind, **settings).model.state_dict()
    after = {name: value for name, value in model.model.state_dict().items() if "references" not in name}
    changed = {name.partition(".")[0] for name, value in after.items() if not torch.equal(value, first.state[name])}
    assert {PATCHES, f"best_{PATCHES}", "best_auroc"} <= changed <= {PATCHES, f"best_{PATCHES}", "best_auroc", "memory"}
    began = {name.partition(".")[0] for name, value in untrained.items() if not torch.equal(value, first.state[name])}
    assert {"encoder", "generator", "discriminator"} <= began
    assert began.isdisjoint(changed - {"memory"})
    assert "train_patch_discriminator_loss" in training.metrics
    loaded: Any = load_model(training.checkpoint)
    assert 0 < loaded.model.best_auroc <= 1
    assert torch.equal(weights(loaded, f"best_{PATCHES}"), weights(model, PATCHES))


def test_weights_that_tell_patches_less_well_are_not_kept(tmp_path: Path) -> None:
    model = small(patch_share=0.2)
    before = weights(model, "best_patch_discriminator")
    model.model.best_auroc.fill_(1)
    fit(model, BATCHES, tmp_path)
    assert torch.equal(weights(model, "best_patch_discriminator"), before)
    assert not torch.equal(weights(model, PATCHES), before)


def test_without_a_share_there_is_no_discriminator_of_patches() -> None:
    model = small()
    assert [name for name in model.state_dict() if "patch" in name or "best" in name] == []
    assert PATCHES not in model.scores
    with pytest.raises(XrayError, match="score is 'patch_discriminator', but AlphaGan computes"):
        small(score=PATCHES)
    with pytest.raises(XrayError, match=r"patch_share is 1, but it is at least 0 \(no discriminator of patches\)"):
        small(patch_share=1)


def test_a_place_is_foreign_if_one_of_its_pixels_is() -> None:
    rng = np.random.default_rng(0)
    logits, foreign = rng.normal(size=(2, 1, 3, 3)), rng.random((2, 1, 6, 6)).round(2)
    mask = (rng.random((2, 1, 6, 6)) > 0.7).astype(float)
    total = count = 0.0
    for n, i, j in np.ndindex(2, 3, 3):
        block = (n, 0, slice(2 * i, 2 * i + 2), slice(2 * j, 2 * j + 2))
        if mask[block].any():
            probability, wanted = 1 / (1 + np.exp(-logits[n, 0, i, j])), foreign[block].max()
            total -= wanted * np.log(probability) + (1 - wanted) * np.log(1 - probability)
            count += 1
    assert 0 < count < 18
    found = patch_loss(*map(torch.tensor, (logits, foreign, mask)))
    assert float(found) == pytest.approx(total / count)
