from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from anomalib_xray.training.logged_images import log_pictures, takes_pictures


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
