from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.models import AnomalibModule
from lightning.pytorch import Trainer

from anomalib_xray.bundling.images import Sample
from anomalib_xray.io.write import write_png
from anomalib_xray.models import AlphaGan, Cae
from anomalib_xray.phantom import render_phantom

PHANTOMS = 8
TINY = Path(__file__).parents[1] / "edge" / "tiny_bundle.py"


def save(model: AnomalibModule, file: Path) -> Path:
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.strategy.connect(model)
    file.parent.mkdir(parents=True, exist_ok=True)
    trainer.save_checkpoint(file, weights_only=False)
    return file


@pytest.fixture(scope="session")
def bundling_cae() -> Callable[..., Cae]:
    """Makes small autoencoders, untrained, whose post-processor may have thresholds."""

    def make(threshold: float | None = None, **settings: Any) -> Cae:
        model = Cae(image_size=64, width=4, latent_channels=8, levels=3, **settings).eval()
        if threshold is not None:
            model.post_processor._image_threshold.fill_(threshold)
            model.post_processor._pixel_threshold.fill_(threshold / 2)
        return model

    return make


@pytest.fixture(scope="session")
def bundling_gan() -> AlphaGan:
    torch.manual_seed(0)
    return AlphaGan(image_size=64, width=8, latent_size=16, references=64).eval()


@pytest.fixture(scope="session")
def phantom_samples(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    """Hands of different sizes, every second one with an anomaly."""
    folder = tmp_path_factory.mktemp("phantoms")
    samples = []
    for number in range(PHANTOMS):
        image = render_phantom(np.random.default_rng(number), kind="screw" if number % 2 else None).image
        write_png(folder / f"{number}.png", image[:: 1 + number % 3, :: 1 + number % 3])
        samples.append(Sample(folder / f"{number}.png", number % 2))
    return samples


@pytest.fixture(scope="session")
def save_checkpoint() -> Callable[[AnomalibModule, Path], Path]:
    return save


@pytest.fixture(scope="session")
def write_tiny_bundle() -> Callable[..., Path]:
    """Writes a bundle whose model needs no training."""
    spec = importlib.util.spec_from_file_location("tiny_bundle_of_bundling", TINY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write: Callable[..., Path] = module.write_bundle
    return write
