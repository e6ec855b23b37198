"""Pictures in the experiment's logger while a model trains."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch import LightningModule
from torch import Tensor
from torchvision.utils import make_grid

PICTURES_IN_A_ROW = 8


def log_pictures(module: LightningModule, pictures: Mapping[str, Tensor]) -> None:
    """Sends grids of pictures to every logger that takes images; anomalib's TensorBoard, MLflow, W&B and Comet do.

    Args:
        module: The model that is training.
        pictures: Pictures by name, each ``(N, 1, H, W)`` in [0, 1].
    """
    for logger in module.loggers:
        add_image = getattr(logger, "add_image", None)
        if add_image is None:
            continue
        for name, images in pictures.items():
            grid = make_grid(images.detach().float().cpu().clamp(0, 1), nrow=PICTURES_IN_A_ROW)
            add_image(grid.permute(1, 2, 0).numpy(), name=name, global_step=module.global_step)


def takes_pictures(module: LightningModule) -> bool:
    """Whether any logger of the run takes images."""
    return any(hasattr(logger, "add_image") for logger in module.loggers)
