"""Pictures in the experiment's logger while a model trains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torchvision.utils import make_grid

PICTURES_IN_A_ROW = 8

PICTURE_EPOCHS = 10
"""Pictures are logged every this many epochs."""


def log_pictures(module: LightningModule, pictures: Mapping[str, Tensor]) -> None:
    """Sends grids of pictures to every logger that takes images; anomalib's TensorBoard, MLflow, W&B and Comet do.

    Args:
        module: The model that is training.
        pictures: Pictures by name, each ``(N, 1, H, W)`` in [0, 1].
    """
    for name, images in pictures.items():
        grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=PICTURES_IN_A_ROW)
        log_picture(module, name, grid.permute(1, 2, 0).numpy())


def log_picture(module: LightningModule, name: str, picture: NDArray[np.float32]) -> None:
    """Sends one picture to every logger that takes images.

    Args:
        module: The model that is training.
        name: What it shows.
        picture: ``(H, W, 3)`` in [0, 1].
    """
    for logger in module.loggers:
        add_image = getattr(logger, "add_image", None)
        if add_image is not None:
            add_image(picture, name=_name_for(logger, name, module.global_step), global_step=module.global_step)


def takes_pictures(module: LightningModule) -> bool:
    """Whether any logger of the run takes images."""
    return any(hasattr(logger, "add_image") for logger in module.loggers)


def _name_for(logger: object, name: str, step: int) -> str:
    """MLflow keeps pictures as files, which need an ending, and without the step the next one would replace it."""
    return f"{name}/{step:08d}.png" if "MLFlow" in type(logger).__name__ else name
