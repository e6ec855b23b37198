from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torchvision.models.detection.ssd import SSD

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation_models.localizer import SIDE, Candidates, build_localizer, export_localizer


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
    compiled = openvino.Core().compile_model(tmp_path / "localizer.xml", "CPU", settings)
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
