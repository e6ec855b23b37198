"""The preparation of a bundle uses the bundle's own files only, so that it is the same on every machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, get_args, get_type_hints

from anomalib_xray.edge.device_bundle import DeviceBundle
from anomalib_xray.edge.manifest import MANIFEST_NAME, is_inner_path
from anomalib_xray.errors import XrayError
from anomalib_xray.preparation.settings import read_settings, step_class


def check_inner_files(bundle: DeviceBundle) -> None:
    """Refuses a preparation that names files which are not the bundle's own, checked ones.

    Args:
        bundle: A bundle with a preparation.

    Raises:
        XrayError: The pipeline cannot be read, has an unknown step, or names a foreign file.
    """
    if bundle.preparation is None:
        return
    folder = PurePosixPath(bundle.preparation.relative_to(bundle.folder).as_posix()).parent
    _check_all_listed(bundle)
    for entry in read_settings(bundle.preparation):
        for step, settings in entry.items():
            for value in _paths(step, settings, bundle):
                inside = (folder / str(value)).as_posix()
                if not is_inner_path(str(value)) or inside not in bundle.about["files"]:
                    raise XrayError(
                        f"{bundle.preparation}, step {step}, names {value}, which is no file of the bundle: make the "
                        "bundle again, with the files that its preparation uses."
                    )


def _check_all_listed(bundle: DeviceBundle) -> None:
    """Refuses files beside the pipeline that have no checksum: a model's weights are found by its name alone."""
    if bundle.preparation is None:
        return
    for path in bundle.preparation.parent.rglob("*"):
        name = path.relative_to(bundle.folder).as_posix()
        if path.is_file() and name not in (*bundle.about["files"], MANIFEST_NAME):
            raise XrayError(f"The bundle {bundle.folder} holds {name}, which it does not know: copy the bundle again.")


def _paths(step: str, settings: dict[str, Any], bundle: DeviceBundle) -> Iterator[Any]:
    """Values of the settings that are paths by the types of the step's constructor."""
    try:
        hints = get_type_hints(step_class(step).__init__)
    except XrayError as error:
        raise XrayError(f"{bundle.preparation}: {str(error).rstrip('.')}.") from error
    for name, value in settings.items():
        if value is not None and _holds_path(hints.get(name)):
            yield from value if isinstance(value, list) else [value]


def _holds_path(hint: object) -> bool:
    return hint is Path or any(map(_holds_path, get_args(hint)))
