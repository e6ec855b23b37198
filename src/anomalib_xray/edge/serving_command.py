"""The command that lays a bundle out for OpenVINO Model Server."""

from __future__ import annotations

from pathlib import Path


def serving(bundle: Path, out: Path = Path("models"), name: str | None = None, precision: str | None = None) -> int:
    """Lays the model of a bundle out for OpenVINO Model Server.

    Writes OUT/NAME/1/model.xml and model.bin and adds the model to OUT/config.json; a model of the same name gets the
    next version. The server answers with raw scores and the raw map. Preparation, thresholds and percentiles stay in
    the bundle, with the caller.

    Args:
        bundle: Folder of the bundle.
        out: Folder of the server's models.
        name: What the server calls the model; by default the model's own name in lower case.
        precision: fp32, fp16 or int8; by default the bundle's own.

    Returns:
        Exit status: 0.

    Raises:
        XrayError: The bundle, the name or the precision cannot be used, or ``out`` cannot be written.
    """
    from anomalib_xray.edge.bundle import NOTICE
    from anomalib_xray.edge.device_bundle import DeviceBundle
    from anomalib_xray.edge.serving import CONFIG, write_serving
    from anomalib_xray.errors import XrayError

    opened = DeviceBundle.open(bundle)
    if opened.source is not None:
        raise XrayError(f"{bundle} is a stock export, whose scores are normalised: make a bundle of its checkpoint.")
    version = write_serving(opened, out, name or opened.model.lower(), precision or opened.precision)
    print(NOTICE)
    print(f"{version} holds {opened.model}, whose scores are {', '.join(opened.scores)}.")
    print(f"Serve it: the folder {out} mounted as /models, --config_path /models/{CONFIG}.")
    return 0
