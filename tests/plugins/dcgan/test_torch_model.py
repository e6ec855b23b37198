from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from anomalib_xray_plugins.dcgan.torch_model import SCORES, DcganModel, FeatureMemory


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


def test_remembering_changes_nothing_but_the_memory() -> None:
    torch.manual_seed(0)
    model = small().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.remember(radiographs(2), torch.Generator())
    assert model.discriminator.training
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"memory.references", "memory.scale", "memory.filled"}


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


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def memory_of(features: torch.Tensor, mask: torch.Tensor, references: int = 5000) -> FeatureMemory:
    memory = FeatureMemory(features.shape[1], references)
    memory.store(features, mask, generator())
    return memory


def test_distance_is_that_of_the_closest_whitened_feature() -> None:
    torch.manual_seed(0)
    stored, mask = torch.randn(3, 4, 8, 8) * torch.tensor([1.0, 5.0, 0.3, 2.0])[:, None, None], torch.ones(3, 1, 8, 8)
    memory = memory_of(stored, mask)
    query = torch.randn(2, 4, 8, 8)
    found = memory(query, torch.ones(2, 1, 8, 8))

    flat = stored.permute(0, 2, 3, 1).reshape(-1, 4).numpy().astype(np.float64)
    vectors = query.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    differences = (vectors[:, None] - flat[None]) / flat.std(0)
    expected = (differences**2).mean(2).min(1).reshape(2, 1, 8, 8)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-5)


def test_what_was_seen_is_not_far() -> None:
    torch.manual_seed(0)
    stored = torch.randn(1, 4, 8, 8)
    memory = memory_of(stored, torch.ones(1, 1, 8, 8))
    ones = torch.ones(1, 1, 8, 8)
    assert memory(stored, ones).max() < 1e-5
    # Wherever it was seen.
    assert memory(stored.flip(2, 3), ones).max() < 1e-5
    assert memory(stored + 3, ones).mean() > 1


def test_background_is_neither_stored_nor_compared() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(1, 4, 8, 8), torch.zeros(1, 1, 16, 16)
    mask[..., 4:12, 4:12] = 1
    memory = memory_of(features, mask, references=16)
    inside = features[0, :, 2:6, 2:6].flatten(1).T
    restored = memory.references / memory.scale
    assert torch.allclose(torch.sort(restored[:, 0]).values, torch.sort(inside[:, 0]).values, atol=1e-5)

    query = features.clone()
    query[..., 2:6, 2:6] += 2
    distance = memory(query, mask)
    assert (distance[mask == 0] == 0).all()
    elsewhere = query.clone()
    elsewhere[..., :2, :] = 1000.0
    assert torch.equal(memory(elsewhere, mask), distance)


def test_a_small_memory_holds_a_random_choice_that_can_be_repeated() -> None:
    torch.manual_seed(0)
    features, mask = torch.randn(4, 4, 8, 8), torch.ones(4, 1, 8, 8)
    first, second = (memory_of(features, mask, references=10) for _ in range(2))
    assert torch.equal(first.references, second.references)
    assert len(torch.unique(first.references, dim=0)) == 10
    assert len(torch.unique(memory_of(features, mask, references=1000).references, dim=0)) == 4 * 64


def test_an_empty_memory_and_an_image_without_foreground_give_zeros() -> None:
    memory = FeatureMemory(4, 8)
    ones = torch.ones(1, 1, 8, 8)
    assert (memory(torch.randn(1, 4, 8, 8), ones) == 0).all()
    memory.store(torch.randn(1, 4, 8, 8), ones * 0, generator())
    assert memory.filled == 0
    memory.store(torch.randn(1, 4, 8, 8), ones, generator())
    assert memory.filled == 1
    assert (memory(torch.randn(1, 4, 8, 8), ones * 0) == 0).all()


def test_a_channel_that_never_varies_does_not_outweigh_the_others() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 3, 8, 8)
    features[:, 2] = 1.0
    memory = memory_of(features, torch.ones(2, 1, 8, 8))
    features[:, 2] += 1e-4
    assert memory(features, torch.ones(2, 1, 8, 8)).max() < 1e-3
