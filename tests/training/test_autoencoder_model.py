"""The losses, the noise and the perceptual network of autoencoders, through one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from anomalib.data import ImageBatch
from numpy.typing import NDArray

import anomalib_xray.models
from anomalib_xray.errors import XrayError
from anomalib_xray.networks.frozen_backbone import PerceptualError
from anomalib_xray.networks.losses import masked_reconstruction_loss
from anomalib_xray.testing.base import fit, normal_batch
from anomalib_xray.training.autoencoder_model import NoiseKind, input_noise
from anomalib_xray_plugins.cae import Cae

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "latent_channels": 4, "levels": 2}
PERCEPTUAL: dict[str, Any] = {"perceptual_backbone": "test_efficientnet", "perceptual_layers": [0, 1]}


@pytest.fixture
def images() -> torch.Tensor:
    """Two images with background at the left, ``(2, 3, 64, 64)``."""
    image = torch.rand((2, 1, 64, 64), generator=torch.Generator().manual_seed(0)).clamp(min=0.01)
    image[..., :20] = 0
    return image.repeat(1, 3, 1, 1)


def test_training_step_lowers_the_squared_error_of_the_foreground() -> None:
    model: Any = Cae(**SMALL)
    logged: dict[str, torch.Tensor] = {}
    model.log_losses = lambda losses, size: logged.update(losses, size=torch.tensor(size))
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    reconstruction = torch.rand(2, 1, 64, 64)
    model.model.register_forward_hook(lambda *_: reconstruction)

    loss = model.training_step(ImageBatch(image=image.repeat(1, 3, 1, 1)))

    foreground = image.numpy() > 0
    expected = np.mean((image.numpy() - reconstruction.numpy())[foreground] ** 2)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    assert list(logged) == ["loss", "size"]
    assert logged["size"] == 2


def test_optimizer_has_the_settings() -> None:
    model: Any = Cae(**SMALL, learning_rate=0.02, weight_decay=0.3)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert len(group["params"]) == len(list(model.model.parameters()))


def test_pictures_are_images_above_their_reconstructions() -> None:
    model: Any = Cae(**SMALL).eval()
    image = torch.rand(3, 1, 64, 64)
    (rows,) = model.pictures(image).values()
    torch.testing.assert_close(rows[:3], image)
    torch.testing.assert_close(rows[3:], model.model.reconstruct(image))


@pytest.mark.parametrize("kind", ["l1", "smooth_l1", "ssim", "perceptual"])
def test_training_step_lowers_the_loss_of_the_settings(kind: str, images: torch.Tensor) -> None:
    model: Any = Cae(**SMALL, **PERCEPTUAL, reconstruction_loss=kind)
    model.log_losses = lambda *_: None
    made: list[torch.Tensor] = []
    model.model.register_forward_hook(lambda _, __, output: made.append(output))
    loss = model.training_step(ImageBatch(image=images))
    loss.backward()
    image, (reconstruction,) = images[:, :1], made
    if kind == "perceptual":
        expected = PerceptualError("test_efficientnet", [0, 1]).loss(reconstruction, image)
    else:
        expected = masked_reconstruction_loss(reconstruction, image, (image > 0).float(), kind)  # type: ignore[arg-type]  # a parameter
    torch.testing.assert_close(loss, expected)
    assert all(weight.grad is not None for weight in model.model.parameters())


def test_the_network_sees_noise_and_the_target_is_clean(images: torch.Tensor) -> None:
    model: Any = Cae(**SMALL, noise=0.5)
    model.log_losses = lambda *_: None
    seen: list[torch.Tensor] = []
    reconstruction = torch.rand(2, 1, 64, 64)
    model.model.register_forward_hook(lambda _, inputs, __: [seen.append(inputs[0]), reconstruction][1])
    loss = model.training_step(ImageBatch(image=images))
    (noisy,) = seen
    assert (noisy[..., :20] == 0).all()
    assert float((noisy - images)[..., 20:].std()) > 0.2
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    squared = (images[:, :1] - reconstruction).numpy()[images[:, :1].numpy() > 0] ** 2
    np.testing.assert_allclose(loss.item(), squared.mean(), rtol=1e-5)


def test_without_noise_the_network_sees_the_image_and_no_number_is_drawn(images: torch.Tensor) -> None:
    model: Any = Cae(**SMALL)
    torch.manual_seed(0)
    assert torch.equal(model.disturbed(ImageBatch(image=images)), images)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


def test_evaluation_has_no_noise(images: torch.Tensor) -> None:
    model: Any = Cae(**SMALL, noise=0.5).eval()
    first, second = (model.model(images).scores["mse"] for _ in range(2))
    assert torch.equal(first, second)


def test_the_network_of_a_loss_is_no_part_of_the_model_and_that_of_a_score_is(images: torch.Tensor) -> None:
    plain, loss_only, scored = (
        Cae(**SMALL, **PERCEPTUAL, **changes)
        for changes in (
            {},
            {"reconstruction_loss": "perceptual"},
            {"reconstruction_loss": "perceptual", "score": "perceptual_top_k"},
        )
    )
    assert loss_only.state_dict().keys() == plain.state_dict().keys()
    extra = scored.state_dict().keys() - plain.state_dict().keys()
    assert extra
    assert all(name.startswith("model.scorer.networks.perceptual.") for name in extra)
    # of one seed, the autoencoders begin alike
    for model in (loss_only, scored):
        state = model.model.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in plain.model.state_dict().items())
    trained = [len(model.configure_optimizers().param_groups[0]["params"]) for model in (plain, loss_only, scored)]  # type: ignore[attr-defined]  # a mixin's
    assert len(set(trained)) == 1
    output = scored.eval().model(images)
    assert torch.equal(output.pred_score, output.scores["perceptual_top_k"])
    assert (output.anomaly_map[images[:, 0] == 0] == 0).all()
    assert "perceptual" not in loss_only.eval().model(images).scores


def test_training_reads_the_weights_and_a_checkpoint_with_the_score_keeps_them(
    images: torch.Tensor, tmp_path: Path
) -> None:
    file = tmp_path / "weights.pth"
    torch.manual_seed(9)
    stored = {
        name: torch.randn_like(value) if value.ndim > 1 else value
        for name, value in PerceptualError("test_efficientnet", [0, 1]).backbone.network.state_dict().items()
    }
    torch.save(stored, file)
    settings = {**SMALL, **PERCEPTUAL, "reconstruction_loss": "perceptual", "perceptual_weights": str(file)}
    trained = fit(Cae(**settings, extra_scores=["perceptual"]), [normal_batch(images)], tmp_path)
    file.unlink()
    restored: Any = Cae.load_from_checkpoint(trained.checkpoint, map_location="cpu")
    found = restored.model.scorer.networks["perceptual"].backbone.network.state_dict()
    assert all(torch.equal(found[name], value) for name, value in stored.items())
    with pytest.raises(XrayError, match="weights"):
        fit(Cae(**settings), [normal_batch(images)], tmp_path / "missing")


def test_a_checkpoint_from_before_these_settings_loads_with_their_defaults(
    images: torch.Tensor, tmp_path: Path
) -> None:
    trained = fit(Cae(**SMALL, learning_rate=0.02), [normal_batch(images)], tmp_path)
    content = torch.load(trained.checkpoint, map_location="cpu", weights_only=False)
    new = {"reconstruction_loss", "noise", "noise_kind"} | {
        f"perceptual_{it}" for it in ("backbone", "layers", "weights")
    }
    assert new <= content["hyper_parameters"].keys()
    content["hyper_parameters"] = {
        name: value for name, value in content["hyper_parameters"].items() if name not in new
    }
    torch.save(content, tmp_path / "old.ckpt")
    restored: Any = Cae.load_from_checkpoint(tmp_path / "old.ckpt", map_location="cpu", weights_only=False)
    assert (restored.hparams["reconstruction_loss"], restored.hparams["noise"]) == ("mse", 0.0)
    assert restored.hparams["learning_rate"] == 0.02
    found = restored.eval().model(images).scores["mse"]
    assert torch.equal(found, trained.model.model(images).scores["mse"])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"reconstruction_loss": "bce"}, "reconstruction_loss is 'bce'.*mse, l1, smooth_l1, ssim, perceptual"),
        ({"noise_kind": "salt"}, "noise_kind is 'salt'.*coarse, pixel"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"extra_scores": ["psnr"]}, "extra_scores names psnr.*ssim, gradient, perceptual"),
        ({"score": "perceptual", "perceptual_backbone": "no_such_network"}, "no_such_network"),
    ],
)
def test_refuses_what_it_does_not_have(setting: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Cae(**{**SMALL, **PERCEPTUAL, **setting})


@pytest.mark.parametrize("config", ["ae_perceptual", "ae_ssim", "ae_denoising"])
@pytest.mark.parametrize("folder", [".", "paper"])
def test_shipped_configurations_build_their_model(folder: str, config: str) -> None:
    model = yaml.safe_load((CONFIGS / folder / f"{config}.yaml").read_text())["model"]
    built = getattr(anomalib_xray.models, model["class_path"].rpartition(".")[2])(**model["init_args"])
    assert (built.hparams["noise"] > 0) == (config == "ae_denoising")
    assert built.hparams["reconstruction_loss"] == {"ae_denoising": "mse"}.get(config, config.removeprefix("ae_"))
    score = model["init_args"]["score"]
    output = built.eval().model(torch.rand(1, 3, built.hparams["image_size"], built.hparams["image_size"]))
    assert torch.equal(output.pred_score, output.scores[score])


def upsampled(grid: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Linear interpolation along both axes, with the corners on the corners."""
    places = np.linspace(0, len(grid) - 1, side)
    rows = np.stack([np.interp(places, np.arange(len(grid)), column) for column in grid.T], 1)
    return np.stack([np.interp(places, np.arange(grid.shape[1]), row) for row in rows])


def test_coarse_noise_is_a_moved_grid_of_16_by_16_points() -> None:
    torch.manual_seed(3)
    noise = input_noise(torch.ones(2, 1, 64, 64, dtype=torch.float64), 0.2)
    torch.manual_seed(3)
    grid = torch.randn(2, 1, 16, 16, dtype=torch.float64).numpy()
    down, right = (int(torch.randint(64, ())) for _ in range(2))
    for found, points in zip(noise[:, 0].numpy(), grid[:, 0], strict=True):
        np.testing.assert_allclose(found, np.roll(0.2 * upsampled(points, 64), (down, right), (0, 1)), atol=1e-12)


@pytest.mark.parametrize("kind", ["coarse", "pixel"])
def test_noise_lies_in_the_foreground_and_has_the_deviation(kind: NoiseKind) -> None:
    torch.manual_seed(0)
    mask = torch.ones(64, 1, 32, 32)
    mask[..., :9] = 0
    noise = input_noise(mask, 0.3, kind)
    assert noise.shape == mask.shape
    assert (noise[..., :9] == 0).all()
    inside = noise[..., 9:]
    assert abs(float(inside.mean())) < 0.02
    # between the points of the grid, coarse noise is an average of up to four independent ones
    expected = {"pixel": (0.295, 0.305), "coarse": (0.15, 0.3)}[kind]
    assert expected[0] < float(inside.std()) < expected[1]


def test_neighbours_share_coarse_noise_only() -> None:
    torch.manual_seed(0)
    mask = torch.ones(8, 1, 128, 128)
    for kind, (low, high) in {"coarse": (0.9, 1.0), "pixel": (-0.1, 0.1)}.items():
        noise = input_noise(mask, 1.0, kind).numpy()  # type: ignore[arg-type]  # mypy takes the key for any text
        correlation = np.corrcoef(noise[..., :-1].ravel(), noise[..., 1:].ravel())[0, 1]
        assert low < correlation < high, kind
