from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from anomalib.data import ImageBatch
from lightning.pytorch.trainer.states import TrainerFn

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.ano_gan import AnoGan


def small(**settings: Any) -> AnoGan:
    tiny = {
        "image_size": 64,
        "width": 4,
        "discriminator_width": 4,
        "latent_size": 16,
        "search_steps": 8,
        "validation_search_steps": 3,
    }
    return AnoGan(**{**tiny, **settings})


def in_epoch(model: AnoGan, epoch: int, fn: TrainerFn = TrainerFn.FITTING, **state: Any) -> AnoGan:
    """The model in one of 10 epochs."""
    told = {"max_epochs": 10, "max_steps": -1, "global_step": 0, "should_stop": False, "loggers": [], **state}
    model._trainer = SimpleNamespace(current_epoch=epoch, state=SimpleNamespace(fn=fn), **told)  # type: ignore[assignment]  # all that is asked
    return model.eval()


def steps_taken(model: AnoGan, monkeypatch: pytest.MonkeyPatch) -> int:
    """Steps of the searches of one validation step."""
    taken: list[int] = []
    search = model.model.search
    monkeypatch.setattr(
        model.model, "search", lambda *inputs: (taken.append(model.model.search_steps), search(*inputs))[1]
    )
    model.on_validation_start()
    with torch.inference_mode():
        model.validation_step(ImageBatch(image=torch.rand(2, 1, 64, 64).repeat(1, 3, 1, 1)), 0)
    assert model.model.search_steps == 8
    assert model.threshold_steps == taken[-1]
    return taken[-1]


@pytest.mark.parametrize(
    ("epoch", "settings", "state", "expected"),
    [
        (0, {}, {}, 3),
        (8, {}, {}, 3),
        (9, {}, {}, 8),  # the last epoch sets the threshold
        (0, {}, {"should_stop": True}, 8),
        (0, {}, {"max_epochs": -1, "max_steps": 5, "global_step": 4}, 3),
        (0, {}, {"max_epochs": -1, "max_steps": 5, "global_step": 5}, 8),
        (0, {}, {"fn": TrainerFn.VALIDATING}, 8),
        (0, {"validation_search_steps": None}, {}, 8),
        (0, {"validation_search_steps": 100}, {}, 8),
    ],
)
def test_validations_take_fewer_steps_until_the_last(
    epoch: int, settings: dict[str, Any], state: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps_taken(in_epoch(small(**settings), epoch, **state), monkeypatch) == expected


@pytest.mark.parametrize(("steps", "warns"), [(0, False), (3, True), (8, False)])
def test_a_threshold_of_shorter_searches_is_reported(steps: int, warns: bool, caplog: pytest.LogCaptureFixture) -> None:
    model = small()
    model.threshold_steps.fill_(steps)
    with caplog.at_level(logging.WARNING):
        model.on_test_start()
    assert ("set on searches of 3 steps, not of 8" in caplog.text) == warns


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"search_steps": 0}, "search_steps is 0"),
        ({"validation_search_steps": 0}, "validation_search_steps is 0"),
        ({"restarts": 0}, "restarts is 0"),
        ({"feature_weight": 1.5}, "feature_weight is 1.5"),
        ({"extra_scores": ["gradient"]}, "extra_scores names gradient"),
        ({"score": "gradient"}, "score is 'gradient'"),
        ({"soft_labels": 0.1}, "soft_labels is 0.1"),
    ],
)
def test_refuses_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(XrayError, match=words):
        small(**settings)


@pytest.mark.parametrize("export", ["to_onnx", "to_openvino"])
def test_export_names_the_relative_that_can(export: str, tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="train FAnoGan"):
        getattr(small(), export)(export_root=tmp_path, input_size=(64, 64))


def test_pictures_show_the_closest_images_and_samples() -> None:
    model = small().eval()
    image = torch.rand(2, 1, 64, 64)
    pictures = model.pictures(image)
    assert torch.equal(pictures["reconstructions"][2:], model.model.reconstruct(image))
    assert {"reconstructions", "samples"} == set(pictures)
