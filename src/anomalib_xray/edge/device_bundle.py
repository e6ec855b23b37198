"""Bundles for the device: what a model's numbers mean, whichever format they are written in, and unchanged files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomalib_xray.edge.bundle import METADATA_NAME, Bundle, sha256
from anomalib_xray.edge.manifest import DIGEST_NAME, MANIFEST_NAME, check_digest, read_manifest, usable_precisions
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import leads_out

_MAX_BYTES = 4_000_000_000
"""Of all files together; the largest model of this project has less than a tenth."""


@dataclass(frozen=True)
class DeviceBundle:
    """A bundle whose files are complete and unchanged, and whose description is valid.

    Attributes:
        folder: Where it lies.
        format: 1 for a stock export, which has one score and neither preparation nor distribution; else 3.
        digest: SHA-256 of its description (``bundle.json`` or ``metadata.json``), in hexadecimal digits.
        model: Name of the model, e.g. ``Cae``.
        settings: Settings that the model was built with.
        scores: Names of the scores, in the order in which the model returns them.
        score: Name of the one that decides.
        thresholds: Raw value of each score from which on an image is anomalous; ``None`` if there is none.
        pixel_threshold: Raw value from which on a pixel of the map is anomalous; ``None`` if there is none.
        distribution: Quantiles 0, 1, ..., 100 % of each score over the normal validation images; may lack scores.
        map_limits: Smallest and largest map value of these images; ``None`` if unknown.
        models: Model file of each precision.
        precision: The one that is used unless another is asked for.
        preparation: YAML file of the pipeline that pictures go through first; ``None`` if they go in as they are.
        scope: What the model was made for.
        about: All that the bundle says about itself: parity, versions, data.
        source: The stock export that it is, for format 1.
    """

    folder: Path
    format: int
    digest: str
    model: str
    settings: dict[str, Any]
    scores: tuple[str, ...]
    score: str
    thresholds: Mapping[str, float | None]
    pixel_threshold: float | None
    distribution: Mapping[str, list[float]]
    map_limits: tuple[float, float] | None
    models: Mapping[str, Path]
    precision: str
    preparation: Path | None
    scope: Scope
    about: dict[str, Any]
    source: Bundle | None = None

    @property
    def normal_images(self) -> int | None:
        """How many normal images the distribution is of; ``None`` where unknown."""
        data = self.about.get("data")
        count = data.get("normal") if isinstance(data, dict) else None
        return count if isinstance(count, int) and not isinstance(count, bool) else None

    @classmethod
    def open(cls, path: str | Path) -> DeviceBundle:
        """Reads a bundle's description and checks every file against its checksum; no model is loaded.

        Args:
            path: Folder with a ``bundle.json``, or that file; or what :meth:`Bundle.open` takes.

        Returns:
            The bundle.

        Raises:
            XrayError: A file is missing, changed or outside of the folder, or the description is broken, incomplete or
                of a newer format.
        """
        path = Path(path)
        manifest = path if path.name == MANIFEST_NAME else path / MANIFEST_NAME
        if not manifest.is_file():
            return _of_stock_export(path)
        return _of_manifest(manifest)


def _of_stock_export(path: Path) -> DeviceBundle:
    """A bundle of format 1."""
    bundle = Bundle.open(path)
    about = {"versions": bundle.versions, "parity": bundle.parity, "metadata": METADATA_NAME}
    return DeviceBundle(
        folder=bundle.path.parent,
        format=1,
        digest=sha256(bundle.path.parent / METADATA_NAME),
        model=bundle.model,
        settings=bundle.settings,
        scores=(bundle.score,),
        score=bundle.score,
        thresholds={bundle.score: bundle.image.threshold},
        pixel_threshold=bundle.pixel.threshold,
        distribution={},
        map_limits=bundle.pixel.limits,
        models={"fp32": bundle.path},
        precision="fp32",
        preparation=None,
        scope=Scope(),
        about=about,
        source=bundle,
    )


def _of_manifest(path: Path) -> DeviceBundle:
    """A bundle of format 3."""
    folder = path.parent
    # What was changed may be of a wrong form too, and a bundle without a checksum of an earlier format.
    digest = check_digest(path) if (folder / DIGEST_NAME).is_file() else ""
    content = read_manifest(path)
    digest = digest or check_digest(path)
    _check_unchanged(folder, content["files"])
    scope = content["scope"]
    limits, preparation = content["map_limits"], content["preparation"]
    return DeviceBundle(
        folder=folder,
        format=content["format"],
        digest=digest,
        model=content["model"],
        settings=content["settings"],
        scores=tuple(content["scores"]),
        score=content["score"],
        thresholds={name: content["thresholds"].get(name) for name in content["scores"]},
        pixel_threshold=content["pixel_threshold"],
        distribution=content["distribution"],
        map_limits=None if limits is None else (limits[0], limits[1]),
        models={name: folder / model for name, model in usable_precisions(content).items()},
        precision=content["precision"],
        preparation=None if preparation is None else folder / preparation,
        scope=Scope(
            tuple(scope["body_parts"]),
            tuple(scope["views"]),
            None if scope["sides"] is None else (scope["sides"][0], scope["sides"][1]),
        ),
        about=content,
    )


def _check_unchanged(folder: Path, files: Mapping[str, str]) -> None:
    """Refuses a bundle of which a file is missing, elsewhere, or not what it was."""
    total = 0
    for name, expected in sorted(files.items()):
        path = folder / name
        if not path.is_file():
            raise XrayError(f"The bundle {folder} is incomplete: it lacks {name}; copy the whole folder.")
        if leads_out(path, folder):
            raise XrayError(f"The bundle {folder} is not whole: {name} lies outside of it; copy the files themselves.")
        try:
            total += path.stat().st_size
            if total > _MAX_BYTES:
                raise XrayError(f"The bundle {folder} has more than {_MAX_BYTES} bytes, which no bundle needs.")
            found = sha256(path)
        except OSError as error:
            raise XrayError(f"{path} cannot be read: {error.strerror}.") from error
        if found != expected:
            raise XrayError(f"{path} is not what it was when the bundle was made: copy or make the bundle again.")
