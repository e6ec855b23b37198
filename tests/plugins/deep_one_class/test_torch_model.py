from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anomalib_xray.errors import XrayError
from anomalib_xray_plugins.deep_one_class.torch_model import DeepOneClassModel, Features, cosine_distance


def small(**settings: Any) -> DeepOneClassModel:
    torch.manual_seed(0)
    return DeepOneClassModel(Features("test_resnet", 2, 0, None), **settings).eval()


@pytest.mark.parametrize(("levels", "expected"), [(0, set()), (1, {"conv1", "bn1"}), (2, {"conv1", "bn1", "layer1"})])
def test_first_levels_are_frozen(levels: int, expected: set[str]) -> None:
    features = Features("resnet18", 2, levels, None)
    frozen = {
        name.partition(".")[0]
        for name, weight in features.backbone.network.named_parameters()
        if not weight.requires_grad
    }
    assert frozen == expected


def test_first_blocks_of_a_transformer_are_frozen() -> None:
    features = Features("test_vit", 2, 2, None, image_size=64)
    learnt = {name for name, weight in features.named_parameters() if weight.requires_grad}
    assert learnt
    assert all(name.startswith("backbone.network.blocks.2.") for name in learnt)
    assert features(torch.rand(2, 1, 64, 64)).shape == (2, 64)


def test_statistics_of_frozen_levels_stay() -> None:
    features = Features("resnet18", 2, 2, None).train()
    network: Any = features.backbone.network
    before = {name: value.clone() for name, value in network.state_dict().items() if "running_mean" in name}
    features(torch.rand(2, 1, 64, 64))
    after = network.state_dict()
    changed = {name.partition(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert changed == {"layer2"}
    assert not features.eval().training


def test_fully_connected_features_are_at_least_0() -> None:
    features = Features("test_resnet", 2, 3, 40)
    found = features(torch.rand(2, 1, 64, 64))
    assert found.shape == (2, 40)
    assert found.min() >= 0
    assert {name.partition(".")[0] for name, weight in features.named_parameters() if weight.requires_grad} == {"head"}


@pytest.mark.parametrize("levels", [-1, 4])
def test_more_frozen_levels_than_there_are_are_refused(levels: int) -> None:
    with pytest.raises(XrayError, match="frozen_levels"):
        Features("resnet18", 2, levels, None)


def test_cosine_distance_is_one_less_the_cosine() -> None:
    source = np.random.default_rng(0)
    features, templates = source.normal(size=(3, 5)), source.normal(size=(4, 5))
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    expected = [[1 - one @ other / np.linalg.norm(one) for other in templates] for one in features]
    found = cosine_distance(torch.from_numpy(features), torch.from_numpy(templates))
    np.testing.assert_allclose(found.numpy(), expected)
    nearly = torch.tensor([[1.0, 1e-5]])
    found = cosine_distance(nearly, torch.tensor([[1.0, 0.0]]))
    np.testing.assert_allclose(found.item(), 0.5e-10, rtol=1e-3)


def test_scores_compare_with_templates_and_their_mean() -> None:
    model = small(neighbours=2)
    normal, images = torch.rand(5, 3, 64, 64), torch.rand(3, 3, 64, 64)
    model.train().set_templates([normal[:3], normal[3:]])
    assert model.training
    model.eval()
    with torch.no_grad():
        scores = model(images).scores
        features, stored = (model.features(x.mean(1, keepdim=True)).double().numpy() for x in (images, normal))
    for index, feature in enumerate(features):
        distances = sorted(1 - feature @ one / np.linalg.norm(feature) / np.linalg.norm(one) for one in stored)
        np.testing.assert_allclose(scores["template_distance"][index], distances[0], rtol=1e-3)
        np.testing.assert_allclose(scores["template_distance_mean"][index], np.mean(distances[:2]), rtol=1e-3)
        center = ((feature - stored.mean(0)) ** 2).mean()
        np.testing.assert_allclose(scores["center_distance"][index], center, rtol=1e-3)


def test_template_is_at_no_distance_from_itself() -> None:
    model = small()
    normal = torch.rand(5, 3, 64, 64)
    model.set_templates([normal])
    with torch.no_grad():
        assert model(normal).scores["template_distance"].max() < 1e-6


def test_few_templates_are_all_averaged() -> None:
    model = small(neighbours=5)
    model.set_templates([torch.rand(1, 3, 64, 64)])
    scores = model(torch.rand(2, 3, 64, 64)).scores
    assert torch.equal(scores["template_distance_mean"], scores["template_distance"])


def test_state_of_another_training_brings_its_templates_and_classes() -> None:
    model, other = small(), small()
    model.set_classes(7)
    model.set_templates([torch.rand(4, 3, 64, 64)])
    other.load_state_dict(model.state_dict())
    assert other.classifier.out_features == 7
    assert torch.equal(other.templates, model.templates)


@pytest.mark.parametrize(("classes", "outputs"), [(1, 2), (2, 2), (5, 5)])
def test_classifier_has_an_output_for_each_class(classes: int, outputs: int) -> None:
    model = small()
    model.set_classes(classes)
    assert model.classifier.out_features == outputs
