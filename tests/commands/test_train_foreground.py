from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from anomalib_xray.commands.train_foreground import train_foreground
from anomalib_xray.errors import XrayError
from anomalib_xray.preparation_models import foreground
from anomalib_xray.preparation_models.foreground import Agreement, Settings


def test_the_arguments_reach_the_training_and_the_result_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = []

    def train(out: Path, settings: Settings) -> Agreement:
        calls.append((out, settings))
        return Agreement(torch=0.96, openvino=0.95)

    monkeypatch.setattr(foreground, "train", train)
    folders = {"radiographs": tmp_path / "raw", "masks": tmp_path / "masks"}
    train_foreground(tmp_path, steps=5, seed=1, images=2, batch_size=3, learning_rate=0.1, **folders)
    assert calls == [(tmp_path, Settings(steps=5, seed=1, images=2, batch_size=3, learning_rate=0.1, **folders))]
    assert "0.9600 (torch), 0.9500 (OpenVINO)" in capsys.readouterr().out


def test_without_torch_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "anomalib_xray.preparation_models.foreground", raising=False)
    monkeypatch.delitem(sys.modules, "anomalib_xray.preparation_models.foreground", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(XrayError, match=r"pip install 'anomalib-xray\[train\]'"):
        train_foreground(tmp_path)


def test_importing_the_command_is_light() -> None:
    code = (
        "import sys, anomalib_xray.commands.train_foreground; "
        "assert not {'torch', 'cv2', 'numpy', 'openvino'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
