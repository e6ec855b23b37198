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
from anomalib_xray_plugins.bigan import Bigan
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


@pytest.mark.parametrize("kind", [Bigan, Dcgan])
def test_features_of_the_training_images_are_stored_and_kept_in_the_checkpoint(kind: Any, tmp_path: Path) -> None:
    model = kind(image_size=64, width=8, latent_size=16, references=20 * 256, **FAST)
    training = fit(model, BATCHES, tmp_path)
    loaded: Any = load_model(training.checkpoint)
    memory, image = loaded.model.memory, 2 * loaded.pre_processor(IMAGES)[:, :1] - 1
    assert memory.filled == 1
    with torch.no_grad():
        network = loaded.model.discriminator
        features = (network if kind is Dcgan else network.trunk).features(image)[1]
        # All places of all 20 images, by the weights as they are.
        assert in_some_order(memory.references / memory.scale, features.permute(0, 2, 3, 1).flatten(0, 2))
        scores = loaded.model(loaded.pre_processor(IMAGES)).scores
    assert scores["feature_distance_top_k"].max() < 1e-3


def test_a_checkpoint_without_stored_features_is_loaded_without_their_scores(tmp_path: Path) -> None:
    model = Bigan(image_size=64, width=8, latent_size=16)
    checkpoint = {
        "state_dict": {name: value for name, value in model.state_dict().items() if ".memory." not in name},
        "hyper_parameters": {name: value for name, value in model.hparams.items() if name != "references"},
        "model_name": model.name,
        "pytorch-lightning_version": "2.6.0",
    }
    path = tmp_path / "old.ckpt"
    torch.save(checkpoint, path)
    loaded = load_model(path)
    scores = loaded.model(IMAGES[:2]).scores
    assert {"mse", "encoder_feature_matching"} < scores.keys()
    assert "feature_distance" not in scores
    assert fit(loaded, BATCHES, tmp_path).checkpoint.is_file()

    checkpoint["hyper_parameters"]["score"] = "feature_distance_top_k"
    torch.save(checkpoint, path)
    with pytest.raises(XrayError, match=r"old.ckpt: .*no stored features, which the score feature_distance_top_k"):
        load_model(path)
