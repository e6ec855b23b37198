from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino  # type: ignore[import-untyped]  # openvino ships no types
import pytest
import torch
from anomalib.models import AnomalibModule

from anomalib_xray.bundling.graph import ScoreGraph, export_onnx, to_openvino
from anomalib_xray.bundling.precisions import in_half_precision, weights_of
from anomalib_xray.edge.graph import Graph
from anomalib_xray.errors import XrayError
from anomalib_xray.models import AlphaGan, Cae

Exported = tuple[AnomalibModule, list[str], openvino.Model]
SHAPES = ((40, 64), (64, 64), (93, 57), (200, 120))


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, shape).astype(np.float32) / 255 for shape in SHAPES]


def halved_numbers(graph: openvino.Model) -> int:
    constants = [node for node in graph.get_ops() if node.get_type_name() == "Constant"]
    return sum(node.data.size for node in constants if node.get_element_type() == openvino.Type.f16)


def export(model: AnomalibModule, path: Path) -> Exported:
    return model, export_onnx(ScoreGraph(model).eval(), path), to_openvino(path)


@pytest.fixture(scope="module")
def exported(bundling_cae: Callable[..., Cae], tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export(bundling_cae(extra_scores=["ssim", "gradient"]), tmp_path_factory.mktemp("graph") / "model.onnx")


def check_answers(exported: Exported) -> None:
    model, names, graph = exported
    run = Graph(graph)
    for picture in pictures():
        batch = torch.from_numpy(picture)[None, None].repeat(1, 3, 1, 1)
        expected = model.model(model.pre_processor(batch))
        scores, anomaly_map = run(picture)
        assert expected.pred_score.item() == pytest.approx(scores[names.index(model.hparams["score"])], rel=1e-4)
        for score, value in zip(names, scores, strict=True):
            assert value == pytest.approx(expected.scores[score].item(), rel=1e-3, abs=1e-5), score
        assert anomaly_map is not None
        np.testing.assert_allclose(anomaly_map, expected.anomaly_map[0].detach().numpy(), rtol=1e-3, atol=1e-5)
    assert [sorted(output.names) for output in graph.outputs] == [["scores"], ["anomaly_map"]]
    assert graph.outputs[0].partial_shape.to_string() == f"[1,{len(names)}]"
    assert graph.inputs[0].partial_shape.to_string() == "[1,3,?,?]"


def test_scores_and_map_are_those_of_the_network(exported: Exported) -> None:
    check_answers(exported)
    # All named scores are there but those that need a gradient.
    assert {"mse", "mse_top_k", "l1", "ssim", "ssim_top_k"} <= set(exported[1])
    assert not [name for name in exported[1] if name.startswith("gradient")]


@pytest.mark.slow
def test_so_are_those_of_a_gan(bundling_gan: AlphaGan, tmp_path: Path) -> None:
    exported = export(bundling_gan, tmp_path / "model.onnx")
    check_answers(exported)
    assert {"discriminator", "code_discriminator", "latent_distance"} <= set(exported[1])


def test_a_score_of_a_gradient_cannot_be_exported(bundling_cae: Callable[..., Cae], tmp_path: Path) -> None:
    model = bundling_cae(score="gradient", extra_scores=["gradient"])
    with pytest.raises(XrayError, match="needs a gradient"):
        export_onnx(ScoreGraph(model).eval(), tmp_path / "model.onnx")


def test_only_the_weights_of_layers_are_halved(exported: Exported) -> None:
    model, names, graph = exported
    layers = [layer for layer in model.model.modules() if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    assert sum(weights_of(node) is not None for node in graph.get_ops()) == len(layers)
    half = in_half_precision(graph)
    assert halved_numbers(half) == sum(layer.weight.numel() for layer in layers)
    assert halved_numbers(graph) == 0, "the graph that it was made of is as it was"
    for picture in pictures():
        scores, _ = Graph(graph)(picture)
        np.testing.assert_allclose(Graph(half)(picture)[0], scores, rtol=5e-3)
    assert len(names) == len(scores)
