"""Fixtures of the tests of explanations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from anomalib.models import AnomalibModule
from lightning.pytorch import Trainer


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
