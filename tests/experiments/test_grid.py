from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.grid import RAW, SHORTCUTS, read_grid

CONFIGS = Path(__file__).parents[2] / "configs" / "benchmark"

GRID: dict[str, Any] = {
    "title": "Two models",
    "data": {"hands": {"config": "data.yaml", "init_args": {"root": "elsewhere"}}},
    "models": {
        "Ours": {"config": "model.yaml", "trainer": {"max_epochs": 3}, "scores": "l1"},
        "Theirs": {"class_path": "anomalib.models.Padim", "selection": "as published"},
    },
    "preparations": {"raw": None, "full": "full.yaml"},
    "seeds": [1, 2],
    "trainer": {"max_epochs": 1, "accelerator": "cpu"},
    "baseline": "Theirs",
}


def write(folder: Path, **changes: Any) -> Path:
    (folder / "data.yaml").write_text("data: {class_path: Hands, init_args: {root: hands, num_workers: 0}}")
    (folder / "model.yaml").write_text("model: {class_path: Cae, init_args: {width: 8}}\ntrainer: {max_epochs: 500}")
    content = {key: value for key, value in {**GRID, **changes}.items() if value is not ...}
    (folder / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "grid.yaml"


def _with_data(data: Any) -> dict[str, Any]:
    return {"models": {**GRID["models"], "Ours": {"config": "model.yaml", "data": data}}}


def test_cells_are_the_product_and_every_preparation_has_its_shortcuts(tmp_path: Path) -> None:
    grid = read_grid(write(tmp_path))
    models = [(cell.preparation, cell.model, cell.seed) for cell in grid.cells]
    assert len(models) == len(set(models)) == 2 * (2 * 2 + 1)
    assert [cell.preparation for cell in grid.cells if cell.model == SHORTCUTS] == ["raw", "full"]
    assert len({cell.key for cell in grid.cells}) == len(grid.cells)
    assert grid.preparations == {"raw": None, "full": tmp_path / "full.yaml"}
    assert (grid.baseline, grid.level, grid.scores) == ("Theirs", "image", {"Ours": ["l1"]})
    assert grid.selection == {"Ours": "label-free", "Theirs": "as published"}


def test_files_lie_under_what_the_grid_says(tmp_path: Path) -> None:
    cell = next(cell for cell in read_grid(write(tmp_path)).cells if cell.model == "Ours")
    assert cell.data_config == {"class_path": "Hands", "init_args": {"root": "elsewhere", "num_workers": 0}}
    assert cell.model_config == {"class_path": "Cae", "init_args": {"width": 8}}
    assert cell.trainer == {"max_epochs": 3, "accelerator": "cpu"}


def test_a_model_may_train_in_batches_of_its_own(tmp_path: Path) -> None:
    models = {**GRID["models"], "Ours": {"config": "model.yaml", "data": {"train_batch_size": 16}}}
    grid = read_grid(write(tmp_path, models=models, training_sizes={"models": ["Ours"], "sizes": [8]}))
    batches = {
        (cell.model, cell.training_size): cell.data_config["init_args"].get("train_batch_size")
        for cell in grid.all_cells
    }
    assert batches == {(SHORTCUTS, None): None, ("Ours", None): 16, ("Theirs", None): None, ("Ours", 8): 16}
    assert all(cell.data_config["init_args"]["root"] == "elsewhere" for cell in grid.all_cells)
    before = {cell.key for cell in read_grid(write(tmp_path)).cells}
    assert {cell.model for cell in grid.cells if cell.key not in before} == {"Ours"}


def test_the_data_of_a_model_s_file_do_not_count(tmp_path: Path) -> None:
    grid = write(tmp_path)
    before = read_grid(grid).cells
    with (tmp_path / "model.yaml").open("a") as file:
        file.write("\ndata: {class_path: Mura, init_args: {root: mura, train_batch_size: 80}}\n")
    assert read_grid(grid).cells == before


def test_another_setting_makes_another_cell(tmp_path: Path) -> None:
    def keys(**changes: Any) -> set[str]:
        return {cell.key for cell in read_grid(write(tmp_path, **changes)).cells if cell.model == "Theirs"}

    assert keys() == keys(title="Another", baseline=...)
    assert not keys() & keys(trainer={"max_epochs": 2})
    assert all("hands-raw-equalized-Theirs" in key or "hands-full" in key for key in keys(equalize=[True]))


def test_a_data_set_may_have_a_preparation_of_its_own(tmp_path: Path) -> None:
    data = {"hands": {"config": "data.yaml"}, "feet": {"config": "data.yaml", "preparations": ["full"]}}
    cells = read_grid(write(tmp_path, data=data)).cells
    assert {(cell.data, cell.preparation) for cell in cells} == {("hands", "raw"), ("hands", "full"), ("feet", "full")}


def test_a_model_may_have_a_preparation_of_its_own(tmp_path: Path) -> None:
    models = {**GRID["models"], "Theirs": {**GRID["models"]["Theirs"], "preparations": ["full"]}}
    cells = read_grid(write(tmp_path, models=models, seeds=[1])).cells
    found = {(cell.model, cell.preparation) for cell in cells if not cell.equalize}
    assert found == {*product(("Shortcuts", "Ours"), ("raw", "full")), ("Theirs", "full")}
    models["Theirs"] = {**models["Theirs"], "preparations": ["crop"]}
    with pytest.raises(XrayError, match=r"^Theirs in .* names the preparation crop; there are raw, full\."):
        read_grid(write(tmp_path, models=models))


def test_a_curve_over_training_sizes_is_cells_of_its_own(tmp_path: Path) -> None:
    assert read_grid(write(tmp_path)).curve_cells == []
    grid = read_grid(write(tmp_path, training_sizes={"models": ["Ours"], "sizes": [8, 16]}))
    assert {(cell.model, cell.training_size) for cell in grid.curve_cells} == {("Ours", 8), ("Ours", 16)}
    assert len(grid.curve_cells) == 2 * sum(cell.model == "Ours" for cell in grid.cells)
    assert len({cell.key for cell in grid.all_cells}) == len(grid.all_cells)
    assert {cell.training_size for cell in grid.cells} == {None}


def test_models_of_others_have_a_size_and_local_weights(tmp_path: Path) -> None:
    theirs = {"class_path": "anomalib.models.Padim", "image_size": 64, "weights": "weights.pth"}
    (cell,) = [
        cell
        for cell in read_grid(write(tmp_path, models={"Theirs": theirs}, preparations=..., seeds=[1])).cells
        if cell.model == "Theirs"
    ]
    assert (cell.image_size, cell.weights) == (64, "weights.pth")


def test_a_model_without_chance_has_fewer_seeds(tmp_path: Path) -> None:
    models = {**GRID["models"], "Theirs": {**GRID["models"]["Theirs"], "seeds": [2]}}
    cells = read_grid(write(tmp_path, models=models, preparations=...)).cells
    assert [(cell.model, cell.seed) for cell in cells[1:]] == [("Ours", 1), ("Ours", 2), ("Theirs", 2)]
    models["Ours"] = {**models["Ours"], "seeds": [3]}
    with pytest.raises(XrayError, match=r"^Ours in .* has the seed 3; the grid has 1, 2\."):
        read_grid(write(tmp_path, models=models))


def test_pictures_are_raw_unless_a_preparation_is_named(tmp_path: Path) -> None:
    assert read_grid(write(tmp_path, preparations=...)).preparations == {RAW: None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {}}, r"grid\.yaml names no models"),
        ({"models": {"A": {"config": "gone.yaml"}}}, r"gone\.yaml cannot be read \(No such file"),
        ({"models": {"A": {"config": "data.yaml"}}}, "has no model with a class_path"),
        ({"models": {"A": {}}}, "A in .* has neither a config nor a class_path"),
        ({"models": {"A": {"classpath": "Cae"}}}, "unknown setting classpath"),
        ({"seed": [1]}, "unknown setting seed"),
        ({"baseline": "Nobody"}, "compares with Nobody, which is none of its models: Ours, Theirs"),
        (
            {"data": {"hands": {"config": "data.yaml", "preparations": ["crop"]}}},
            "hands in .* names the preparation crop; there are raw, full",
        ),
        ({"training_sizes": [8]}, r"training_sizes in .* is no mapping"),
        ({"training_sizes": {"models": "Nobody", "sizes": [8]}}, "names Nobody, which is none of the models"),
        ({"training_sizes": {"models": ["Ours"]}}, "needs sizes: a list of numbers of images"),
        (_with_data(["train_batch_size"]), r"data of Ours in .*grid\.yaml is \['train_batch_size'\]; give settings by"),
        (_with_data({"root": "mine"}), "sets root, but all models of a grid are tested on the same pictures; a model"),
        (
            _with_data({"train_batch_size": 0}),
            "train_batch_size in data of Ours in .* is 0; give a whole number from 1",
        ),
        (_with_data({"train_batch_size": "16"}), "train_batch_size in data of Ours in .* is '16'"),
        (_with_data({"pool": 40}), "pool in data of Ours in .* is 40; give size: and anomaly_rate:, or null"),
        (
            _with_data({"pool": {"size": 4, "reserve": 0.5}}),
            r"Ours on hands in .* reserves 0\.5 .* data set 0, so that",
        ),
        ({"level": "pixel"}, "evaluates by pixel; choose image, study or patient"),
    ],
)
def test_a_grid_that_says_something_else_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(XrayError, match=message):
        read_grid(write(tmp_path, **changes))


def test_a_file_that_is_no_yaml_is_refused(tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text("a: [1")
    with pytest.raises(XrayError, match=r"grid\.yaml is no YAML file"):
        read_grid(tmp_path / "grid.yaml")
    with pytest.raises(XrayError, match=r"gone\.yaml cannot be read"):
        read_grid(tmp_path / "gone.yaml")


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_grids_that_ship_can_be_read(file: Path) -> None:
    assert read_grid(file).cells


def test_the_published_table_trains_in_published_batches() -> None:
    cells = read_grid(CONFIGS / "paper_table1.yaml").cells
    batches = {cell.model: cell.data_config["init_args"]["train_batch_size"] for cell in cells}
    published = {"DCGAN": 80, "BiGAN": 16, "alpha-GAN": 16, "CAE": 32, "VAE": 32, "BAE": 32}
    assert batches == {SHORTCUTS: 32, **published}


def test_unlabelled_images_grow_from_none() -> None:
    cells = [cell for cell in read_grid(CONFIGS / "ddad_unlabelled.yaml").cells if cell.model != SHORTCUTS]
    pools = {cell.model: cell.data_config["init_args"]["pool"] for cell in cells}
    assert [pool and (pool["size"], pool["anomaly_rate"]) for pool in pools.values()] == [
        None, (500, 0.6), (1000, 0.6), (2000, 0.6), (4000, 0.6), (3800, 0.0),
    ]  # fmt: skip
    assert {cell.data for cell in cells} == {"rsna", "vinbigdata"}
    assert all(cell.model_config["init_args"]["members"] == 3 for cell in cells)
