"""Bundles in the layout of OpenVINO Model Server: ``NAME/1/model.xml`` and ``config.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import read_bytes
from anomalib_xray.io.text import read_json, write_json
from anomalib_xray.io.write import holds, write_atomically

CONFIG = "config.json"
"""File that lists the models that a server offers."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_MOUNT = "/models"  # where the server's container has its models by convention
_MAX_MODEL_BYTES = 4_000_000_000


def serving(bundle: Path, out: Path = Path("models"), name: str | None = None, precision: str | None = None) -> None:
    """Lays the model of a bundle out for OpenVINO Model Server.

    Writes OUT/NAME/1/model.xml and model.bin and adds the model to OUT/config.json; a model of the same name gets the
    next version. The server answers with raw scores and the raw map. Preparation, thresholds and percentiles stay in
    the bundle, with the caller.

    Args:
        bundle: Folder of the bundle.
        out: Folder of the server's models.
        name: What the server calls the model; by default the model's own name in lower case.
        precision: fp32, fp16 or int8; by default the bundle's own.

    Raises:
        XrayError: The bundle, the name or the precision cannot be used, or ``out`` cannot be written.
    """
    from anomalib_xray.edge.bundle import Bundle

    opened = Bundle.open(bundle)
    if opened.normalization is not None:
        raise XrayError(f"{bundle} is a stock export, whose scores are normalised: make a bundle of its checkpoint.")
    name, precision = name or opened.model.lower(), precision or opened.precision
    if not _NAME.fullmatch(name):
        raise XrayError(f"{name!r} is no name for a served model: use letters, digits, - and _.")
    if precision not in opened.models:
        raise XrayError(f"{opened.folder} has no model in {precision}; choose one of {', '.join(opened.models)}.")
    version = _add_model(opened.models[precision], out, name)
    print(NOTICE)
    print(f"{version} holds {opened.model}, whose scores are {', '.join(opened.scores)}.")
    print(f"Serve it: the folder {out} mounted as /models, --config_path /models/{CONFIG}.")


def _add_model(model: Path, out: Path, name: str) -> Path:
    """Adds a model to a repository of OpenVINO Model Server; returns the folder of its version.

    Other models of the repository stay; a model of the same name gets a new version, which the server loads without
    being restarted, unless its last version is this very model. The model's files come before the configuration that
    names them.
    """
    config = _with_model(_read_config(out / CONFIG), name)
    content = {
        f"model{suffix}": read_bytes(model.with_suffix(suffix), max_bytes=_MAX_MODEL_BYTES)
        for suffix in (".bin", ".xml")  # in this order: the server takes a version as soon as it sees its .xml file
    }
    last = max((int(path.name) for path in (out / name).glob("*") if path.name.isdigit()), default=0)
    version = out / name / str(last)
    if not all(holds(version / file, data) for file, data in content.items()):
        version = out / name / str(last + 1)
        for file, data in content.items():
            write_atomically(version / file, data)
    write_json(out / CONFIG, config, indent=2)
    return version


def _read_config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"model_config_list": []}
    try:
        config = read_json(path)
        if all(isinstance(entry["config"]["name"], str) for entry in config["model_config_list"]):
            return dict(config)
    except XrayError as error:
        if isinstance(error.__cause__, OSError):
            raise
    except (TypeError, KeyError):
        pass
    raise XrayError(f"{path} is no configuration of OpenVINO Model Server: name another folder with --out.")


def _with_model(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A configuration with one entry of this name, whose arithmetic agrees with torch."""
    entry = {
        "config": {
            "name": name,
            "base_path": f"{_MOUNT}/{name}",
            "target_device": "CPU",
            "plugin_config": {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"},
        }
    }
    others = [other for other in config["model_config_list"] if other["config"]["name"] != name]
    return {**config, "model_config_list": [*others, entry]}
