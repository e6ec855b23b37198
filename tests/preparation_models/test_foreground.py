from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.preparation.networks import Network, fit
from anomalib_xray.preparation_models import foreground, training
from anomalib_xray.preparation_models.foreground import (
    MODEL,
    Settings,
    UNet,
    export,
    segmentation_loss,
    train,
    train_unet,
)
from anomalib_xray.preparation_models.foreground_scenes import SIDE, render_scenes

SHORT = Settings(steps=2, seed=3, images=1, batch_size=1, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def few_phantoms(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(foreground, "_HELD_OUT", 2)
    monkeypatch.setattr(foreground, "_STEPS_PER_CHECKPOINT", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def same_weights(one: UNet, other: UNet) -> bool:
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_the_loss_is_cross_entropy_plus_dice() -> None:
    logits, truth = torch.tensor([[[[2.0, -1.0]]]]), torch.tensor([[[[1.0, 0.0]]]])
    p = 1 / (1 + np.exp([-2.0, 1.0]))
    cross_entropy = -(np.log(p[0]) + np.log(1 - p[1])) / 2
    dice = (2 * p[0] + 1) / (p.sum() + 1 + 1)
    assert segmentation_loss(logits, truth).item() == pytest.approx(cross_entropy + 1 - dice, rel=1e-5)


def test_training_repeats_with_its_seed_and_leaves_the_global_one_alone(tmp_path: Path) -> None:
    torch.manual_seed(11)
    expected = torch.rand(1)
    torch.manual_seed(11)
    network = train_unet(tmp_path / "a.pt", SHORT)
    assert torch.equal(torch.rand(1), expected)
    assert same_weights(network, train_unet(tmp_path / "b.pt", SHORT))
    assert not same_weights(network, train_unet(tmp_path / "c.pt", replace(SHORT, seed=4)))


def test_drawn_masks_are_learned_from(tmp_path: Path) -> None:
    (scene,) = render_scenes(range(1), 0)
    write_png(tmp_path / "images" / "a.png", scene.image)
    write_png(tmp_path / "masks" / "a.png", scene.foreground.astype(np.uint8))
    settings = replace(SHORT, batch_size=2)
    drawn = replace(settings, radiographs=tmp_path / "images", masks=tmp_path / "masks")
    alone = train_unet(tmp_path / "a.pt", settings)
    assert not same_weights(alone, train_unet(tmp_path / "b.pt", drawn))
    with pytest.raises(XrayError, match="need each other"):
        replace(SHORT, masks=tmp_path)


def test_a_stopped_training_goes_on_as_if_it_had_not_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_and_stop(path: Path, content: bytes) -> None:
        path.write_bytes(content)
        raise KeyboardInterrupt

    with monkeypatch.context() as stopping:
        stopping.setattr(training, "write_atomically", write_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train_unet(tmp_path / "stopped.pt", SHORT)
    assert torch.load(tmp_path / "stopped.pt", weights_only=True)["step"] == 1
    assert same_weights(train_unet(tmp_path / "stopped.pt", SHORT), train_unet(tmp_path / "whole.pt", SHORT))


@pytest.mark.slow
def test_a_finished_training_is_exported_and_measured_and_kept_from_other_settings(tmp_path: Path) -> None:
    agreement = train(tmp_path, SHORT)
    assert 0 <= agreement.torch <= 1
    assert agreement.openvino == pytest.approx(agreement.torch, abs=0.01)
    assert (tmp_path / MODEL).is_file()
    with pytest.raises(XrayError, match="other settings"):
        train(tmp_path, replace(SHORT, seed=4))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"no checkpoint")
    with pytest.raises(XrayError, match="is no checkpoint"):
        train(tmp_path, SHORT)


def test_the_exported_model_gives_the_networks_probabilities(tmp_path: Path) -> None:

    torch.manual_seed(0)
    network = UNet().eval()
    export(network, tmp_path / MODEL)
    assert (tmp_path / MODEL).with_suffix(".bin").stat().st_size < 700_000
    view = np.random.default_rng(0).integers(0, 255, (100, 80), np.uint8)
    images = fit(view, (SIDE, SIDE))[None, None]
    model = openvino_core().compile_model(tmp_path / MODEL, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    expected = torch.sigmoid(network(torch.from_numpy(images))).detach().numpy()
    np.testing.assert_allclose(model(images)[0], expected, atol=5e-3)
    assert Network(tmp_path / MODEL).segment(view).shape == view.shape


@pytest.mark.parametrize("name", ["steps", "images", "batch_size", "learning_rate"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(XrayError, match=name):
        replace(SHORT, **{name: 0})


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(XrayError, match="seed -1"):
        replace(SHORT, seed=-1)
    assert replace(SHORT, seed=0).seed == 0


def test_it_has_at_most_300_000_parameters() -> None:
    assert sum(parameter.numel() for parameter in UNet().parameters()) <= 300_000


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 80)])
def test_every_pixel_gets_a_logit(height: int, width: int) -> None:
    assert UNet()(torch.rand(2, 1, height, width)).shape == (2, 1, height, width)


def test_brightness_and_contrast_do_not_matter() -> None:
    torch.manual_seed(0)
    network = UNet().eval()
    images = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(network(images), network(0.2 * images + 0.5), atol=1e-2, rtol=1e-2)


def test_a_constant_picture_gives_finite_logits() -> None:
    assert torch.isfinite(UNet().eval()(torch.zeros(1, 1, 32, 32))).all()
