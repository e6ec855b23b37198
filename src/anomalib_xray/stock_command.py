"""The stock ``anomalib`` command with models and data of this project: sections of data, and advice without any."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anomalib_xray.errors import print_plainly_under_anomalib, runs_anomalib

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

PHANTOMS = Path("data", "phantom.yaml")
"""Where the phantoms' configuration lies below the folder of configurations."""


def adapt_stock_command() -> None:
    """Changes the stock command where it stands in the way of this project's models and data.

    anomalib's command has no hook for that. It imports this project while it parses its arguments, so that what comes
    after the first mention of a class of this project is changed, and nothing is where there is none. Another program
    keeps everything as it is.
    """
    if runs_anomalib():
        print_plainly_under_anomalib()
        replace_data_sections()


def replace_data_sections() -> None:
    """Lets a data section that names its class take the place of the whole section before it.

    jsonargparse keeps what a new class also accepts, so that the root of one data set, its batches and its seeds would
    become those of another. Settings without a class, in a file or as ``--data.root``, still change single ones.
    """
    from jsonargparse import ActionConfigFile, _typehints

    apply, discard = ActionConfigFile.apply_config, _typehints.discard_init_args_on_class_path_change
    if hasattr(apply, "replaces_data"):
        return

    def apply_config(parser: ArgumentParser, cfg: Namespace, dest: str, value: str) -> None:
        if _names_data(value):
            cfg.pop("data", None)
        apply(parser, cfg, dest, value)

    def discard_all(parser_or_action: Any, previous: Any, value: Any) -> None:  # noqa: ANN401  # jsonargparse's own
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            settings = previous["init_args"]
            if settings and (_is_our_data(previous["class_path"]) or _is_our_data(value["class_path"])):
                for key in list(vars(settings) if not isinstance(settings, dict) else settings):
                    settings.pop(key)
        discard(parser_or_action, previous, value)

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
    source = f"datasets/{card}/README.md says where the data come from"
    if not runs_anomalib():
        return f"{source}, and {Path('configs') / PHANTOMS} describes generated hands to use instead."
    command = ["anomalib", *sys.argv[1:], "--config", str(_phantoms_beside(sys.argv[1:]))]
    return f"{source}; to run on generated hands instead: {shlex.join(command)}"


def _phantoms_beside(arguments: list[str]) -> Path:
    """The phantoms' configuration beside one that the command was given; else where a clone of the project has it."""
    for argument in arguments:
        for folder in Path(argument.partition("=")[2] or argument).parents[:2]:
            if (folder / PHANTOMS).is_file():
                return folder / PHANTOMS
    return Path("configs") / PHANTOMS


def _names_data(value: str) -> bool:
    """Whether a configuration, a file or YAML itself, names the class of its data."""
    try:
        path = Path(value)
        content = yaml.safe_load(path.read_text(encoding="utf-8") if path.is_file() else value)
    except (OSError, ValueError, yaml.YAMLError):  # for the parser to say
        return False
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, str) or (isinstance(data, dict) and "class_path" in data)


def _is_our_data(class_path: str) -> bool:
    from jsonargparse._util import import_object

    from anomalib_xray.data.datamodule import RadiographDataModule

    try:
        found = import_object(class_path)
    except (ImportError, AttributeError, ValueError):
        return False
    return isinstance(found, type) and issubclass(found, RadiographDataModule)
