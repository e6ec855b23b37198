from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_xray.training.pictures import ScoreHistograms, draw_histogram, log_pictures, takes_pictures


class PictureLogger:
    def __init__(self) -> None:
        self.pictures: list[tuple[np.ndarray, str, int]] = []

    # As anomalib's ImageLoggerBase declares it.
    def add_image(self, image: np.ndarray, name: str | None = None, **kwargs: Any) -> None:
        self.pictures.append((image, str(name), kwargs["global_step"]))


def module(*loggers: object) -> Any:
    return SimpleNamespace(loggers=list(loggers), global_step=7)


def test_every_logger_that_takes_images_gets_every_picture() -> None:
    loggers = [PictureLogger(), PictureLogger()]
    log_pictures(module(loggers[0], object(), loggers[1]), {"a": torch.rand(3, 1, 8, 8), "b": torch.rand(1, 1, 8, 8)})
    for logger in loggers:
        assert [(name, step) for _, name, step in logger.pictures] == [("a", 7), ("b", 7)]


def test_a_picture_is_a_grid_with_channels_last_in_0_to_1() -> None:
    logger = PictureLogger()
    images = torch.linspace(-0.5, 1.5, 10).reshape(10, 1, 1, 1).expand(10, 1, 6, 4).requires_grad_()
    log_pictures(module(logger), {"images": images})
    (grid, _, _), padding = logger.pictures[0], 2
    # Ten images are a row of eight and a row of two.
    assert grid.shape == (2 * (6 + padding) + padding, 8 * (4 + padding) + padding, 3)
    centres = [grid[5 + 8 * (number // 8), 4 + 6 * (number % 8), 0] for number in range(10)]
    np.testing.assert_allclose(centres, np.linspace(-0.5, 1.5, 10).clip(0, 1), atol=1e-6)


def test_half_precision_pictures_are_sent_too() -> None:
    logger = PictureLogger()
    log_pictures(module(logger), {"images": torch.rand(2, 1, 4, 4).bfloat16()})
    assert logger.pictures[0][0].dtype == np.float32


def test_loggers_without_images_are_passed_over() -> None:
    log_pictures(module(object()), {"a": torch.rand(1, 1, 4, 4)})
    assert not takes_pictures(module())
    assert not takes_pictures(module(object()))
    assert takes_pictures(module(object(), PictureLogger()))


class NamesLogger:
    def __init__(self) -> None:
        self.names: list[str] = []

    def add_image(self, image: np.ndarray, name: str, **_: Any) -> None:
        assert image.ndim == 3
        self.names.append(name)


def batch(scores: list[float], labels: list[int] | None) -> ImageBatch:
    found = ImageBatch(
        image=torch.zeros(len(scores), 3, 4, 4),
        pred_score=torch.tensor(scores),
        gt_label=None if labels is None else torch.tensor(labels),
    )
    found.scores = {"mse": torch.tensor(scores), "kld": torch.tensor(scores) * 2}  # type: ignore[attr-defined]  # as RadiographModel does
    return found


def validate(epoch: int, *, checking: bool = False, labels: list[int] | None = None) -> list[str]:
    logger = NamesLogger()
    trainer: Any = SimpleNamespace(current_epoch=epoch, sanity_checking=checking)
    module: Any = SimpleNamespace(loggers=[logger], global_step=1)
    callback = ScoreHistograms()
    callback.on_validation_epoch_start()
    for scores in ([1.0, 2.0], [3.0, float("nan")]):
        callback.on_validation_batch_end(trainer, module, batch(scores, labels))
    callback.on_validation_epoch_end(trainer, module)
    return logger.names


@pytest.mark.parametrize("labels", [[0, 1], None])
def test_every_score_is_drawn_every_tenth_epoch(labels: list[int] | None) -> None:
    assert validate(20, labels=labels) == ["scores_mse", "scores_kld"]
    assert validate(21, labels=labels) == []
    assert validate(0, checking=True, labels=labels) == []


def test_each_label_has_its_colour() -> None:
    values = np.concatenate([np.zeros(20), np.ones(20)])

    def colours(labels: np.ndarray) -> set[tuple[int, ...]]:
        picture = (draw_histogram("mse", values, labels) * 255).astype(np.uint8)
        pixels, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
        coloured = pixels[(counts > 200) & (pixels.max(1) - pixels.min(1) > 50)]
        return {tuple(pixel) for pixel in coloured}

    one, two = colours(np.zeros(40, dtype=int)), colours(np.repeat([0, 1], 20))
    assert len(one) == 1
    assert len(two) == 2


def test_values_that_are_not_finite_are_counted_and_left_out() -> None:
    labels = np.zeros(3, dtype=int)
    spoilt = draw_histogram("mse", np.array([1.0, np.nan, np.inf]), labels)
    assert np.isfinite(spoilt).all()
    assert draw_histogram("mse", np.full(3, np.nan), labels).shape == spoilt.shape
