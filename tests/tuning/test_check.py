from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.tuning.check import check_search
from anomalib_xray.tuning.objective import Objective
from anomalib_xray.tuning.plan import Search, read_search
from anomalib_xray.tuning.space import read_space
from anomalib_xray.tuning.trial import measured, trainer_arguments

CONFIGS = Path(__file__).parents[2] / "configs" / "tune"

CONFIG: dict[str, Any] = {
    "model": {"class_path": "anomalib_xray.models.Cae", "init_args": {"image_size": 64, "width": 4}},
    "data": {"class_path": "anomalib_xray.data.Phantom", "init_args": {"patients": 12}},
    "trainer": {"max_epochs": 1},
}


def search(ranges: dict[str, Any], **config: Any) -> Search:
    return Search({**CONFIG, **config}, read_space(ranges, "s.yaml"), Objective("label-free", "painted_AUROC"))


def test_ranges_that_the_constructors_take_pass() -> None:
    check_search(
        search(
            {
                "model.init_args.learning_rate": {"log_uniform": [1e-4, 1e-2]},
                "model.init_args.reconstruction_loss": {"choice": ["mse", "l1"]},
                "data.init_args.train_batch_size": {"int": [4, 8]},
                "trainer.max_epochs": {"int": [1, 3]},
            }
        )
    )


@pytest.mark.parametrize(
    ("ranges", "config", "message"),
    [
        (
            {"model.init_args.learnig_rate": {"uniform": [0, 1]}},
            {},
            r"learnig_rate is no setting of Cae; there are image_size, .*learning_rate",
        ),
        ({"data.init_args.batch": {"int": [1, 2]}}, {}, r"data\.init_args\.batch is no setting of Phantom"),
        ({"trainer.epochs": {"int": [1, 2]}}, {}, r"trainer\.epochs is no setting of Trainer"),
        (
            {"model.init_args.schedule": {"choice": ["constant", "step"]}},
            {},
            r"With model\.init_args\.schedule: step the configuration is refused",
        ),
        (
            {"model.init_args.levels": {"uniform": [1, 3]}},
            {},
            r"With model\.init_args\.levels: 1\.0 the configuration is refused",
        ),
        (
            {"model.init_args.width": {"int": [4, 8]}},
            {"model": {"class_path": "anomalib_xray.models.Nobody"}},
            r"There is no class anomalib_xray\.models\.Nobody",
        ),
        (
            {"model.init_args.width": {"int": [4, 8]}},
            {"model": {**CONFIG["model"], "init_args": {"image_size": 100}}},
            r"^image_size is 100, but Cae works on 64, 128, 256 or 512 pixels; choose one of them\.$",
        ),
    ],
)
def test_what_the_constructors_refuse_is_one_sentence(
    ranges: dict[str, Any], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(XrayError, match=message) as caught:
        check_search(search(ranges, **config))
    assert "\n" not in str(caught.value)


def test_a_measure_is_found_beside_the_model_s_own() -> None:
    metrics = {"val_image_AUROC": 0.5, "val_normal_mean": 0.25, "train_loss": 1.0}
    assert measured(metrics, "val_image_AUROC") == 0.5
    assert measured({**metrics, "val_image_AUROC_raw": 0.75}, "val_image_AUROC") == 0.75
    with pytest.raises(XrayError, match=r"logs no val_image_AP; .* val_image_AUROC, val_normal_mean"):
        measured(metrics, "val_image_AP")


def test_callbacks_are_built_as_the_command_builds_them() -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint

    callback = {
        "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
        "init_args": {"monitor": "val_normal_mean_mse", "mode": "min"},
    }
    arguments = trainer_arguments({"max_epochs": 3, "logger": True, "callbacks": [callback]})
    (built,) = arguments.pop("callbacks")
    assert isinstance(built, ModelCheckpoint)
    assert built.monitor == "val_normal_mean_mse"
    assert arguments == {"max_epochs": 3}
    assert trainer_arguments({}) == {"callbacks": []}


@pytest.mark.parametrize("name", ["alphagan", "bigan", "vae"])
def test_searches_that_ship_pass(name: str) -> None:
    found = read_search(CONFIGS / f"{name}.yaml")
    check_search(found)
    assert found.objective.selection == "label-free"
