from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.models.detection.ssd import SSD

from anomalib_xray.commands.train_localizer import train_localizer
from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.openvino_runtime import openvino_core
from anomalib_xray.phantom import SceneOptions, render_phantom
from anomalib_xray.preparation.detector import Description, Detector
from anomalib_xray.preparation_models import localizer
from anomalib_xray.preparation_models.localizer import (
    MODEL,
    SIDE,
    Candidates,
    Performance,
    Settings,
    build_localizer,
    export_localizer,
    measure,
    train,
)
from anomalib_xray.preparation_models.localizer_data import Example


def network(classes: int = 2) -> SSD:
    """A network with random weights of usual size, so that its scores differ: torchvision's first ones hardly do."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        built = build_localizer(classes)
        for parameter in built.head.parameters():
            if parameter.ndim == 4:
                torch.nn.init.kaiming_normal_(parameter)
    return built.eval()


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_candidates_hold_what_torchvision_chooses_from_them() -> None:
    detector = network()
    picture = pictures(1)
    with torch.inference_mode():
        (chosen,) = detector([picture[0]])
        boxes, scores = Candidates(detector)(picture)
    assert len(chosen["boxes"]) > 3
    for box, score, label in zip(chosen["boxes"], chosen["scores"], chosen["labels"], strict=True):
        same = (scores[:, label - 1] - score).abs() < 1e-5
        assert ((boxes[same] - box).abs().amax(dim=1) < 1e-3).any()


@pytest.mark.slow
def test_torch_and_openvino_agree(tmp_path: Path) -> None:
    detector = network()
    export_localizer(detector, tmp_path / "localizer.xml")
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino_core().compile_model(tmp_path / "localizer.xml", "CPU", settings)
    candidates = Candidates(detector)
    for picture in pictures(3):
        with torch.inference_mode():
            boxes, scores = candidates(picture[None])
        answer = compiled(picture[None].numpy())
        assert np.abs(answer[0] - boxes.numpy()).max() < 0.02
        assert np.abs(answer[1] - scores.numpy()).max() < 1e-4


def test_weights_for_other_classes_are_taken_as_far_as_they_fit(tmp_path: Path) -> None:
    other = network(classes=5)
    torch.save(other.state_dict(), tmp_path / "state.pt")
    torch.save({"network": other.state_dict(), "step": 3}, tmp_path / "checkpoint.pt")
    for name in ("state.pt", "checkpoint.pt"):
        built = build_localizer(2, tmp_path / name).state_dict()
        taken = [key for key, value in other.state_dict().items() if torch.equal(value, built[key])]
        assert all(key in taken for key in built if key.startswith(("backbone.", "head.regression_head.")))
        assert any(key not in taken for key in built if key.startswith("head.classification_head."))


def test_other_weights_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(XrayError, match="weights of another network"):
        build_localizer(1, path)
    torch.save(torch.nn.Linear(1, 1), path)
    with pytest.raises(XrayError, match="can be read safely"):
        build_localizer(1, path)
    with pytest.raises(XrayError, match=r"missing\.pt"):
        build_localizer(1, tmp_path / "missing.pt")


SETTINGS = Settings(
    steps=3,
    batch_size=2,
    learning_rate=1e-3,
    seed=0,
    held_out=0.2,
    hand_classes=("rh", "lh"),
    threshold=0.7,
    weights=None,
)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Six masked phantoms and the table of their boxes."""
    root = tmp_path_factory.mktemp("labelled")
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for seed in range(6):
        phantom = render_phantom(np.random.default_rng(seed), SceneOptions(prepared=False, second_hand=0.5))
        image = np.where(phantom.foreground, np.maximum(phantom.image, 1), 0).astype(np.uint8)
        write_png(root / "images" / f"{seed}.png", image)
        for box, side in zip(phantom.hand_boxes, phantom.sides, strict=True):
            row = [f"{seed}.png", image.shape[1], image.shape[0], f"{side.lower()}h", *box]
            rows.append(",".join(map(str, row)))
    table = root / "boxes.csv"
    table.write_text("\n".join(rows) + "\n")
    return root / "images", table


@pytest.mark.slow
def test_a_training_writes_a_detector_and_is_repeated_exactly_even_when_stopped(
    labelled: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    performance = train(*labelled, tmp_path / "whole", SETTINGS)
    assert performance.pictures == 1
    assert Description.of(tmp_path / "whole" / MODEL) == Description(("lh", "rh"), ("lh", "rh"), 0.7)
    assert isinstance(Detector(tmp_path / "whole" / MODEL).boxes(np.zeros((50, 40), np.uint8)), list)

    draw = localizer.draw_batch
    drawn = []

    def stop_at_the_third(*arguments: Any) -> Any:
        drawn.append(arguments)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(*arguments)

    monkeypatch.setattr(localizer, "_STEPS_PER_CHECKPOINT", 1)
    monkeypatch.setattr(localizer, "draw_batch", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        train(*labelled, tmp_path / "stopped", SETTINGS)
    train(*labelled, tmp_path / "stopped", SETTINGS)
    assert len(drawn) == 4
    weights = [
        torch.load(tmp_path / folder / "checkpoint.pt", weights_only=True)["network"] for folder in ("whole", "stopped")
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])

    with pytest.raises(XrayError, match="other settings"):
        train(*labelled, tmp_path / "whole", dataclasses.replace(SETTINGS, seed=1))


@pytest.mark.slow
def test_the_command_says_how_well_its_detector_does(
    labelled: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_localizer(*labelled, tmp_path, steps=1, batch_size=2)
    assert "of 1 held-out pictures; mean IoU" in capsys.readouterr().out


def test_boxes_without_hands_are_refused(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match=r"labels lh, rh, of which nothing is a hand"):
        train(*labelled, tmp_path, dataclasses.replace(SETTINGS, hand_classes=("ll",)))


def test_a_set_that_is_held_out_as_a_whole_is_refused(labelled: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="leave none to learn from"):
        train(*labelled, tmp_path, dataclasses.replace(SETTINGS, held_out=0.95))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("batch_size", 1),
        ("learning_rate", 0.0),
        ("seed", -1),
        ("held_out", 1.0),
        ("threshold", 1.5),
    ],
)
def test_impossible_settings_are_refused(name: str, value: float) -> None:
    with pytest.raises(XrayError, match=name):
        dataclasses.replace(SETTINGS, **{name: value})


def test_performance_is_counted_on_hands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    view = np.zeros((160, 320), np.uint8)
    image = np.zeros((320, 320), np.uint8)
    # In pixels of the view: a hand 0..100 x 0..50, a label elsewhere.
    boxes = np.array([[0, 0, 100, 100], [200, 200, 220, 220]], np.float32)
    example = Example(view, image, boxes, np.array([1, 0]))
    found: list[list[np.ndarray]] = [[np.array([0.0, 0, 100, 25])], []]
    monkeypatch.setattr(Detector, "boxes", lambda *_: found.pop(0))
    assert measure(Detector(Path()), [example, example], [1]) == Performance(2, 1, pytest.approx(0.25))
    nothing = measure(Detector(Path()), [], [1])
    assert nothing.pictures == 0
    assert math.isnan(nothing.iou)
