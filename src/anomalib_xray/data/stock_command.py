"""The stock ``anomalib`` command with models and data of this project: sections of data, and advice without any."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from anomalib_xray.errors import XrayError, print_plainly_under_anomalib, refusal, runs_anomalib
from anomalib_xray.io.text import read_text
from anomalib_xray.plugins import settings_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

PHANTOMS = Path("data", "phantom.yaml")
"""Where the phantoms' configuration lies below the folder of configurations."""


def adapt_stock_command() -> None:
    """Changes the stock command where it stands in the way of this project's models and data.

    anomalib's command has no hook for that. It imports this project while it parses its arguments, so that what comes
    after the first mention of a class of this project is changed. Parsers of other programs keep what they do.
    """
    print_plainly_under_anomalib()
    replace_data_sections()
    say_mistakes_in_one_sentence()


def replace_data_sections() -> None:
    """Lets a data section that names its class take the place of the whole section before it.

    jsonargparse keeps what a new class also accepts, so that the root of one data set, its batches and its seeds would
    become those of another. Settings without a class, in a file or as ``--data.root``, still change single ones.
    """
    from jsonargparse import ActionConfigFile, _typehints

    apply, discard = ActionConfigFile.apply_config, _typehints.discard_init_args_on_class_path_change
    if hasattr(apply, "replaces_data"):
        return

    @wraps(apply)
    def apply_config(parser: ArgumentParser, cfg: Namespace, dest: str, value: str) -> None:
        if _is_anomalibs(parser) and _names_data(value):
            cfg.pop("data", None)
        apply(parser, cfg, dest, value)

    @wraps(discard)
    def discard_all(parser_or_action: Any, previous: Any, value: Any) -> None:
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            settings = previous["init_args"]
            if settings and (_is_our_data(previous["class_path"]) or _is_our_data(value["class_path"])):
                for key in list(vars(settings) if not isinstance(settings, dict) else settings):
                    settings.pop(key)
        discard(parser_or_action, previous, value)  # type: ignore[no-untyped-call]  # as jsonargparse has it

    apply_config.replaces_data = True  # type: ignore[attr-defined]  # functions take attributes; mypy does not model it
    ActionConfigFile.apply_config = staticmethod(apply_config)  # type: ignore[method-assign]  # there is no other way in
    _typehints.discard_init_args_on_class_path_change = discard_all


def advice_without_data(card: str) -> str:
    """What to do where a data set is missing: the end of a sentence.

    Args:
        card: Folder of the data set's description below ``datasets``.

    Returns:
        Where the data come from, and how to do without: under the stock command the running command itself with the
        phantoms' configuration behind it, quoted to be pasted into a shell.
    """
    return f"datasets/{card}/README.md says where the data come from; {instead_on_phantoms()}"


def instead_on_phantoms() -> str:
    """How to do what is being done on generated hands: the end of a sentence."""
    if not runs_anomalib():
        return f"generated hands, as in {Path('configs') / PHANTOMS}, need no download."
    command = ["anomalib", *sys.argv[1:], "--config", str(_phantoms_beside(sys.argv[1:]))]
    return f"to run on generated hands instead: {shlex.join(command)}"


def _phantoms_beside(arguments: list[str]) -> Path:
    """The phantoms' configuration beside one that the command was given; else where a clone of the project has it."""
    for argument in arguments:
        for folder in Path(argument.partition("=")[2] or argument).parents[:2]:
            if (folder / PHANTOMS).is_file():
                return folder / PHANTOMS
    return Path("configs") / PHANTOMS


def _is_anomalibs(parser: ArgumentParser) -> bool:
    """Whether a parser is one of anomalib's command, which alone have its way to print help."""
    return parser.formatter_class.__module__.startswith("anomalib.")


def _names_data(value: str) -> bool:
    """Whether a configuration, a file or YAML itself, names the class of its data."""
    try:
        path = Path(value)
        content = yaml.safe_load(read_text(path) if path.is_file() else value)
    except (OSError, ValueError, XrayError, yaml.YAMLError):  # for the parser to say
        return False
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, str) or (isinstance(data, dict) and "class_path" in data)


def _is_our_data(class_path: str) -> bool:
    from anomalib_xray.data.datamodule import RadiographDataModule

    try:
        found = _import(class_path)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, RadiographDataModule)


def _import(class_path: str) -> Any:
    from importlib import import_module

    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def say_mistakes_in_one_sentence() -> None:
    """Lets the parser say what is wrong with a class of this project, or its settings, in one sentence."""
    from jsonargparse import ArgumentParser

    error = ArgumentParser.error
    if hasattr(error, "in_one_sentence"):
        return

    @wraps(error)
    def in_one_sentence(parser: ArgumentParser, message: str, ex: Exception | None = None) -> NoReturn:
        sentence = mistake(message) if _is_anomalibs(parser) and parser.exit_on_error else None
        if sentence is None:
            error(parser, message, ex)
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2)

    in_one_sentence.in_one_sentence = True  # type: ignore[attr-defined]  # functions take attributes
    ArgumentParser.error = in_one_sentence  # type: ignore[assignment,method-assign]  # there is no other way in


def mistake(message: str) -> str | None:
    """What a parser says over many lines, as one sentence.

    Args:
        message: Of the parser.

    Returns:
        The sentence; nothing where no class of this project has to do with it.
    """
    if missing := re.search(r"Option '(\w+)\.data' is required", message):
        return (
            f"anomalib {missing[1]} has no data: name a file or a folder of radiographs with --data, or data such as"
            " those of configs/data/mura_hand.yaml."
        )
    if unknown := re.match(r"Unrecognized arguments: (\S+)", message):
        verb = " ".join(["anomalib", *sys.argv[1:2]])
        return f"{verb} has no option {unknown[1]}; {verb} --help lists what there is."
    if missing := re.search(r"File does not exist: '(.*)'", message):
        return f"{missing[1]} does not exist: name a configuration as --config."
    problems = re.findall(r"Problem with given class_path '([^']*)':\n\s*(.*(?:\n {6,}.*)*)", message)
    if not problems and (given := re.search(r'key "data".*Given value: (\S[^\n]*)', message, re.DOTALL)):
        return f"data is {given[1]}, which is no class of data; name one, such as anomalib_xray.data.Mura."
    if not problems or not any("anomalib_xray" in path for path, _ in problems):
        return None
    path, reason = problems[-1]
    if unknown := re.match(r"Option '([\w.]+)' is not accepted", reason):
        return f"{path} has no setting {unknown[1]}{_instead(unknown[1], settings_of(_import(path)))}"
    if unknown := re.match(r"module '([\w.]+)' has no attribute '(\w+)'", reason):
        names = getattr(sys.modules.get(unknown[1]), "__all__", [])
        return f"{unknown[1]} has no {unknown[2]}{_instead(unknown[2], names)}"
    return f"{refusal(reason, f'setting of {path}')}."


def _instead(name: str, names: Sequence[str]) -> str:
    """The end of a sentence about an unknown name."""
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}." if names else "."
