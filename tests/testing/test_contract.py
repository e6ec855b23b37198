"""Every check of the contract refuses a model that breaks it; tests/plugins shows that sound models pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from anomalib.models import AnomalibModule
from anomalib.pre_processing import PreProcessor
from torchvision.transforms.v2 import Resize

from anomalib_xray.errors import XrayError
from anomalib_xray.scores import ScoredBatch
from anomalib_xray.testing import ModelContract
from anomalib_xray.testing.base import Training, train_on_phantoms
from anomalib_xray_plugins.cae import Cae

Defect = Callable[[Any], None]
"""Damages a model."""

Change = Callable[[torch.Tensor, ScoredBatch], ScoredBatch]
"""Changes what a network gives for its images in evaluation."""


class CaeContract(ModelContract):
    model: ClassVar[type[AnomalibModule]] = Cae
    settings: ClassVar = {"image_size": 64, "width": 4, "latent_channels": 8}
    steps = 3


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def contract_of(defect: Defect) -> CaeContract:
    """The contract of a sound model with one defect."""

    class Contract(CaeContract):
        @classmethod
        def make_model(cls, **changes: Any) -> AnomalibModule:
            model = super().make_model(**changes)
            defect(model)
            return model

    return Contract()


def untrained(contract: CaeContract) -> Training:
    return Training(contract.make_model().eval(), Path(), {})


def scored(change: Change) -> Defect:
    """A defect that changes the output of the network in evaluation."""

    def defect(model: Any) -> None:
        model.model.register_forward_hook(
            lambda network, inputs, output: output if network.training else change(inputs[0], output)
        )

    return defect


def with_score(output: ScoredBatch, values: torch.Tensor) -> ScoredBatch:
    """Replaces the chosen score."""
    return output._replace(pred_score=values, scores={**output.scores, "mse_top_k": values})


def compares_within_the_batch(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return with_score(output, output.pred_score / output.pred_score.max())


def draws(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return with_score(output, output.pred_score + torch.rand(()))


def divides_by_the_foreground(images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return with_score(output, output.pred_score / (images > 0).sum((1, 2, 3)))


def gives_one_score(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return with_score(output, output.pred_score.mean())


def predicts_another_score(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return output._replace(pred_score=output.scores["l1"])


def shines_in_the_background(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    assert output.anomaly_map is not None
    return output._replace(anomaly_map=output.anomaly_map + 1e-6)


def shrinks_the_map(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    assert output.anomaly_map is not None
    return output._replace(anomaly_map=output.anomaly_map[:, ::2, ::2])


def computes_in_single_precision(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
    return with_score(output, output.pred_score.float())


@pytest.mark.parametrize(
    ("change", "check"),
    [
        (compares_within_the_batch, "test_score_does_not_depend_on_the_batch"),
        (compares_within_the_batch, "test_prediction_does_not_depend_on_the_batch"),
        (draws, "test_evaluation_is_deterministic"),
        (divides_by_the_foreground, "test_black_image_has_finite_scores"),
        (gives_one_score, "test_gives_named_scores_one_per_image"),
        (predicts_another_score, "test_gives_named_scores_one_per_image"),
        (predicts_another_score, "test_every_score_can_be_chosen"),
        (shines_in_the_background, "test_background_is_never_anomalous"),
        (shrinks_the_map, "test_map_has_the_size_of_the_image"),
        (computes_in_single_precision, "test_double_precision_agrees"),
    ],
)
def test_refuses_a_wrong_score_or_map(change: Change, check: str) -> None:
    getattr(CaeContract(), check)(untrained(CaeContract()))
    contract = contract_of(scored(change))
    with pytest.raises(AssertionError):
        getattr(contract, check)(untrained(contract))


def stretches(model: Any) -> None:
    model.pre_processor = PreProcessor(Resize((64, 64)))


def test_refuses_a_geometry_that_stretches() -> None:
    contract = contract_of(stretches)
    with pytest.raises(AssertionError):
        contract.test_padding_changes_nothing(untrained(contract))


def test_refuses_a_model_that_takes_any_type() -> None:
    lax: Any = lambda _: None  # noqa: E731  # stands for a model
    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        CaeContract().test_refuses_images_of_another_type(Training(lax, Path(), {}), torch.float16)


def test_refuses_a_setting_that_is_not_checked() -> None:
    class Contract(CaeContract):
        @classmethod
        def make_model(cls, **_: Any) -> AnomalibModule:
            return super().make_model()

    with pytest.raises(pytest.fail.Exception, match="DID NOT RAISE"):
        Contract().test_refuses_a_setting_that_it_does_not_have({"score": "no_such_score"})


def has_random_weights(model: Any) -> None:
    torch.seed()
    torch.nn.init.normal_(model.model.encoder[0][0].weight)


def does_not_learn(model: Any) -> None:
    model.learning_rate = 0.0


def logs_nothing(model: Any) -> None:
    model.log_losses = lambda *_: None


def breaks_on_a_batch_of_one(model: Any) -> None:
    normal = model.training_step

    def step(batch: Any, *_: Any) -> Any:
        assert len(batch.image) > 1
        return normal(batch)

    model.training_step = step


def counts_outside_of_the_checkpoint(model: Any) -> None:
    normal, count = model.training_step, [0]

    def step(batch: Any, *_: Any) -> Any:
        count[0] += 1
        return normal(batch) * count[0] ** 2

    model.training_step = step


def overflows_in_mixed_precision(model: Any) -> None:
    normal = model.training_step

    def step(batch: Any, *_: Any) -> Any:
        loss = normal(batch)
        return loss / (not torch.is_autocast_enabled("cpu"))

    model.training_step = step


def scores_in_the_precision_of_the_trainer(model: Any) -> None:
    def score(batch: Any) -> Any:
        batch.scores = model.model(batch.image).scores
        return batch

    model._score = score


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        (overflows_in_mixed_precision, "test_trains_in_mixed_precision"),
        (scores_in_the_precision_of_the_trainer, "test_trains_in_mixed_precision"),
        (has_random_weights, "test_same_seed_gives_the_same_model"),
        (does_not_learn, "test_training_lowers_the_loss"),
        (logs_nothing, "test_training_lowers_the_loss"),
        (breaks_on_a_batch_of_one, "test_trains_and_scores_a_batch_of_one"),
        (counts_outside_of_the_checkpoint, "test_interrupted_training_goes_on"),
    ],
)
def test_refuses_a_wrong_training(defect: Defect, check: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        getattr(contract_of(defect), check)(tmp_path)


def test_refuses_a_player_without_a_logged_loss() -> None:
    training = replace(untrained(CaeContract()), metrics={"train_accuracy": torch.tensor(1.0)})
    with pytest.raises(AssertionError, match="1 optimisers"):
        CaeContract().test_logs_the_loss_of_every_player(training)


@pytest.mark.slow
def test_refuses_an_export_that_answers_otherwise(tmp_path: Path) -> None:
    def exported_otherwise(_images: torch.Tensor, output: ScoredBatch) -> ScoredBatch:
        return with_score(output, output.pred_score * 1.001) if torch.compiler.is_compiling() else output

    contract = contract_of(scored(exported_otherwise))
    with pytest.raises(AssertionError, match="scores of the exported model differ"):
        contract.test_exported_model_agrees(untrained(contract), tmp_path, "to_onnx")


def writes_half_a_file(model: Any) -> None:
    def to_onnx(folder: Path) -> None:
        (folder / "model.onnx").touch()
        raise XrayError("Cae cannot be exported.")

    model.to_onnx = to_onnx


def refuses_with_another_error(model: Any) -> None:
    def to_onnx(_folder: Path) -> None:
        raise RuntimeError("Cae cannot be exported.")

    model.to_onnx = to_onnx


def refuses(model: Any) -> None:
    def to_onnx(_folder: Path) -> None:
        raise XrayError("Cae cannot be exported.")

    model.to_onnx = to_onnx


def exports(model: Any) -> None:
    model.to_onnx = lambda _folder: None


@pytest.mark.parametrize(
    ("export", "error"),
    [
        (refuses, None),
        (exports, pytest.fail.Exception),
        (writes_half_a_file, AssertionError),
        (refuses_with_another_error, RuntimeError),
    ],
)
def test_a_model_that_is_not_exportable_has_to_refuse(
    export: Defect, error: type[BaseException] | None, tmp_path: Path
) -> None:
    contract = contract_of(export)
    type(contract).exportable = False
    with nullcontext() if error is None else pytest.raises(error):
        contract.test_exported_model_agrees(untrained(contract), tmp_path, "to_onnx")


def test_an_exportable_model_must_not_refuse(tmp_path: Path) -> None:
    contract = contract_of(refuses)
    with pytest.raises(XrayError, match="cannot be exported"):
        contract.test_exported_model_agrees(untrained(contract), tmp_path, "to_onnx")


class GrandchildOfAnomalib(Cae):
    """Not direct, not declared by any entry point, one setting without a help text."""

    def __init__(self, undocumented: int = 0, **settings: Any) -> None:
        del undocumented
        super().__init__(**settings)


@pytest.mark.parametrize(
    "check",
    [
        "test_is_a_direct_subclass_of_anomalibs_module",
        "test_is_offered_by_its_entry_point",
        "test_is_listed",
        "test_is_found_by_name",
        "test_is_found_by_class_path",
        "test_takes_its_settings_from_a_configuration",
    ],
)
def test_refuses_a_model_that_anomalib_does_not_find(check: str) -> None:
    class Contract(CaeContract):
        model: ClassVar[type[AnomalibModule]] = GrandchildOfAnomalib

    with pytest.raises(Exception):  # noqa: B017, PT011  # each look-up of anomalib raises another kind
        getattr(Contract(), check)()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Training:
    folder = tmp_path_factory.mktemp("sound")
    return train_on_phantoms(CaeContract.make_model, tmp_path_factory.getbasetemp() / "phantoms", folder)


def test_refuses_a_checkpoint_with_more_than_plain_data(sound: Training, tmp_path: Path) -> None:
    checkpoint = torch.load(sound.checkpoint, weights_only=False)
    torch.save({**checkpoint, "contract": CaeContract()}, tmp_path / "model.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        CaeContract().test_checkpoint_loads_safely(replace(sound, checkpoint=tmp_path / "model.ckpt"))


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("state_dict", "test_checkpoint_restores_the_model"),
        ("anomalib_pre_processor_config", "test_checkpoint_restores_settings"),
        ("anomalib_post_processor_config", "test_checkpoint_restores_settings"),
    ],
)
def test_refuses_a_checkpoint_that_holds_something_else(sound: Training, tmp_path: Path, part: str, check: str) -> None:
    getattr(CaeContract(), check)(sound)
    checkpoint = torch.load(sound.checkpoint, weights_only=False)
    changed = {
        "state_dict": {name: value * 0 for name, value in checkpoint["state_dict"].items()},
        "anomalib_pre_processor_config": {"image_size": 64, "equalize": True, "padding": "centred"},
        "anomalib_post_processor_config": {**checkpoint["anomalib_post_processor_config"], "image_quantile": 0.5},
    }
    torch.save({**checkpoint, part: changed[part]}, tmp_path / "model.ckpt")
    with pytest.raises(AssertionError):
        getattr(CaeContract(), check)(replace(sound, checkpoint=tmp_path / "model.ckpt"))
