from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from anomalib.data import ImageBatch
from torch.distributions import Normal, kl_divergence

from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import fit, normal_batch, prepared
from anomalib_xray_plugins.vae import Vae
from anomalib_xray_plugins.vae.lightning_model import ActiveUnits, divergence_loss, warmed_up
from anomalib_xray_plugins.vae.torch_model import Reconstruction

SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "latent_size": 8}
CONFIGS = Path(__file__).parents[3] / "configs"


def settings_of(config: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((CONFIGS / config).read_text())["model"]["init_args"]
    return settings


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("divergence", ["pixels", "sum"])
@pytest.mark.parametrize("error", ["mse", "bce"])
def test_training_step_weighs_error_and_divergence(masked: bool, divergence: str, error: str) -> None:
    model: Any = Vae(**SMALL, masked=masked, divergence=divergence, reconstruction_loss=error, beta=0.3, kl_warmup=4)
    logged: dict[str, torch.Tensor] = {}
    model.log_losses = lambda losses, size: logged.update(losses, size=torch.tensor(size))
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    made = Reconstruction(torch.rand(2, 1, 64, 64), torch.randn(2, 8), torch.rand(2, 8) + 0.1)
    model.model.register_forward_hook(lambda *_: made)

    loss = model.training_step(ImageBatch(image=image.repeat(1, 3, 1, 1)))

    x, y, mean, deviation = (part.double().numpy() for part in (image, *made))
    counts = x > 0 if masked else np.ones(x.shape, bool)
    errors = (x - y) ** 2 if error == "mse" else -(x * np.log(y) + (1 - x) * np.log(1 - y))
    kld = -0.5 * (1 + np.log(deviation**2) - mean**2 - deviation**2).sum()
    kld = kld / counts.sum() if divergence == "pixels" else kld
    np.testing.assert_allclose(logged["reconstruction_loss"], errors[counts].mean(), rtol=1e-5)
    np.testing.assert_allclose(logged["kld"], kld, rtol=1e-5)
    np.testing.assert_allclose(loss.item(), errors[counts].mean() + 0.3 / 4 * kld, rtol=1e-5)
    assert list(logged) == ["loss", "reconstruction_loss", "kld", "size"]
    assert logged["size"] == 2


def test_units_are_counted_each_epoch_anew_and_logged() -> None:
    model: Any = Vae(**SMALL)
    logged: dict[str, float] = {}
    model.log = logged.__setitem__
    model.active_units.update(torch.tensor([[0.0] * 8, [1.0] * 3 + [0.0] * 5]))
    model.on_train_epoch_end()
    assert logged == {"train_active_units": 3.0}
    model.on_train_epoch_end()
    assert logged == {"train_active_units": 0.0}


def test_collapse_is_reported_once_and_only_if_it_lasts(caplog: pytest.LogCaptureFixture) -> None:
    model: Any = Vae(**SMALL)
    model.log = lambda *_: None
    codes = {"active": torch.tensor([[0.0], [1.0]]), "collapsed": torch.zeros(2, 1)}

    def warnings(*epochs: str) -> int:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            for epoch in epochs:
                model.active_units.update(codes[epoch])
                model.on_train_epoch_end()
        return sum("posterior has collapsed" in record.message for record in caplog.records)

    assert warnings(*["collapsed"] * 4, "active", *["collapsed"] * 4) == 0
    assert warnings("collapsed") == 1
    assert warnings(*["collapsed"] * 9) == 0


def test_published_loss_collapses_and_the_recommended_one_does_not(tmp_path: Path) -> None:
    """A real training, of few images: the loss as published switches all units off."""
    published = {name: settings_of("paper/vae.yaml")[name] for name in ("beta", "divergence", "reconstruction_loss")}
    recommended = {name: settings_of("vae.yaml")[name] for name in (*published, "kl_warmup")}
    active = {}
    for name, loss in (("published", published), ("recommended", recommended)):
        model = Vae(**{**SMALL, "kl_warmup": 0, **loss}, learning_rate=3e-3)
        images = prepared(model)
        batches = [normal_batch(images)] * 10
        active[name] = float(fit(model, batches, tmp_path / name, epochs=10).metrics["train_active_units"])
    assert active["published"] == 0
    assert active["recommended"] > 0


def test_optimizer_has_the_settings() -> None:
    model: Any = Vae(**SMALL, learning_rate=0.02, weight_decay=0.3)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert len(group["params"]) == len(list(model.model.parameters()))


def test_pictures_are_images_above_their_reconstructions_and_samples() -> None:
    model: Any = Vae(**SMALL).eval()
    image = torch.rand(3, 1, 64, 64)
    pictures = model.pictures(image)
    torch.testing.assert_close(pictures["reconstructions"][:3], image)
    torch.testing.assert_close(pictures["reconstructions"][3:], model.model.reconstruct(image))
    torch.testing.assert_close(pictures["samples"], model.model.decoder(model.fixed_codes))


@pytest.mark.parametrize("setting", [{"beta": -0.5}, {"kl_warmup": -1}])
def test_negative_weight_or_warm_up_is_refused(setting: dict[str, Any]) -> None:
    (name,) = setting
    with pytest.raises(XrayError, match=f"{name} is -"):
        Vae(**{**SMALL, **setting})


def test_shipped_configurations_build_the_model() -> None:
    assert settings_of("vae.yaml")["image_size"] == 128
    Vae(**settings_of("vae.yaml"))
    published: Any = Vae(**settings_of("paper/vae.yaml"))
    assert sum(parameter.numel() for parameter in published.model.parameters()) == 11_890_049


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_count_is_that_of_all_codes_together(offset: float) -> None:
    random = np.random.default_rng(0)
    deviations = np.array([0.0, 0.05, 0.099, 0.15, 0.5, 3.0])
    codes = (random.normal(size=(60, 6)) * deviations + offset).astype(np.float32)
    codes[:30, 1] += 0.3  # batches that differ from each other, not within
    expected = codes.astype(float).var(0)
    assert (np.abs(expected - 0.01) > 0.0005).all()
    units = ActiveUnits()
    for start, end in ((0, 30), (30, 31), (31, 60)):
        units.update(torch.from_numpy(codes[start:end]))
    np.testing.assert_allclose((units.squares / units.seen).numpy(), expected, rtol=0.01, atol=1e-4)
    assert units.count() == (expected > 0.01).sum() == 4


def test_units_of_one_image_or_none_are_not_active() -> None:
    units = ActiveUnits()
    assert units.count() == 0
    units.update(torch.tensor([[5.0, -3.0]]))
    assert units.count() == 0
    units.update(torch.tensor([[5.0, 3.0]]))
    assert units.count() == 1
    units.reset()
    assert units.count() == 0


def test_divergence_is_that_of_two_normal_distributions() -> None:
    torch.manual_seed(0)
    mean, deviation = torch.randn(4, 5), torch.rand(4, 5) + 0.1
    mask = torch.zeros(4, 1, 8, 8)
    mask[:, :, :3] = 1
    expected = kl_divergence(Normal(mean, deviation), Normal(0.0, 1.0)).sum()
    torch.testing.assert_close(divergence_loss(mean, deviation, mask, "sum"), expected)
    torch.testing.assert_close(divergence_loss(mean, deviation, mask, "pixels"), expected / (4 * 3 * 8))


def test_images_without_foreground_leave_the_divergence_finite() -> None:
    assert divergence_loss(torch.ones(1, 2), torch.ones(1, 2), torch.zeros(1, 1, 8, 8), "pixels") == 1


@pytest.mark.parametrize(
    ("epochs", "expected"), [(0, [0.2, 0.2, 0.2]), (1, [0.2, 0.2, 0.2]), (4, [0.05, 0.1, 0.15, 0.2, 0.2])]
)
def test_weight_rises_along_a_line(epochs: int, expected: list[float]) -> None:
    np.testing.assert_allclose([warmed_up(0.2, epoch, epochs) for epoch in range(len(expected))], expected)
