"""Part of the contract: checkpoints hold all that a model needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anomalib_xray.testing.base import (
    IMAGE_QUANTILE,
    ContractBase,
    Training,
    assert_same_weights,
    fit,
    normal_batch,
    prepared,
    score,
)


class StorageContract(ContractBase):
    """A model comes back from its checkpoint as it was, to be used or to be trained on."""

    def test_checkpoint_loads_safely(self, trained: Training) -> None:
        """The checkpoint holds plain data only, so that opening somebody else's runs no code."""
        with torch.serialization.safe_globals(list(self.model.checkpoint_safe_globals())):
            checkpoint = torch.load(trained.checkpoint, weights_only=True, map_location="cpu")
        assert {"state_dict", "optimizer_states", "epoch", "hyper_parameters"} <= checkpoint.keys()

    def test_checkpoint_restores_the_model(self, trained: Training) -> None:
        """``load_from_checkpoint`` needs no arguments and gives the same scores and the same decisions."""
        restored = self.model.load_from_checkpoint(trained.checkpoint, map_location="cpu").eval()
        images = prepared(trained.model)
        expected = score(trained.model, images)
        found = score(restored, images)
        for name, values in expected.scores.items():
            assert torch.equal(found.scores[name], values), name
        with torch.no_grad():
            decided, decided_before = restored(images), trained.model(images)
        for output, before in zip(decided, decided_before, strict=True):
            assert (output is None and before is None) or torch.equal(output, before)

    def test_checkpoint_restores_settings(self, trained: Training) -> None:
        """Settings, pre-processor and post-processor come back, also where they are not the default ones."""
        restored = self.model.load_from_checkpoint(trained.checkpoint, map_location="cpu")
        settings = {name: trained.model.hparams[name] for name in self.settings}
        assert {name: restored.hparams[name] for name in self.settings} == settings
        for name in ("pre_processor", "post_processor"):
            found, expected = getattr(restored, name), getattr(trained.model, name)
            assert found.checkpoint_config() == expected.checkpoint_config(), name
        post_processor: Any = restored.post_processor
        assert post_processor.image_quantile == IMAGE_QUANTILE
        for name in ("image_threshold", "image_min", "image_max"):
            value = getattr(post_processor, name)
            assert value.isfinite(), name
            assert torch.equal(value, getattr(trained.model.post_processor, name)), name

    def test_interrupted_training_goes_on(self, tmp_path: Path) -> None:
        """One epoch, a checkpoint and a second epoch give what two epochs give: weights, optimisers and steps.

        Batches are fixed here. What remains is the state of the model, of its optimisers and of the random number
        generators, and all of it must be in the checkpoint.
        """
        images = prepared(self.make_model())
        batches = [normal_batch(images[:2]), normal_batch(images[2:])]

        def run(name: str, epochs: int, resume: Path | None = None) -> Training:
            return fit(self.make_model(), batches, tmp_path / name, epochs=epochs, resume=resume)

        whole = run("whole", 2)
        interrupted = run("interrupted", 1)
        resumed = run("resumed", 2, interrupted.checkpoint)
        states = [_load(self.model, training.checkpoint) for training in (resumed, whole)]
        assert [state["epoch"] for state in states] == [1, 1]
        assert states[0]["global_step"] == states[1]["global_step"]
        assert_same_weights(resumed.model, whole.model)
        _assert_equal(states[0]["optimizer_states"], states[1]["optimizer_states"])


def _load(model: Any, checkpoint: Path) -> dict[str, Any]:
    with torch.serialization.safe_globals(list(model.checkpoint_safe_globals())):
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return state


def _assert_equal(found: object, expected: object) -> None:
    """Compares nested states of optimisers; no tolerance, because nothing was computed in another order."""
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
