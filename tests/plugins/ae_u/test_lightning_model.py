from __future__ import annotations

from typing import Any

import numpy as np
import torch
from anomalib.data import ImageBatch

from anomalib_xray_plugins.ae_u import AeU

SMALL: dict[str, Any] = {"image_size": 64, "width": 2, "hidden": 8, "latent_size": 4, "map_sigma": 0.0}


def test_training_step_lowers_the_likelihood() -> None:
    model: Any = AeU(**SMALL, masked=False)
    model.log_losses = lambda *_: None
    image = torch.rand(3, 1, 64, 64)
    seen: list[Any] = []
    model.model.network.register_forward_hook(lambda _, __, made: seen.append(made))
    loss = model.training_step(ImageBatch(image=image.repeat(1, 3, 1, 1)))
    made, s = seen[0].image.detach().numpy(), seen[0].log_variance.detach().numpy()
    expected = (np.exp(-s) * (2 * image.numpy() - 1 - made) ** 2).mean() + s.mean()
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)


def test_rec_is_the_error_over_the_variance_and_its_map() -> None:
    torch.manual_seed(0)
    image = torch.rand(2, 1, 64, 64)
    image[:, :, :30] = 0
    model: Any = AeU(**SMALL).eval()
    made = model.model.network(2 * image - 1)
    output = model.model(image.repeat(1, 3, 1, 1))
    mask = image.numpy() > 0
    error = np.exp(-made.log_variance.detach().numpy()) * (2 * image - 1 - made.image).detach().numpy() ** 2
    for number in range(2):
        expected = error[number][mask[number]].mean()
        np.testing.assert_allclose(output.scores["rec"][number].item(), expected, rtol=1e-5)
    np.testing.assert_allclose(output.anomaly_map.detach().numpy(), (error * mask)[:, 0], rtol=1e-4, atol=1e-6)
    assert torch.equal(output.pred_score, output.scores["rec"])


def test_other_scores_have_their_own_map() -> None:
    model: Any = AeU(**{**SMALL, "score": "l1"}).eval()
    image = torch.rand(2, 1, 64, 64)
    output = model.model(image.repeat(1, 3, 1, 1))
    torch.testing.assert_close(output.anomaly_map, (image - model.model.reconstruct(image)).abs()[:, 0])
