"""anomalib's own parser and configurations of this project, in this process."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from anomalib.cli.cli import AnomalibCLI
from jsonargparse import ArgumentParser

from anomalib_xray.data import Mura, Phantom
from anomalib_xray.data.stock_command import adapt_stock_command, advice_without_data, mistake
from anomalib_xray.errors import XrayError

CONFIGS = Path(__file__).parents[2] / "configs"
MODELS = [
    file
    for file in sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("paper/*.yaml")])
    if file.stem not in ("demo", "tensorboard")
]
BATCHES = {"train_batch_size", "eval_batch_size"}

Parse = Callable[..., Any]


@pytest.fixture(autouse=True)
def stock(monkeypatch: pytest.MonkeyPatch) -> None:
    """The running program is ``anomalib``; its way to print errors ends with the test."""
    monkeypatch.setattr(sys, "argv", ["/usr/bin/anomalib", "train"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    adapt_stock_command()


@pytest.fixture(scope="module")
def parsers() -> dict[str, ArgumentParser]:
    """anomalib's parsers of two of its verbs."""
    command = object.__new__(AnomalibCLI)
    command.subcommand_method_arguments = {}
    found = {verb: AnomalibCLI.init_parser() for verb in ("train", "predict")}
    command.add_train_arguments(found["train"])
    command.add_predict_arguments(found["predict"])
    return found


@pytest.fixture
def parse(parsers: dict[str, ArgumentParser]) -> Parse:
    """The data section that arguments of a verb lead to."""

    def data_of(*arguments: str | Path, verb: str = "train") -> Any:
        return parsers[verb].parse_args([str(argument) for argument in arguments]).data

    return data_of


def alone(kind: str, **settings: object) -> Any:
    """The settings of a class that is given without any other."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments({"Mura": Mura, "Phantom": Phantom}[kind], "data")
    return {**parser.get_defaults().data.as_dict(), **settings}


@pytest.mark.parametrize("file", MODELS, ids=lambda file: f"{file.parent.stem}-{file.stem}")
def test_every_model_names_its_data_as_the_data_sets_configuration_does(file: Path) -> None:
    section = yaml.safe_load(file.read_text())["data"]
    chests = any(name in file.stem for name in ("ae_u", "mem_ae", "reconstruction_ae", "dual_distribution"))
    expected = yaml.safe_load((CONFIGS / "data" / f"{'rsna_pneumonia' if chests else 'mura_hand'}.yaml").read_text())[
        "data"
    ]
    assert section["class_path"] == expected["class_path"]
    if file.stem == "alphagan_report":  # shoulders, tested on the official hold-out
        assert (section["init_args"]["root"], section["init_args"]["test_on"]) == ("datasets/MURA-v1.1", "holdout")
        return
    few_labels = {"labelled_abnormal"} if file.stem == "deep_sad" else set()
    assert section["init_args"].keys() - few_labels == expected["init_args"].keys()
    for key in expected["init_args"].keys() - BATCHES:
        assert section["init_args"][key] == expected["init_args"][key]


def test_a_later_configuration_replaces_the_whole_section(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("data: anomalib_xray.data.Phantom")
    found = parse("--config", CONFIGS / "alphagan.yaml", "--config", tmp_path / "bare.yaml")
    assert found.class_path == "anomalib_xray.data.Phantom"
    assert found.init_args.as_dict() == alone("Phantom")  # MURA's root and seeds are settings of phantoms too


def test_the_same_class_again_replaces_the_whole_section(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text(
        "data: {class_path: anomalib_xray.data.Mura, init_args: {test_on: holdout, split_seed: 7, prepared_root: made}}"
    )
    (tmp_path / "second.yaml").write_text("data: {class_path: anomalib_xray.data.Mura, init_args: {root: there}}")
    model = ("--config", CONFIGS / "alphagan.yaml", "--config", tmp_path / "first.yaml")
    found = parse(
        *model, "--data.split_seed", "9", "--config", tmp_path / "second.yaml", "--data.train_batch_size", "8"
    )
    assert found.init_args.as_dict() == alone("Mura", root="there", train_batch_size=8)


def test_settings_without_a_class_change_single_ones(parse: Parse) -> None:
    files = [
        CONFIGS / "cae.yaml",
        CONFIGS / "data" / "phantom.yaml",
        CONFIGS / "demo.yaml",
        CONFIGS / "tensorboard.yaml",
    ]
    found = parse(*(part for file in files for part in ("--config", file)), "--data.patients", "5").init_args
    expected = yaml.safe_load((CONFIGS / "data" / "phantom.yaml").read_text())["data"]["init_args"]
    demo = yaml.safe_load((CONFIGS / "demo.yaml").read_text())["data"]["init_args"]
    assert (found.root, found.kinds, found.patients) == (demo["root"], demo["kinds"], 5)
    assert found.positive_share == expected["positive_share"]
    assert found.train_batch_size == expected["train_batch_size"]


def test_another_class_on_the_command_line_brings_its_own_settings(parse: Parse) -> None:
    found = parse(
        "--config", CONFIGS / "paper" / "dcgan.yaml", "--data", "anomalib_xray.data.Phantom", "--data.seed", "3"
    )
    assert found.init_args.as_dict() == alone("Phantom", seed=3)
    foreign = parse("--config", CONFIGS / "paper" / "dcgan.yaml", "--data", "anomalib.data.MVTecAD")
    assert foreign.init_args.train_batch_size == 32
    assert str(foreign.init_args.root) == "datasets/MVTecAD"


def test_settings_of_a_foreign_class_do_not_reach_ours(parse: Parse, tmp_path: Path) -> None:
    (tmp_path / "foreign.yaml").write_text(
        "model: anomalib.models.Padim\ndata: {class_path: anomalib.data.MVTecAD, init_args: {root: x, num_workers: 1}}"
    )
    found = parse("--config", tmp_path / "foreign.yaml", "--data", "anomalib_xray.data.Phantom")
    assert found.init_args.as_dict() == alone("Phantom")


def test_a_prediction_takes_a_folder_in_the_place_of_a_data_set(parse: Parse, tmp_path: Path) -> None:
    model = ("--config", CONFIGS / "alphagan.yaml", "--config", CONFIGS / "data" / "phantom.yaml")
    assert str(parse(*model, "--data", tmp_path, verb="predict")) == str(tmp_path)


def test_other_programs_keep_their_parsers(tmp_path: Path) -> None:
    parser = ArgumentParser()
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Mura, "data")
    for name, root in (("first", "root: here, num_workers: 1"), ("second", "root: there")):
        (tmp_path / f"{name}.yaml").write_text(f"data: {{class_path: anomalib_xray.data.Mura, init_args: {{{root}}}}}")
    found = parser.parse_args([f"--config={tmp_path / name}.yaml" for name in ("first", "second")]).data
    assert (found.init_args.root, found.init_args.num_workers) == ("there", 1)


@pytest.mark.parametrize(
    "arguments", [["train", "--config", "a b.yaml"], ["test", "--config=c.yaml", "--data.root=x y"]]
)
def test_without_data_the_running_command_is_repeated_with_phantoms(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/anomalib", *arguments])
    with pytest.raises(XrayError) as caught:
        Mura("nowhere").setup()
    message = str(caught.value)
    assert "datasets/mura/README.md" in message
    assert "\n" not in message
    command = shlex.split(message[message.index("anomalib " + arguments[0]) :])
    assert command == ["anomalib", *arguments, "--config", "configs/data/phantom.yaml"]


def test_the_phantoms_are_named_where_the_given_configuration_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    for file in (CONFIGS / "cae.yaml", CONFIGS / "paper" / "cae.yaml"):
        monkeypatch.setattr(sys, "argv", ["anomalib", "train", "--config", str(file)])
        assert advice_without_data("mura").endswith(f"--config {CONFIGS / 'data' / 'phantom.yaml'}")


def test_another_program_names_the_phantoms_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib-xray", "benchmark"])
    assert "configs/data/phantom.yaml" in advice_without_data("mura")
    assert "benchmark" not in advice_without_data("mura")


CAE = "model: {class_path: anomalib_xray.models.Cae, init_args: {%s}}"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (CAE % "widht: 3", "anomalib_xray.models.Cae has no setting widht; did you mean width?"),
        (CAE % "width: wide", "'wide' is no value for the setting of anomalib_xray.models.Cae width."),
        ("model: anomalib_xray.models.Caee", "No installed plugin offers the model Caee; there are: AeU, "),
        ("data: anomalib_xray.data.Muraa", "anomalib_xray.data has no Muraa; did you mean Mura?"),
        (
            "data: {class_path: anomalib_xray.data.Mura, init_args: {zzz: 1}}",
            "data.Mura has no setting zzz; there are root,",
        ),
    ],
)
def test_mistakes_in_a_configuration_are_one_sentence(
    content: str, sentence: str, parse: Parse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        parse("--config", CONFIGS / "cae.yaml", "--config", tmp_path / "own.yaml")
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") == 1


def test_mistakes_on_the_command_line_are_one_sentence(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse("--config", CONFIGS / "cae.yaml", "--model.widht", "3")
    assert capsys.readouterr().err == "error: anomalib_xray.models.Cae has no setting widht; did you mean width?\n"


def test_unknown_options_and_missing_files_are_one_sentence(
    parse: Parse, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["anomalib", "train"])
    with pytest.raises(SystemExit, match="2"):
        parse("--config", CONFIGS / "cae.yaml", "--modell.width", "3")
    said = "anomalib train has no option --modell.width; anomalib train --help lists what there is."
    assert capsys.readouterr().err == f"error: {said}\n"
    with pytest.raises(SystemExit, match="2"):
        parse("--config", CONFIGS / "cae.yaml", "--config", "nowhere.yaml")
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.endswith("nowhere.yaml does not exist: name a configuration as --config.\n")
    assert said.count("\n") == 1


def test_a_folder_in_the_place_of_data_is_one_sentence(
    parse: Parse, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse("--config", CONFIGS / "cae.yaml", "--data", tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"error: data is {tmp_path}, which is no class of data; ")
    assert said.count("\n") == 1


def test_mistakes_in_classes_of_others_are_said_as_before(parse: Parse, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        parse("--model", "anomalib.models.Padim", "--model.layer", "3")
    assert "Does not validate against any of the Union subtypes" in capsys.readouterr().err


def test_a_prediction_without_data_is_told_what_to_name() -> None:
    said = mistake("Option 'predict.data' is required but not provided or its value is None.")
    assert said is not None
    assert said.startswith("anomalib predict has no data: name a file or a folder of radiographs with --data")
