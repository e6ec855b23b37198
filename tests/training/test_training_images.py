from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from anomalib_xray.training.training_images import BATCH, training_images
from anomalib_xray.transforms import XrayPreProcessor


class Loader(list[Any]):
    """Batches that are drawn, as a shuffling loader's."""

    def __iter__(self) -> Any:
        torch.rand(1)
        return super().__iter__()


def model_with(loader: Any) -> Any:
    return SimpleNamespace(
        trainer=SimpleNamespace(train_dataloader=loader), device=torch.device("cpu"), pre_processor=XrayPreProcessor(8)
    )


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """40 pictures; the grey level of some rows is their number, from 2."""
    paths = []
    for number in range(2, 42):
        picture = np.full((8, 8), 255, np.uint8)
        picture[:4] = number
        picture[0] = 1
        cv2.imwrite(str(tmp_path / f"{number}.png"), picture)
        paths.append(str(tmp_path / f"{number}.png"))
    dataset = SimpleNamespace(samples=pd.DataFrame({"image_path": paths}))
    return model_with(SimpleNamespace(dataset=dataset))


def numbers(batches: list[torch.Tensor]) -> list[int]:
    """Numbers of the pictures; the pre-processor has stretched their grey levels from 1 to 255 to [0, 1]."""
    grey = torch.cat(batches)[:, 0, 2, 2]
    return [round(float(value) * 254) + 1 for value in grey]


def test_reads_every_training_image_once_and_pre_processes_it(model: Any) -> None:
    batches = list(training_images(model))
    assert [batch.shape for batch in batches] == [(BATCH, 3, 8, 8), (8, 3, 8, 8)]
    assert numbers(batches) == list(range(2, 42))
    assert all(batch.min() > 0 and batch.max() == 1 for batch in batches)


def test_seed_decides_which_images_are_taken(model: Any) -> None:
    first, again, other = (numbers(list(training_images(model, 10, seed))) for seed in (1, 1, 2))
    assert first == again
    assert len(set(first)) == 10
    assert set(first) != set(other)
    assert numbers(list(training_images(model, 3))) == [2, 3, 4]
    assert len(numbers(list(training_images(model, 100, 1)))) == 40


@pytest.mark.parametrize(("count", "sizes"), [(None, [BATCH, 4]), (5, [5]), (33, [BATCH, 1])])
def test_batches_without_files_are_used_and_chance_is_left_as_it_was(count: int | None, sizes: list[int]) -> None:
    images = torch.rand(36, 3, 8, 8) + 0.1
    loader = Loader([SimpleNamespace(image=images[:20]), SimpleNamespace(image=images[20:])])
    state = torch.get_rng_state()
    found = list(training_images(model_with(loader), count))
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(batch) for batch in found] == sizes
    torch.testing.assert_close(torch.cat(found), XrayPreProcessor(8)(images)[: sum(sizes)])
