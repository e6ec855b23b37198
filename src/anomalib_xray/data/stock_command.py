"""The stock ``anomalib`` command with models and data of this project: sections of data, and advice without any."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache, wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from anomalib_xray.errors import XrayError, print_plainly_under_anomalib, refusal, runs_anomalib
from anomalib_xray.io.text import read_text
from anomalib_xray.plugins import setting_names

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

PHANTOMS = Path("data", "phantom.yaml")
"""The phantoms' configuration below the folder of configurations."""


def adapt_stock_command() -> None:
    """Changes the stock command so that it suits this project's models and data.

    anomalib's command has no hook for that. It imports this project while it parses its arguments, so that everything
    after the first mention of a class of this project is changed. Parsers of other programs stay as they are.
    """
    print_plainly_under_anomalib()
    _adapt_parser()


@cache
def _adapt_parser() -> None:
    """Lets a data section that names its class replace all before it, and the parser say mistakes in one sentence.

    jsonargparse keeps settings that a new class also accepts, so that the root of one data set would become that of
    another. Settings without a class, in a file or as ``--data.root``, still change single ones.
    """
    from jsonargparse import ActionConfigFile, ArgumentParser, _typehints

    apply, discard = ActionConfigFile.apply_config, _typehints.discard_init_args_on_class_path_change
    error = ArgumentParser.error

    @wraps(apply)
    def apply_config(parser: ArgumentParser, cfg: Namespace, dest: str, value: str) -> None:
        if _is_anomalibs(parser) and _names_data(value):
            cfg.pop("data", None)
        apply(parser, cfg, dest, value)

    @wraps(discard)
    def discard_all(parser_or_action: Any, previous: Any, value: Any) -> None:
        changed = previous and "init_args" in previous and previous["class_path"] != value["class_path"]
        if changed and any(_is_our_data(one["class_path"]) for one in (previous, value)):
            previous["init_args"] = type(previous["init_args"])()
        discard(parser_or_action, previous, value)  # type: ignore[no-untyped-call]  # as jsonargparse has it

    @wraps(error)
    def in_one_sentence(parser: ArgumentParser, message: str, ex: Exception | None = None) -> NoReturn:
        sentence = mistake(message) if _is_anomalibs(parser) and parser.exit_on_error else None
        if sentence is None:
            error(parser, message, ex)
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2)

    ActionConfigFile.apply_config = staticmethod(apply_config)  # type: ignore[method-assign]  # there is no other way in
    _typehints.discard_init_args_on_class_path_change = discard_all
    ArgumentParser.error = in_one_sentence  # type: ignore[assignment,method-assign]  # there is no other way in


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
        found = resolve_name(class_path)
    except (ImportError, AttributeError, TypeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, RadiographDataModule)


def advice_without_data(card: str) -> str:
    """The end of a sentence about a missing data set: where it comes from, and how to do without.

    Args:
        card: Folder of the data set's description below ``datasets``.
    """
    return f"datasets/{card}/README.md says where the data come from; {instead_on_phantoms()}"


def instead_on_phantoms() -> str:
    """The end of a sentence: how to do the same on generated hands.

    Under the stock command, that is the running command with the phantoms' configuration behind it, quoted for a shell.
    """
    if not runs_anomalib():
        return f"generated hands, as in {Path('configs') / PHANTOMS}, need no download."
    # Beside a configuration that the command was given; else where a clone of the project has it.
    beside = (
        folder / PHANTOMS
        for argument in sys.argv[1:]
        for folder in Path(argument.partition("=")[2] or argument).parents[:2]
    )
    phantoms = next((path for path in beside if path.is_file()), Path("configs") / PHANTOMS)
    return f"to run on generated hands instead: {shlex.join(['anomalib', *sys.argv[1:], '--config', str(phantoms)])}"


def mistake(message: str) -> str | None:
    """A parser's message of many lines as one sentence; nothing where no class of this project has to do with it."""
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
        return f"{path} has no setting {unknown[1]}{_instead(unknown[1], setting_names(resolve_name(path)))}"
    if unknown := re.match(r"module '([\w.]+)' has no attribute '(\w+)'", reason):
        names = getattr(sys.modules.get(unknown[1]), "__all__", [])
        return f"{unknown[1]} has no {unknown[2]}{_instead(unknown[2], names)}"
    return f"{refusal(reason, f'setting of {path}')}."


def _instead(name: str, names: Sequence[str]) -> str:
    """The end of a sentence about an unknown name."""
    close = get_close_matches(name, names, 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(names)}." if names else "."
