from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch

from anomalib_xray_plugins.cae import Cae

SMALL: dict[str, Any] = {"image_size": 64, "width": 4, "latent_channels": 8}


def test_training_step_lowers_the_squared_error_of_the_foreground() -> None:
    model: Any = Cae(**SMALL)
    logged: dict[str, torch.Tensor] = {}
    model.log_losses = lambda losses, size: logged.update(losses, size=torch.tensor(size))
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    reconstruction = torch.rand(2, 1, 64, 64)
    model.model.register_forward_hook(lambda *_: reconstruction)

    loss = model.training_step(ImageBatch(image=image.repeat(1, 3, 1, 1)))

    foreground = image.numpy() > 0
    expected = np.mean((image.numpy() - reconstruction.numpy())[foreground] ** 2)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    assert list(logged) == ["loss", "size"]
    assert logged["size"] == 2


def test_optimizer_has_the_settings() -> None:
    model: Any = Cae(**SMALL, learning_rate=0.02, weight_decay=0.3)
    optimizer = model.configure_optimizers()
    assert isinstance(optimizer, torch.optim.Adam)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert len(group["params"]) == len(list(model.model.parameters()))


def test_pictures_are_images_above_their_reconstructions() -> None:
    model: Any = Cae(**SMALL).eval()
    image = torch.rand(3, 1, 64, 64)
    (rows,) = model.pictures(image).values()
    torch.testing.assert_close(rows[:3], image)
    torch.testing.assert_close(rows[3:], model.model.reconstruct(image))
