from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from anomalib.data import ImageBatch

from anomalib_xray_plugins.reconstruction_ae import ReconstructionAe

SMALL: dict[str, Any] = {"image_size": 64, "width": 2, "hidden": 8, "latent_size": 4}


@pytest.mark.parametrize("masked", [True, False])
def test_training_step_lowers_the_squared_error(masked: bool) -> None:
    model: Any = ReconstructionAe(**SMALL, masked=masked)
    logged: dict[str, torch.Tensor] = {}
    model.log_losses = lambda losses, size: logged.update(losses, size=torch.tensor(size))
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :20] = 0
    made: list[torch.Tensor] = []
    model.model.network.register_forward_hook(lambda _, __, output: made.append(output.image))

    loss = model.training_step(ImageBatch(image=image.repeat(1, 3, 1, 1)))

    error = ((2 * image - 1 - made[0]) ** 2).detach().numpy()
    expected = error[image.numpy() > 0].mean() if masked else error.mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    assert logged["loss"] == loss
    assert logged["size"] == 2


def test_scores_compare_on_the_scale_of_the_image() -> None:
    torch.manual_seed(0)
    model: Any = ReconstructionAe(**SMALL).eval()
    image = torch.rand(2, 1, 64, 64)
    reconstruction = (model.model.network(2 * image - 1).image + 1) / 2
    scores = model.model(image.repeat(1, 3, 1, 1)).scores
    torch.testing.assert_close(scores["mse"], (image - reconstruction).square().mean((1, 2, 3)))
    torch.testing.assert_close(model.model.reconstruct(image), reconstruction)


def test_optimizer_has_the_settings() -> None:
    model: Any = ReconstructionAe(**SMALL, learning_rate=0.02, betas=(0.4, 0.8))
    (group,) = model.configure_optimizers().param_groups
    assert (group["lr"], group["betas"]) == (0.02, (0.4, 0.8))


def test_pictures_are_images_above_their_reconstructions() -> None:
    model: Any = ReconstructionAe(**SMALL).eval()
    image = torch.rand(3, 1, 64, 64)
    (rows,) = model.pictures(image).values()
    torch.testing.assert_close(rows[:3], image)
    assert rows.shape == (6, 1, 64, 64)
    assert rows.min() >= 0
    assert rows.max() <= 1
