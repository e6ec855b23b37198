from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.experiments.search import Pruning, Search, check_search, read_search
from anomalib_xray.experiments.space import read_space

CONFIGS = Path(__file__).parents[2] / "configs" / "tune"

SEARCH: dict[str, Any] = {
    "base": ["model.yaml", "data.yaml"],
    "model": {"init_args": {"levels": 3}},
    "trainer": {"max_epochs": 4},
    "ranges": {"model.init_args.width": {"int": [4, 8]}},
    "objective": {"selection": "label-free"},
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "model.yaml").write_text(
        "model: {class_path: Cae, init_args: {width: 8}}\ntrainer: {max_epochs: 500, accelerator: cpu}"
    )
    (folder / "data.yaml").write_text("data: {class_path: Hands}\ndefault_root_dir: there")
    (folder / "search.yaml").write_text(yaml.safe_dump({**SEARCH, **changes}))
    return folder / "search.yaml"


def test_what_is_changed_lies_over_the_base(tmp_path: Path) -> None:
    search = read_search(write(tmp_path))
    assert search.config == {
        "model": {"class_path": "Cae", "init_args": {"width": 8, "levels": 3}},
        "data": {"class_path": "Hands"},
        "trainer": {"max_epochs": 4, "accelerator": "cpu"},
        "default_root_dir": "there",
    }
    assert (search.seed, search.pruning) == (42, None)


def test_a_later_data_set_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    path = write(tmp_path, data={"init_args": {"num_workers": 0}})
    with (tmp_path / "model.yaml").open("a") as file:
        file.write("\ndata: {class_path: Hands, init_args: {root: mura, body_parts: XR_HAND}}\n")
    assert read_search(path).config["data"] == {"class_path": "Hands", "init_args": {"num_workers": 0}}


def test_pruning_and_seed_can_be_set(tmp_path: Path) -> None:
    search = read_search(write(tmp_path, seed=7, pruning={"warmup_epochs": 3}))
    assert (search.seed, search.pruning) == (7, Pruning(startup_trials=5, warmup_epochs=3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": None}, r"search\.yaml names no base"),
        ({"base": "gone.yaml"}, r"gone\.yaml cannot be read"),
        ({"base": "model.yaml"}, "have no data with a class_path"),
        ({"range": {}}, "unknown setting range"),
        ({"ranges": {}}, "has no ranges"),
        ({"ranges": {"data.init_args.pool.init_args.size": {"int": [1, 2]}}}, "has no place"),
        ({"objective": {}}, "states no rule of selection"),
        ({"model": "Cae"}, "model in .* is 'Cae'; give settings by name"),
        ({"seed": -1}, "seed in .* is -1; give a whole number from 0"),
        ({"pruning": {"patience": 3}}, "unknown setting patience"),
        ({"pruning": True}, "pruning in .* is True; give startup_trials"),
    ],
)
def test_a_search_that_says_something_else_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        read_search(write(tmp_path, **changes))


def test_data_with_a_class_replace_those_before_even_of_the_same_class(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("data: {class_path: Hands, init_args: {root: there, split_seed: 7}}")
    assert read_search(write(tmp_path, base=["model.yaml", "own.yaml", "data.yaml"])).config["data"] == {
        "class_path": "Hands"
    }


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_searches_that_ship_can_be_read(file: Path) -> None:
    assert read_search(file).space.ranges


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
            r"learnig_rate is no setting of Cae; there are width, .*learning_rate",
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


@pytest.mark.parametrize("name", ["alphagan", "bigan", "vae"])
def test_searches_that_ship_pass(name: str) -> None:
    found = read_search(CONFIGS / f"{name}.yaml")
    check_search(found)
    assert found.objective.selection == "label-free"
