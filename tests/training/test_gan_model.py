from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.checkpoint import load_model
from anomalib_xray_plugins.alpha_gan import AlphaGan
from anomalib_xray_plugins.ano_gan import AnoGan
from anomalib_xray_plugins.dcgan import Dcgan

IMAGES = torch.rand(20, 1, 64, 64, generator=torch.Generator().manual_seed(0)).repeat(1, 3, 1, 1)
BATCHES = [normal_batch(IMAGES[:8]), normal_batch(IMAGES[8:16]), normal_batch(IMAGES[16:])]
FAST = {"spectral_norm": False, "discriminator_learning_rate": 0.02}

MODELS: dict[str, Callable[..., Any]] = {
    "AlphaGan": lambda **settings: AlphaGan(image_size=64, width=8, latent_size=16, **settings),
    "Dcgan": lambda **settings: Dcgan(image_size=64, width=4, latent_size=16, references=8, **settings),
    "AnoGan": lambda **settings: AnoGan(width=4, latent_size=16, search_steps=1, **settings),
}
every_model = pytest.mark.parametrize("name", MODELS)


def rows(model: Any, images: Tensor) -> Tensor:
    """Rows that minibatch discrimination stores of images: M = f(x) T, by the weights as they are."""
    network, image = model.model.discriminator, 2 * model.pre_processor(images)[:, :1] - 1
    layer = network.minibatch
    with torch.no_grad():
        if isinstance(model, AlphaGan):
            features = network.trunk(image).flatten(1)
        else:
            features = network.vector(network.features(image)[-1])
        found = features @ (layer.up.weight @ layer.down.weight).T
    return found.reshape(len(image), *layer.shape)


def stored(model: Any) -> Tensor:
    layer = model.model.discriminator.minibatch
    found: Tensor = layer.references[: int(layer.stored)]
    return found


def in_some_order(found: Tensor, expected: Tensor) -> bool:
    """Whether both have the same rows."""
    if found.shape != expected.shape:
        return False
    exact = "donot_use_mm_for_euclid_dist"  # matrix products round away small distances
    distance = torch.cdist(found.flatten(1), expected.flatten(1), compute_mode=exact) / expected.norm()
    return bool((distance.amin(0) < 1e-4).all() and (distance.amin(1) < 1e-4).all())


class Watch(Callback):
    """Saves a checkpoint after the second step, and checks what a validation would compare with there."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint
        self.fits: list[bool] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, _: Any, __: Any, batch_idx: int) -> None:
        if batch_idx != 1:
            return
        self.fits.append(in_some_order(stored(pl_module), rows(pl_module, IMAGES[:16])))
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.checkpoint)
        else:
            pl_module.on_validation_start()
        self.fits.append(in_some_order(stored(pl_module), rows(pl_module, IMAGES[:16])))


@every_model
def test_stored_features_are_of_the_weights_that_are_evaluated(name: str, tmp_path: Path) -> None:
    watch = Watch(tmp_path / "within.ckpt")
    training = fit(MODELS[name](**FAST), BATCHES, tmp_path, epochs=2, callbacks=(watch,))
    model = training.model
    assert watch.fits == [False, True] * 2
    # The epoch's 20 images once each: what there is room for besides is not filled with those of older weights.
    assert in_some_order(stored(model), rows(model, IMAGES))
    assert model.seen == []  # type: ignore[comparison-overlap]  # a list of tensors

    for checkpoint, count in ((watch.checkpoint, 16), (training.checkpoint, 20)):
        loaded = load_model(checkpoint)
        assert in_some_order(stored(loaded), rows(loaded, IMAGES[:count]))
        loaded.remember()
        assert len(stored(loaded)) == count


@every_model
def test_a_gradient_penalty_switches_minibatch_discrimination_off_and_says_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = MODELS[name](adversarial_loss="wgan-gp")
    assert f"{name} trains without minibatch_discrimination" in caplog.text
    assert model.model.discriminator.minibatch is None
    assert model.hparams["minibatch_discrimination"] is False

    caplog.clear()
    for settings in ({"adversarial_loss": "hinge"}, {"adversarial_loss": "wgan-gp", "minibatch_discrimination": False}):
        model = MODELS[name](**settings)
        assert (model.model.discriminator.minibatch is None) == (settings["adversarial_loss"] == "wgan-gp")
    assert caplog.text == ""


@pytest.mark.parametrize("change", ["size", "layer"])
def test_a_checkpoint_of_other_layers_is_refused_in_a_sentence(change: str, tmp_path: Path) -> None:
    model = MODELS["Dcgan"]()
    checkpoint = {
        "state_dict": dict(model.state_dict()),
        "hyper_parameters": dict(model.hparams),
        "model_name": model.name,
        "pytorch-lightning_version": "2.6.0",
    }
    if change == "size":
        weights = torch.zeros(64 * 16, 64)  # of 64 outputs
        checkpoint["state_dict"]["model.discriminator.minibatch.up.weight"] = weights
        expected = r"minibatch.up.weight is \(1024, 64\) in it and \(256, 64\) in the model"
    else:
        checkpoint["hyper_parameters"]["adversarial_loss"] = "wgan-gp"
        expected = r"minibatch.references is .* in it and not there in the model"
    path = tmp_path / "old.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(
        XrayError, match=f"old.ckpt: The checkpoint's weights do not fit: .*{expected}.*train the model"
    ):
        load_model(path)
