"""What this project takes from anomalib beyond its documented interface; each message says what breaks without it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import anomalib.models
import pytest
import torch
from anomalib.cli.cli import AnomalibCLI
from anomalib.data import (
    AnomalibDataModule,
    AnomalibDataset,
    Folder,
    ImageBatch,
    ImageItem,
    InferenceBatch,
    PredictDataset,
)
from anomalib.engine import Engine
from anomalib.metrics import AUROC, Evaluator
from anomalib.models import AnomalibModule
from anomalib.models.components import GaussianBlur2d
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import ImageVisualizer
from anomalib.visualization.image.item_visualizer import visualize_image_item
from jsonargparse import ActionConfigFile, ArgumentParser, _typehints
from packaging.requirements import Requirement
from packaging.version import Version
from torchvision.transforms.v2 import Identity, Resize

from anomalib_xray.scores import ScoredBatch


def arguments(function: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_anomalib_is_pinned_to_the_release_that_these_tests_describe() -> None:
    pins = [Requirement(text) for text in requires("anomalib-xray") or [] if text.startswith("anomalib[")]
    assert pins, "anomalib-xray no longer requires anomalib"
    for pin in pins:
        assert pin.specifier.contains(Version("2.7.0")), "the pin leaves out the release that is tested"
        assert not pin.specifier.contains(Version("2.8.0")), "private names may change in 2.8: keep <2.8"


# anomalib_xray.models


def test_allowed_modules_is_a_set_that_get_model_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(anomalib.models.ALLOWED_MODULES, set), "anomalib_xray.models cannot allow its class paths"
    monkeypatch.setattr(anomalib.models, "ALLOWED_MODULES", {"collections"})
    found: Any = anomalib.models.get_model({"class_path": "collections.UserString", "init_args": {"seq": "found"}})
    assert found == "found", "get_model would refuse anomalib_xray.models.Cae"
    with pytest.raises(anomalib.models.UnknownModelError):
        anomalib.models.get_model({"class_path": "anomalib.models.Padim"})


def test_models_are_looked_up_among_direct_subclasses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Direct(AnomalibModule):
        pass

    class Indirect(Direct):
        pass

    names = anomalib.models.list_models(case="pascal")
    assert "Direct" in names, "list_models and get_model would not find plugins"
    assert "Indirect" not in names, "anomalib finds indirect subclasses now: plugins.py need not refuse them"
    monkeypatch.setattr(anomalib.models, "Short", dict, raising=False)
    assert anomalib.models.get_model({"class_path": "Short", "init_args": {"found": 1}}) == {"found": 1}, (
        "short class paths of plugins would not be attributes of anomalib.models"
    )


# anomalib_xray.data.stock_command


def test_configurations_are_laid_over_each_other_by_functions_that_can_be_replaced() -> None:
    assert arguments(ActionConfigFile.apply_config) == ["parser", "cfg", "dest", "value"], (
        "a file's data would keep settings of the data before them"
    )
    discard = _typehints.discard_init_args_on_class_path_change
    assert arguments(discard) == ["parser_or_action", "prev_val", "value"], (
        "data of another class would keep settings of the class before it"
    )


def test_the_parsers_mistakes_go_through_one_method() -> None:
    assert arguments(ArgumentParser.error) == ["message", "ex"], (
        "mistakes in classes of ours would be said in ten lines"
    )
    assert issubclass(type(AnomalibCLI.init_parser()), ArgumentParser)


# anomalib_xray.training.engine


def test_the_engine_is_told_where_it_writes_before_a_trainer_exists(tmp_path: Path) -> None:
    engine = Engine(default_root_dir=tmp_path)
    assert engine._trainer is None, "a first test could not be told from one that follows a training"
    assert engine._cache.args["default_root_dir"] == tmp_path, "a test would replace what the training wrote"
    assert "self._setup_workspace(" in inspect.getsource(inspect.unwrap(Engine.test)), (
        "a test chooses its folder elsewhere"
    )


@pytest.mark.parametrize("verb", ["fit", "train", "validate", "test", "predict", "export"])
def test_the_engines_verbs_take_model_data_and_checkpoint_by_these_names(verb: str) -> None:
    found = arguments(getattr(Engine, verb))
    assert {"model", "datamodule", "ckpt_path"} <= set(found), f"what {verb} is given would not be checked"
    if verb == "predict":
        assert {"dataset", "data_path", "dataloaders"} <= set(found), (
            "pictures would reach a model unseen by our reader"
        )


def test_data_sets_of_anomalib_read_in_one_method() -> None:
    for name in ("read_image", "augmentations", "samples"):
        assert name in inspect.getsource(AnomalibDataset.__getitem__), (
            "read_as_radiographs would replace something else"
        )
    assert {"path", "transform"} <= set(arguments(PredictDataset.__init__))


# anomalib_xray.training.radiograph_model


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("configure_pre_processor", ["image_size"]),
        ("configure_post_processor", []),
        ("configure_evaluator", []),
        ("configure_visualizer", []),
        ("configure_callbacks", []),
    ],
)
def test_a_model_configures_its_components(method: str, expected: list[str]) -> None:
    found = arguments(getattr(AnomalibModule, method))
    assert found == expected, f"RadiographModel overrides {method} with the arguments {expected}"


def test_a_models_constructor_takes_its_components() -> None:
    expected = ["pre_processor", "post_processor", "evaluator", "visualizer"]
    assert arguments(AnomalibModule.__init__) == expected, "plugins hand their components to the constructor"


@pytest.mark.parametrize("attribute", ["trainer_arguments", "learning_type", "name"])
def test_a_models_properties(attribute: str) -> None:
    assert isinstance(getattr(AnomalibModule, attribute, None), property), f"RadiographModel relies on {attribute}"


def test_settings_are_kept_before_a_plugins_own_constructor_goes_on() -> None:
    class Settings(AnomalibModule):
        trainer_arguments = None
        learning_type = None

        def __init__(self, image_size: int = 7, **components: Any) -> None:  # noqa: ARG002  # read from hparams
            super().__init__(**components)
            self.seen = dict(self.hparams)

    off: dict[str, Any] = dict.fromkeys(("pre_processor", "post_processor", "evaluator", "visualizer"), False)
    assert Settings(**off).seen.get("image_size") == 7, "RadiographModel.start reads hparams after super().__init__()"


@pytest.mark.parametrize("step", ["test_step", "predict_step"])
def test_steps_of_the_base_are_there_to_override(step: str) -> None:
    assert arguments(getattr(AnomalibModule, step))[:2] == ["batch", "batch_idx"], f"{step} is called otherwise"


def test_the_first_fields_of_a_scored_batch_are_anomalibs_output() -> None:
    assert InferenceBatch._fields == ("pred_score", "pred_label", "anomaly_map", "pred_mask"), (
        "the exported graph and RadiographModel.forward take these four outputs in this order"
    )
    assert ScoredBatch._fields[:4] == InferenceBatch._fields


def test_a_batch_carries_named_scores_to_the_callbacks() -> None:
    batch = ImageBatch(image=torch.rand(2, 3, 4, 4))
    assert batch.update(pred_score=torch.zeros(2), anomaly_map=torch.zeros(2, 4, 4)) is batch
    scores = {"mse": torch.zeros(2)}
    batch.scores = scores
    assert batch.scores is scores, "a batch refuses attributes that it does not declare: the score table stays empty"
    for name in ("pred_score", "pred_label", "anomaly_map", "gt_label", "image_path"):
        assert hasattr(batch, name), f"the score table and the visualizer read batch.{name}"


def test_the_evaluators_metrics_have_names() -> None:
    evaluator = Evaluator(test_metrics=[AUROC(fields=["pred_score", "gt_label"], prefix="image_")])
    names = [metric.name for metric in (*evaluator.val_metrics, *evaluator.test_metrics)]
    assert names == ["image_AUROC"], "the score table would log a name twice, which Lightning refuses"


# anomalib_xray.training.export


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("to_onnx", ["export_root", "model_file_name", "input_size", "kwargs"]),
        (
            "to_openvino",
            [
                "export_root",
                "model_file_name",
                "input_size",
                "compression_type",
                "datamodule",
                "metric",
                "task",
                "ov_kwargs",
                "onnx_kwargs",
                "max_drop",
            ],
        ),
    ],
)
def test_export_signatures(method: str, expected: list[str]) -> None:
    found = arguments(getattr(AnomalibModule, method))
    assert sorted(found) == sorted(expected), f"ExportWithParity.{method} passes other arguments on"
    assert found[:3] == expected[:3], f"ExportWithParity.{method} passes the first ones by position"


# anomalib_xray.transforms.pre_processor


def test_the_pre_processor_transforms_and_exports_by_attribute() -> None:
    processor = PreProcessor(transform=Resize((4, 4)))
    processor.transform = Resize((2, 2))
    processor.export_transform = Identity()
    image = torch.rand(1, 3, 8, 8)
    assert processor(image).shape == image.shape, "forward, which is exported, no longer uses export_transform"
    batch = ImageBatch(image=image)
    nobody: Any = None
    processor.on_test_batch_start(nobody, nobody, batch, 0)
    assert batch.image.shape == (1, 3, 2, 2), "batches no longer go through PreProcessor.transform"


@pytest.mark.parametrize("component", [PreProcessor, PostProcessor])
def test_components_are_saved_by_their_checkpoint_config(component: type) -> None:
    assert arguments(component.checkpoint_config) == [], "our settings would not reach a checkpoint"
    assert arguments(component.load_checkpoint_config) == ["config"], "our settings would not come back from one"


# anomalib_xray.training.post_processor


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("_apply_threshold", ["preds", "threshold"]),
        ("_normalize", ["preds", "norm_min", "norm_max", "threshold"]),
    ],
)
def test_the_post_processors_arithmetic_can_be_replaced(method: str, expected: list[str]) -> None:
    assert isinstance(inspect.getattr_static(PostProcessor, method), staticmethod)
    assert arguments(getattr(PostProcessor, method)) == expected, f"XrayPostProcessor.{method} would not be called"


def test_the_post_processor_calls_what_is_replaced() -> None:
    class Replaced(PostProcessor):
        @staticmethod
        def _normalize(preds: Any, norm_min: Any, norm_max: Any, threshold: Any) -> Any:
            del norm_min, norm_max, threshold
            return None if preds is None else preds + 10

        @staticmethod
        def _apply_threshold(preds: Any, threshold: Any) -> Any:
            del threshold
            return None if preds is None else preds > 10.5

    output = Replaced()(InferenceBatch(pred_score=torch.tensor([0.0, 1.0])))
    assert output.pred_score.tolist() == [10, 11], "normalisation of forward cannot be replaced: ranks would be lost"
    assert output.pred_label.tolist() == [False, True], "thresholds would be applied with > instead of >="
    batch = ImageBatch(image=torch.rand(2, 3, 4, 4), pred_score=torch.tensor([0.0, 1.0]))
    Replaced().post_process_batch(batch)
    assert batch.pred_score.tolist() == [10, 11]
    assert batch.pred_label.tolist() == [False, True]


def test_the_post_processor_has_the_state_that_ours_sets() -> None:
    processor = PostProcessor(enable_threshold_matching=False, image_sensitivity=0.5, pixel_sensitivity=0.5)
    for name in ("_image_threshold", "_pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max"):
        assert name in dict(processor.named_buffers()), f"{name} is not stored with the model"
    for name in ("_image_threshold", "_pixel_threshold", "_image_min_max", "_pixel_min_max"):
        assert hasattr(processor, f"{name}_metric"), f"XrayPostProcessor updates {name}_metric"
    processor._image_threshold.fill_(0.3)
    assert float(processor.image_threshold) == pytest.approx(0.3), "image_threshold is not what was set"
    assert torch.isnan(processor.pixel_threshold), "the image threshold would be taken for pixels"
    assert {"image_sensitivity", "pixel_sensitivity"} <= set(processor._checkpoint_config_keys)
    assert float(processor.normalized_image_threshold) == 0.5


# anomalib_xray.data


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("_setup", ["_stage"]),
        ("_create_test_split", []),
        ("_create_val_split", []),
        ("_update_augmentations", []),
        ("_update_subset_augmentations", ["dataset", "augmentations", "model_transform"]),
    ],
)
def test_the_datamodule_is_set_up_by_private_methods(method: str, expected: list[str]) -> None:
    message = f"RadiographDataModule overrides or calls {method}{tuple(expected)}"
    assert arguments(getattr(AnomalibDataModule, method)) == expected, message


def test_setup_calls_the_private_methods(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = []
    for method in ("_setup", "_create_test_split", "_create_val_split", "_update_augmentations"):
        monkeypatch.setattr(Folder, method, lambda *_, name=method: called.append(name))
    Folder("nothing", root=tmp_path, normal_dir="normal").setup()
    assert called == ["_setup", "_create_test_split", "_create_val_split", "_update_augmentations"], (
        "setup no longer asks our datamodule for its splits: patients would cross them"
    )


def test_a_dataset_keeps_a_sample_table() -> None:
    assert isinstance(AnomalibDataset.samples, property), "the score table joins patients from dataset.samples"
    for name in ("task", "collate_fn"):
        assert isinstance(getattr(AnomalibDataset, name), property), f"RadiographDataset relies on {name}"


# anomalib_xray.training.pictures


def test_the_visualizer_keeps_what_ours_draws_with() -> None:
    visualizer = ImageVisualizer()
    drawn_with = arguments(visualize_image_item)
    for name in ("fields", "overlay_fields", "field_size", "fields_config", "overlay_fields_config", "text_config"):
        assert hasattr(visualizer, name), f"AlignedVisualizer reads {name}"
        assert name in drawn_with, f"visualize_image_item no longer takes {name}"
    assert hasattr(visualizer, "output_dir"), "the folder of the pictures cannot be chosen"
    for hook in ("on_test_batch_end", "on_predict_batch_end"):
        assert hook in vars(ImageVisualizer), f"the pictures are drawn elsewhere than in {hook}: ours come twice"


def test_an_item_without_a_path_is_drawn_from_its_image() -> None:
    white = ImageItem(image=torch.ones(3, 8, 8))
    picture = visualize_image_item(white, fields=["image"], field_size=(8, 8), text_config={"enable": False})
    assert picture is not None, "pictures would be empty"
    assert picture.getpixel((4, 4)) == (255, 255, 255), "pictures would not show what the model saw"


def test_a_prediction_data_set_lists_its_files(tmp_path: Path) -> None:
    (tmp_path / "hand.png").touch()
    files = PredictDataset(tmp_path / "hand.png").image_filenames
    assert [Path(file) for file in files] == [tmp_path / "hand.png"], "pictures of predictions would have long names"


# anomalib_xray.scores.scorer


def test_the_blur_keeps_a_constant_and_the_size() -> None:
    blurred = GaussianBlur2d(sigma=(2.0, 2.0), channels=1)(torch.full((1, 1, 20, 24), 0.5))
    torch.testing.assert_close(blurred, torch.full((1, 1, 20, 24), 0.5), msg="maps would be darker at the border")
