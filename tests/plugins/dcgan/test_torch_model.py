from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from anomalib_xray_plugins.dcgan.torch_model import SCORES, DcganModel


def small(**settings: float | str) -> DcganModel:
    arguments = {"image_size": 64, "width": 4, "discriminator_width": 4, "latent_size": 16, "references": 5000}
    return DcganModel(**{**arguments, **settings})  # type: ignore[arg-type]  # a mixture of types


def radiographs(count: int) -> torch.Tensor:
    image = torch.rand(count, 1, 64, 64, generator=torch.Generator().manual_seed(count)) * 0.9 + 0.1
    image[..., :20] = 0
    return image


def test_scores_are_the_discriminators_and_the_distances() -> None:
    torch.manual_seed(0)
    model = small(top_k=10).eval()
    model.remember(radiographs(4), torch.Generator().manual_seed(0))
    image = radiographs(2)
    output = model(image.repeat(1, 3, 1, 1))
    assert tuple(output.scores) == SCORES
    assert torch.equal(output.pred_score, output.scores["feature_distance_top_k"])

    logit = model.discriminator(2 * image - 1).detach().numpy()
    np.testing.assert_allclose(output.scores["discriminator"].detach().numpy(), np.log1p(np.exp(-logit)), rtol=1e-5)

    mask = image > 0
    level = model.discriminator.features(2 * image - 1)[1]
    distance = model.memory(level, mask.float())
    for index in range(2):
        pixels = distance[index][mask[index]].detach().numpy()
        assert output.scores["feature_distance"][index].item() == pytest.approx(pixels.mean(), rel=1e-5)
        largest = np.sort(pixels)[-10:].mean()
        assert output.scores["feature_distance_top_k"][index].item() == pytest.approx(largest, rel=1e-5)


def test_an_image_that_was_stored_is_closer_than_one_with_something_new() -> None:
    torch.manual_seed(0)
    model = small().eval()
    images = radiographs(3)
    model.remember(images, torch.Generator().manual_seed(0))
    other = images.clone()
    other[..., 30:40, 30:40] = torch.tensor([0.01, 0.99]).repeat(5)
    seen, unseen = (model(some.repeat(1, 3, 1, 1)) for some in (images, other))
    assert (unseen.scores["feature_distance"] > seen.scores["feature_distance"]).all()
    added = unseen.anomaly_map[:, 28:42, 28:42].mean() / unseen.anomaly_map[:, 44:, 44:].mean()
    assert added > 2


@pytest.mark.parametrize(("side", "map_side"), [(64, 16), (128, 32), (256, 32), (512, 32)])
def test_maps_of_large_images_are_not_larger(side: int, map_side: int) -> None:
    model = small(image_size=side, references=8)
    assert side // 2 ** (model.compared_level + 1) == map_side


def test_average_follows_the_generator() -> None:
    assert small().average is None
    average = small(ema_decay=0.9).average
    assert isinstance(average, AveragedModel)


def test_a_critics_score_ranks_as_its_output_far_from_0() -> None:
    torch.manual_seed(0)
    model = small(adversarial_loss="wgan-gp").eval()
    image = radiographs(5)
    with torch.no_grad():
        model.discriminator.head.bias += 150  # the loss leaves a critic's zero point open
        score = model(image.repeat(1, 3, 1, 1)).scores["discriminator"]
        torch.testing.assert_close(score, -model.discriminator(2 * image - 1))
    assert len(score.unique()) == 5
