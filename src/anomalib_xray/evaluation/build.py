"""Configurations: files read, settings checked, objects built as the stock command builds them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anomalib_xray.errors import XrayError, user_error_behind

if TYPE_CHECKING:
    from anomalib.data import AnomalibDataModule


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a file of settings.

    Args:
        path: The YAML file.

    Returns:
        Its settings.

    Raises:
        XrayError: The file cannot be read, or holds something else.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise XrayError(f"{path} cannot be read ({error.strerror}); name a file such as configs/cae.yaml.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise XrayError(f"{path} is no YAML file: {str(error).splitlines()[0]}.") from error
    if not isinstance(content, dict):
        raise XrayError(f"{path} holds no settings.")
    return content


def check_keys(content: Mapping[str, Any], known: set[str], where: str) -> None:
    """Refuses settings that do not exist.

    Args:
        content: Settings by name.
        known: Names that exist.
        where: What the message calls the place.

    Raises:
        XrayError: A setting is unknown.
    """
    unknown = sorted(set(map(str, content)) - known)
    if unknown:
        raise XrayError(f"{where} has the unknown setting {unknown[0]}; there are {', '.join(sorted(known))}.")


def build(base: type, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401  # an instance of base
    """Builds what a configuration describes, as the stock command does.

    Args:
        base: What it is an instance of.
        settings: ``class_path`` and ``init_args``.

    Returns:
        The object.

    Raises:
        XrayError: Its constructor refuses a setting; jsonargparse's own error would bury the sentence.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "built")
    try:
        return parser.instantiate_classes(parser.parse_object({"built": dict(settings)})).built
    except Exception as error:  # jsonargparse has errors of several kinds
        cause = user_error_behind(error, error.__traceback__)
        if cause is None or cause is error:
            raise
        raise cause from error


def build_data(settings: Mapping[str, Any]) -> AnomalibDataModule:
    """Builds a datamodule and lets it make its splits.

    Args:
        settings: ``class_path`` and ``init_args``.

    Returns:
        The datamodule.
    """
    from anomalib.data import AnomalibDataModule
    from lightning.pytorch.trainer.states import TrainerFn

    data: AnomalibDataModule = build(AnomalibDataModule, settings)
    data.prepare_data()
    # Named as the trainer names it, so that the splits are not made once more when training starts.
    data.setup(TrainerFn.FITTING)
    return data
