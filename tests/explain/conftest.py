"""Fixtures of the tests of explanations."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from anomalib.models import AnomalibModule
from lightning.pytorch import Trainer

from anomalib_xray.cli import main


def save_checkpoint(model: AnomalibModule, file: Path, remove: str | None = None) -> Path:
    """Writes a checkpoint as training does, without one of its entries where asked."""
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(file, weights_only=False)
    if remove is not None:
        content = torch.load(file, weights_only=False)
        del content[remove]
        torch.save(content, file)
    return file


@pytest.fixture(scope="session")
def save() -> Callable[..., Path]:
    """``save(model, file, remove=None)`` writes a checkpoint."""
    return save_checkpoint


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """``refused(verb, folder, checkpoint, options, sentence)``: one sentence of a folder's images, and no output."""

    def check(verb: str, folder: Path, checkpoint: str, options: Sequence[str], sentence: str) -> None:
        out = tmp_path / "out"
        arguments = ["--checkpoint", str(folder / checkpoint), str(folder / "images"), "--out", str(out), *options]
        assert main([verb, *arguments]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert sentence in printed
        assert printed.count("\n") == 1
        assert not out.exists()

    return check


@pytest.fixture
def tells_of_a_missing_file_at_once() -> Callable[[str, Path], None]:
    """``check(verb, folder)``: a missing checkpoint is told before anything heavy is imported."""

    def check(verb: str, folder: Path) -> None:
        code = (
            "import sys; from anomalib_xray.cli import main\n"
            f"assert main([{verb!r}, '--checkpoint', 'nowhere.ckpt', {str(folder / 'images')!r}]) == 2\n"
            "assert not {'torch', 'anomalib'} & sys.modules.keys()"
        )
        subprocess.run([sys.executable, "-c", code], check=True, timeout=120, cwd=folder, capture_output=True)

    return check
