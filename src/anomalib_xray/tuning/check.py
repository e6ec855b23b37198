"""Whether a search can run: its settings against the constructors that take them, before the first trial."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from inspect import Parameter, signature
from typing import Any

from anomalib_xray.errors import XrayError, refusal
from anomalib_xray.evaluation.build import build
from anomalib_xray.tuning.plan import Search
from anomalib_xray.tuning.space import Range, merged, with_values


def check_search(search: Search) -> None:
    """Checks the names and the ends of all ranges, and builds the model once.

    Args:
        search: The search.

    Raises:
        XrayError: A class does not exist or does not take a setting, a setting does not take a value, or the model
            refuses its settings.
    """
    from anomalib.data import AnomalibDataModule
    from anomalib.models import AnomalibModule
    from jsonargparse import ArgumentParser
    from lightning.pytorch import Trainer

    import anomalib_xray.models  # noqa: F401  # makes the plugins known

    for item in search.space.ranges:
        _check_name(item, search.config)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(AnomalibModule, "model")
    parser.add_subclass_arguments(AnomalibDataModule, "data")
    parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False)
    complete = _complete(search)
    for item in search.space.ranges:
        for value in item.values:
            try:
                parser.parse_object(_sections(with_values(complete, {item.name: value})))
            except Exception as error:  # jsonargparse has errors of several kinds
                reason = refusal(str(error), "setting")
                raise XrayError(f"With {item.name}: {value} the configuration is refused: {reason}.") from error
    try:
        build(AnomalibModule, complete["model"])
    except XrayError:
        raise
    except Exception as error:  # a constructor may fail in any way
        raise XrayError(f"The model cannot be built: {' '.join(str(error).split())}.") from error


def _check_name(item: Range, config: Mapping[str, Any]) -> None:
    """Refuses a setting that its class does not have; what is deeper is left to the parser."""
    from lightning.pytorch import Trainer

    section, *rest = item.name.split(".")
    owner = Trainer if section == "trainer" else _class(str(config[section]["class_path"]))
    name = rest[0] if section == "trainer" else rest[1]
    parameters = signature(owner).parameters
    if name not in parameters and not any(one.kind is Parameter.VAR_KEYWORD for one in parameters.values()):
        raise XrayError(f"The range {item.name} is no setting of {owner.__name__}; there are {', '.join(parameters)}.")


def _class(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        found: type = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise XrayError(f"There is no class {path}; give a class_path such as anomalib_xray.models.Cae.") from error
    return found


def _complete(search: Search) -> dict[str, Any]:
    """The base, with the first value of a range where the base has none."""
    filled = with_values(search.config, {item.name: item.values[0] for item in search.space.ranges})
    return merged(filled, search.config)


def _sections(config: Mapping[str, Any]) -> dict[str, Any]:
    """The parts that are built; the command has further settings of its own."""
    trainer = {key: value for key, value in (config.get("trainer") or {}).items() if key != "logger"}
    return {"model": config["model"], "data": config["data"], "trainer": trainer}
