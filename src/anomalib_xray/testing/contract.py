"""The whole contract of a model plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from anomalib.models import AnomalibModule, convert_to_snake_case, get_model, list_models
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningModule, Trainer

import anomalib_xray.models
from anomalib_xray.edge.bundle import Bundle
from anomalib_xray.edge.predictor import Predictor
from anomalib_xray.errors import XrayError
from anomalib_xray.testing.base import (
    IMAGE_QUANTILE,
    TOLERANCE,
    ContractBase,
    Training,
    as_input,
    assert_same_weights,
    fit,
    normal_batch,
    pre_process,
    prepared,
    radiographs,
    score,
)
from anomalib_xray.testing.scoring import ScoringContract


class DiscoveryContract(ContractBase):
    """The plugin is an anomalib model like those that come with anomalib."""

    def test_is_a_direct_subclass_of_anomalibs_module(self) -> None:
        """Look-ups of anomalib ignore subclasses of subclasses; share code by mixins."""
        assert self.model in AnomalibModule.__subclasses__()

    def test_is_offered_by_its_entry_point(self) -> None:
        """``anomalib_xray.models.<Name>`` is the plugin's class."""
        assert getattr(anomalib_xray.models, self.model.__name__) is self.model

    def test_is_listed(self) -> None:
        """``list_models()`` names it."""
        assert convert_to_snake_case(self.model.__name__) in list_models()

    def test_is_found_by_name(self) -> None:
        """``get_model`` takes both spellings of its name."""
        name = self.model.__name__
        settings = dict(self.settings)
        assert type(get_model(name, **settings)) is self.model
        assert type(get_model(convert_to_snake_case(name), **settings)) is self.model

    def test_is_found_by_class_path(self) -> None:
        """``get_model`` takes the class path that configurations write."""
        class_path = f"anomalib_xray.models.{self.model.__name__}"
        assert type(get_model({"class_path": class_path, "init_args": dict(self.settings)})) is self.model

    def test_takes_its_settings_from_a_configuration(self) -> None:
        """The ``anomalib`` command builds it, and every setting has a help text and a type."""
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(AnomalibModule, "model")
        model = {"class_path": f"anomalib_xray.models.{self.model.__name__}", "init_args": dict(self.settings)}
        built = parser.instantiate_classes(parser.parse_object({"model": model})).model
        assert type(built) is self.model
        assert {name: built.hparams[name] for name in self.settings} == dict(self.settings)

        help_parser = ArgumentParser()
        help_parser.add_class_arguments(self.model)
        undocumented = [action.dest for action in help_parser._actions if action.help in (None, "", "_EMPTY_HELP_")]
        assert undocumented == []


class LossHistory(Callback):
    """Keeps a logged loss of every epoch, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.values: list[float] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the logged loss."""
        del pl_module
        assert self.name in trainer.callback_metrics, (
            f"{self.name} was not logged; set falling_loss to one of {', '.join(trainer.callback_metrics)}"
        )
        self.values.append(float(trainer.callback_metrics[self.name]))


class TrainingContract(ContractBase):
    """Training works from the first step and can be repeated."""

    def test_logs_the_loss_of_every_player(self, trained: Training) -> None:
        """There is at least one finite ``train_...loss`` per optimiser, and one at all."""
        if self.falling_loss is None:
            pytest.skip(f"{self.model.__name__} has no loss")
        losses = {
            name: value
            for name, value in trained.metrics.items()
            if name.startswith("train_") and name.endswith("loss")
        }
        optimizers = trained.model.configure_optimizers()
        players = len(optimizers) if isinstance(optimizers, list | tuple) else 1
        assert len(losses) >= players, f"{players} optimisers, but only these losses are logged: {sorted(losses)}"
        assert [name for name, value in losses.items() if not value.isfinite()] == []

    def test_trains_and_scores_a_batch_of_one(self, tmp_path: Path) -> None:
        """The last batch of an epoch may hold one image."""
        model = self.make_model()
        image = prepared(model)[:1]
        fit(model, [normal_batch(image)], tmp_path)
        output = score(model, image)
        for name, values in output.scores.items():
            assert values.isfinite().all(), name
            assert values.shape == (1,), name

    def test_trains_in_mixed_precision(self, tmp_path: Path) -> None:
        """With ``bf16-mixed`` losses are finite, and what a checkpoint holds and all scores have single precision."""
        model = self.make_model()
        images = prepared(model)
        training = fit(model, [normal_batch(images)], tmp_path, precision="bf16-mixed")
        assert [name for name, value in training.metrics.items() if not value.isfinite()] == []
        state = _load(self.model, training.checkpoint)["state_dict"]
        weights = {name: value for name, value in state.items() if name.startswith("model.")}
        halved = [name for name, value in weights.items() if value.dtype in (torch.bfloat16, torch.float16)]
        assert halved == []
        assert [name for name, value in weights.items() if not value.isfinite().all()] == []
        expected = score(training.model, images)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found: Any = training.model.test_step(normal_batch(images), 0)
        for name, values in expected.scores.items():
            assert values.isfinite().all(), name
            assert torch.equal(found.scores[name], values), f"{name} depends on the trainer's precision"

    def test_same_seed_gives_the_same_model(self, tmp_path: Path) -> None:
        """Two models of one seed have equal weights before and after two steps, and score alike."""
        # The state of the generator differs, so that only the model's own seed can make them equal.
        torch.manual_seed(1)
        first = self.make_model(seed=7)
        torch.manual_seed(2)
        assert_same_weights(self.make_model(seed=7), first)

        images = prepared(first)
        batches = [normal_batch(images[:2]), normal_batch(images[2:])]
        scores = []
        trained = []
        for run in ("first", "second"):
            model = self.make_model(seed=7)
            trained.append(fit(model, batches, tmp_path / run).model)
            scores.append(score(model, images).scores)
        assert_same_weights(trained[1], trained[0])
        for name, values in scores[0].items():
            assert torch.equal(scores[1][name], values), name

    def test_training_lowers_the_loss(self, tmp_path: Path) -> None:
        """``falling_loss`` falls within ``steps`` steps on one batch."""
        if self.falling_loss is None:
            pytest.skip(f"{self.model.__name__} has no loss")
        model = self.make_model()
        losses = LossHistory(self.falling_loss)
        fit(model, [normal_batch(prepared(model))], tmp_path, epochs=self.steps, callbacks=(losses,))
        assert len(losses.values) == self.steps
        assert losses.values[-1] < losses.values[0], f"{self.falling_loss}: {losses.values}"


class StorageContract(ContractBase):
    """A model comes back from its checkpoint as it was, to be used or to be trained on."""

    def test_checkpoint_loads_safely(self, trained: Training) -> None:
        """The checkpoint holds plain data only, so that opening somebody else's runs no code."""
        checkpoint = _load(self.model, trained.checkpoint)
        assert {"state_dict", "optimizer_states", "epoch", "hyper_parameters"} <= checkpoint.keys()

    def test_checkpoint_restores_the_model(self, trained: Training) -> None:
        """``load_from_checkpoint`` needs no arguments and gives the same scores and the same decisions."""
        restored = self.model.load_from_checkpoint(trained.checkpoint, map_location="cpu").eval()
        images = prepared(trained.model)
        expected = score(trained.model, images)
        found = score(restored, images)
        for name, values in expected.scores.items():
            assert torch.equal(found.scores[name], values), name
        with torch.no_grad():
            decided, decided_before = restored(images), trained.model(images)
        for output, before in zip(decided, decided_before, strict=True):
            assert (output is None and before is None) or torch.equal(output, before)

    def test_checkpoint_restores_settings(self, trained: Training) -> None:
        """Settings, pre-processor and post-processor come back, also where they are not the default ones."""
        restored = self.model.load_from_checkpoint(trained.checkpoint, map_location="cpu")
        settings = {name: trained.model.hparams[name] for name in self.settings}
        assert {name: restored.hparams[name] for name in self.settings} == settings
        for name in ("pre_processor", "post_processor"):
            found, expected = getattr(restored, name), getattr(trained.model, name)
            assert found.checkpoint_config() == expected.checkpoint_config(), name
        post_processor: Any = restored.post_processor
        assert post_processor.image_quantile == IMAGE_QUANTILE
        for name in ("image_threshold", "image_min", "image_max"):
            value = getattr(post_processor, name)
            assert value.isfinite(), name
            assert torch.equal(value, getattr(trained.model.post_processor, name)), name

    def test_interrupted_training_goes_on(self, tmp_path: Path) -> None:
        """One epoch, a checkpoint and a second epoch give what two epochs give: weights, optimisers and steps.

        Batches are fixed here. What remains is the state of the model, of its optimisers and of the random number
        generators, and all of it must be in the checkpoint.
        """
        images = prepared(self.make_model())
        batches = [normal_batch(images[:2]), normal_batch(images[2:])]

        def run(name: str, epochs: int, resume: Path | None = None) -> Training:
            return fit(self.make_model(), batches, tmp_path / name, epochs=epochs, resume=resume)

        whole = run("whole", 2)
        interrupted = run("interrupted", 1)
        resumed = run("resumed", 2, interrupted.checkpoint)
        states = [_load(self.model, training.checkpoint) for training in (resumed, whole)]
        assert [state["epoch"] for state in states] == [1, 1]
        assert states[0]["global_step"] == states[1]["global_step"]
        assert_same_weights(resumed.model, whole.model)
        # No tolerance, because nothing was computed in another order.
        optimizers = [state["optimizer_states"] for state in states]
        torch.testing.assert_close(optimizers[0], optimizers[1], rtol=0, atol=0)


def _load(model: Any, checkpoint: Path) -> dict[str, Any]:  # the class of an AnomalibModule
    with torch.serialization.safe_globals(list(model.checkpoint_safe_globals())):
        state: dict[str, Any] = torch.load(checkpoint, weights_only=True, map_location="cpu")
    return state


class ExportContract(ContractBase):
    """ONNX and OpenVINO files run without torch and give the same numbers, or are refused."""

    @pytest.mark.parametrize("export", ["to_onnx", "to_openvino"])
    def test_exported_model_agrees(self, trained: Training, tmp_path: Path, export: str) -> None:
        """Score, decision and map agree on images of several sizes, as the description beside the export says.

        A model that is not ``exportable`` refuses instead, before anything is written.
        """
        if not self.exportable:
            with pytest.raises(XrayError, match=self.model.__name__):
                getattr(trained.model, export)(tmp_path)
            assert list(tmp_path.iterdir()) == []
            return
        path = Path(getattr(trained.model, export)(tmp_path))
        bundle = Bundle.open(path)
        assert bundle.model == self.model.__name__
        assert bundle.score == trained.model.hparams["score"]
        (parity,) = bundle.precisions["fp32"].parity.values()
        assert parity.images > 0
        assert parity.score is not None, "the exported model gives scores that are not finite"
        assert parity.score <= TOLERANCE, f"scores of the exported model differ: {parity}"
        assert (parity.map or 0) <= TOLERANCE, f"maps of the exported model differ: {parity}"
        predictor = Predictor(bundle)
        assert len({radiograph.shape for radiograph in radiographs()}) > 1
        for radiograph in radiographs():
            prediction = predictor.predict(radiograph)
            expected = score(trained.model, pre_process(trained.model, as_input(radiograph)))
            assert prediction.value == pytest.approx(float(expected.pred_score), rel=TOLERANCE)
            with torch.no_grad():
                decided = trained.model(as_input(radiograph))
            assert prediction.is_anomalous == bool(decided.pred_label)
            assert (prediction.heat_map is None) == (expected.anomaly_map is None)
            if prediction.heat_map is not None:
                assert prediction.heat_map.shape == radiograph.shape


class ModelContract(DiscoveryContract, TrainingContract, ScoringContract, StorageContract, ExportContract):
    """Base of a test class that checks one model plugin; a subclass names the plugin and small settings.

    The plugin's distribution must be installed, so that its entry point is found. Everything runs on the CPU and on
    generated hands; with an image size of 64 and narrow layers the whole contract takes about a minute. One part alone
    runs with ``pytest -k export``.

    Attributes:
        model: The plugin's class.
        settings: Arguments of its constructor; small ones, so that a step takes milliseconds.
        falling_loss: Logged loss that must fall within ``steps`` steps on one batch. An adversarial loss need not
            fall: name the reconstruction's. ``None`` for a model that is fitted without one.
        steps: Number of these steps.
        exportable: Whether the model can be exported. One that cannot, for example because it needs a gradient to
            score, must refuse with an :class:`~anomalib_xray.errors.XrayError` that names it, and write nothing.

    Example:
        ::

            class TestAlphaGan(ModelContract):
                model = AlphaGan
                settings = {"image_size": 64, "width": 4, "latent_size": 16}
                falling_loss = "train_reconstruction_l1"

        A plugin whose construction needs more than arguments overrides :meth:`make_model` instead of ``settings``.
    """
