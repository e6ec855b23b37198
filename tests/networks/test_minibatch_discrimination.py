from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anomalib_xray.networks.minibatch_discrimination import MinibatchDiscrimination
from anomalib_xray.openvino_runtime import openvino_core

FEATURES, KERNELS, KERNEL_SIZE = 10, 3, 4


def layer(references: int = 5, seed: int = 0) -> MinibatchDiscrimination:
    torch.manual_seed(seed)
    return MinibatchDiscrimination(FEATURES, KERNELS, KERNEL_SIZE, rank=6, references=references).double()


def features(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, FEATURES, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(module: MinibatchDiscrimination, inputs: Tensor) -> np.ndarray:
    """M = f(x) T of each image, with T as one matrix."""
    matrix = (module.up.weight @ module.down.weight).T.detach().numpy()
    return (inputs.numpy() @ matrix).reshape(len(inputs), KERNELS, KERNEL_SIZE)


def mean_closeness(one: np.ndarray, others: list[np.ndarray]) -> list[float]:
    """mean_j exp(-|M_ib - M_jb|_1) for each row b."""
    return [
        sum(math.exp(-sum(abs(a - b) for a, b in zip(one[row], other[row], strict=True))) for other in others)
        / len(others)
        for row in range(KERNELS)
    ]


def test_training_compares_with_the_other_images_of_the_batch() -> None:
    module, inputs = layer().train(), features(6)
    drawn = rows(module, inputs)
    expected = [mean_closeness(drawn[i], [drawn[j] for j in range(6) if j != i]) for i in range(6)]
    np.testing.assert_allclose(module(inputs).detach(), expected)


def test_evaluation_compares_with_remembered_images() -> None:
    module, inputs, remembered = layer(), features(2), features(4, seed=2)
    module.remember(remembered)
    expected = [mean_closeness(one, list(rows(module, remembered))) for one in rows(module, inputs)]
    np.testing.assert_allclose(module.eval()(inputs).detach(), expected)


def test_evaluation_does_not_depend_on_the_batch() -> None:
    module, inputs = layer(), features(5)
    module.remember(features(5, seed=2))
    module.eval()
    together = module(inputs)
    for index in range(5):
        torch.testing.assert_close(module(inputs[index : index + 1]), together[index : index + 1])
    torch.testing.assert_close(module(inputs.flip(0)), together.flip(0))


@pytest.mark.parametrize("training", [True, False])
def test_a_single_image_is_compared_with_remembered_ones(training: bool) -> None:
    module, inputs = layer(), features(1)
    assert module.train(training)(inputs).tolist() == [[0.0] * KERNELS]
    module.remember(features(3, seed=2))
    expected = mean_closeness(rows(module, inputs)[0], list(rows(module, features(3, seed=2))))
    np.testing.assert_allclose(module(inputs).detach()[0], expected)


def test_remembers_the_newest_images_as_far_as_there_is_room() -> None:
    module, inputs = layer(references=5), features(1)
    seen: list[np.ndarray] = []
    for seed, count in ((2, 2), (3, 2), (4, 3), (5, 5)):
        batch = features(count, seed)
        module.remember(batch)
        seen = (list(rows(module, batch)) + seen)[:5]
        np.testing.assert_allclose(module.eval()(inputs).detach()[0], mean_closeness(rows(module, inputs)[0], seen))
    assert len(seen) == int(module.stored) == 5


def test_a_batch_larger_than_the_room_fills_it() -> None:
    module = layer(references=5)
    module.remember(features(9))
    assert int(module.stored) == 5
    assert len(module.references) == 5


def test_what_is_remembered_is_saved_and_takes_no_gradient() -> None:
    module, inputs = layer(), features(2)
    module.remember(features(3, seed=2).requires_grad_())
    assert not module.references.requires_grad
    restored = layer(seed=9)
    restored.load_state_dict(module.state_dict())
    torch.testing.assert_close(restored.eval()(inputs), module.eval()(inputs))


def test_training_reaches_both_thin_matrices() -> None:
    module = layer().train()
    module(features(4)).sum().backward()
    assert module.down.weight.grad.abs().max() > 0
    assert module.up.weight.grad.abs().max() > 0


def test_identical_images_are_as_close_as_can_be_and_unrelated_ones_are_not() -> None:
    module = layer().train()
    assert torch.allclose(module(features(1).repeat(4, 1)), torch.ones(4, KERNELS, dtype=torch.float64))
    assert (module(features(4)) < 0.9).all()
    assert (module(features(4)) > 0.01).all()


@pytest.mark.parametrize("stored", [0, 3])
def test_the_exported_graph_gives_the_same_for_any_batch(stored: int, tmp_path: Path) -> None:
    module = layer().float().eval()
    if stored:
        module.remember(features(stored, seed=2).float())
    torch.onnx.export(
        module,
        (features(2).float(),),
        tmp_path / "layer.onnx",
        opset_version=18,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    compiled = openvino_core().compile_model(tmp_path / "layer.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for count in (1, 4):
        inputs = features(count).float()
        np.testing.assert_allclose(compiled(inputs.numpy())[0], module(inputs).detach(), rtol=1e-5, atol=1e-7)
