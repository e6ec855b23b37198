"""A bundle from a model and radiographs: exported, measured, described, and put in its place when it is complete."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anomalib_xray.bundling.answers import score_all
from anomalib_xray.bundling.card import model_card
from anomalib_xray.bundling.folders import completed, scratch
from anomalib_xray.bundling.forms import Forms, measure_precisions
from anomalib_xray.bundling.images import ABNORMAL, Sample
from anomalib_xray.bundling.meaning import meaning_of, threshold_origin, versions
from anomalib_xray.bundling.pictures import Pictures, prepare_pictures
from anomalib_xray.bundling.pipeline_copy import copy_pipeline
from anomalib_xray.bundling.preparation import UNKNOWN_DATA
from anomalib_xray.bundling.quantisation import MAX_AUROC_LOSS, quantise
from anomalib_xray.components.export import settings_of
from anomalib_xray.edge.bundle import NOTICE, checksums_of, sha256
from anomalib_xray.edge.manifest import DIGEST_NAME, MANIFEST_FORMAT, MANIFEST_NAME
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status
from anomalib_xray.io.write import write_atomically
from anomalib_xray.preparation.pipeline import Pipeline

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule


@dataclass(frozen=True)
class Request:
    """What a bundle is made of.

    Attributes:
        samples: Radiographs to measure on; all that are not known to be abnormal count as normal.
        pipeline: Preparation; ``None`` for radiographs that go in as they are.
        int8: Whether to try 8-bit integers.
        note: What the radiographs are, for the card.
        licence: Their licence, for the card.
        trained_on: What the model was trained on, in words.
        warning: What a reader of the numbers must know; empty if nothing.
        recompute: Whether thresholds are taken from the samples even where the model has its own.
        body_parts: What the model was made for; empty for what the samples say.
        views: The same of views.
        max_auroc_loss: AUROC that the 8-bit model may lose.
    """

    samples: Sequence[Sample]
    pipeline: Pipeline | None
    int8: bool
    note: str
    licence: str
    trained_on: str = UNKNOWN_DATA
    warning: str = ""
    recompute: bool = False
    body_parts: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    max_auroc_loss: float = MAX_AUROC_LOSS


def write_bundle(model: AnomalibModule, request: Request, out: Path) -> dict[str, Any]:
    """Makes a bundle of format 3.

    Args:
        model: A model of this project, in evaluation, on the CPU.
        request: What else goes in.
        out: Folder to write; must not exist or be empty.

    Returns:
        Content of its ``bundle.json``.

    Raises:
        XrayError: ``out`` holds something, an image cannot be used, or the model cannot be exported.
    """
    pipeline = request.pipeline
    with completed(out) as folder, scratch(out) as work:
        pictures = prepare_pictures(request.samples, pipeline, work)
        normal = [radiograph for radiograph in pictures if radiograph.label != ABNORMAL]
        if not normal:
            raise XrayError("All images are labelled abnormal: a bundle needs normal ones to compare with.")
        with status("Exporting"):
            forms = Forms.of(model, work, folder)
        if request.int8:
            with status("Quantising"):
                forms.add("int8", quantise(forms.graph, normal), folder)
        preparation = copy_pipeline(pipeline, folder / "preparation") if pipeline else None
        scores, values = score_all(forms.run("fp32"), pictures, "fp32", forms.foreground)
        manifest = {
            "format": MANIFEST_FORMAT,
            "model": model.name,
            "settings": settings_of(model),
            "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "notice": NOTICE,
            "scores": forms.names,
            "score": model.hparams["score"],
            **meaning_of(model, forms.names, values, recompute=request.recompute),
            "precisions": measure_precisions(
                forms, model.hparams["score"], scores, pictures, folder, request.max_auroc_loss
            ),
            "precision": "fp32",
            "preparation": preparation.relative_to(folder).as_posix() if preparation else None,
            "scope": _scope(request, pictures).as_json(),
            "versions": versions(),
            "data": _about_data(request, pictures)
            | {"threshold_origin": threshold_origin(model, forms.names, recompute=request.recompute)},
        }
        write_atomically(folder / "README.md", model_card(manifest))
        write_atomically(folder / "LICENSE", _licence())
        return _seal(manifest, folder)


def _about_data(request: Request, pictures: Sequence[Pictures]) -> dict[str, Any]:
    """What the bundle was measured on."""
    abnormal = sum(radiograph.label == ABNORMAL for radiograph in pictures)
    return {
        "images": len(pictures),
        "normal": len(pictures) - abnormal,
        "abnormal": abnormal,
        "pictures": sum(len(radiograph.views) for radiograph in pictures),
        "note": request.note,
        "licence": request.licence,
        "trained_on": request.trained_on,
        "warning": request.warning,
    }


def _scope(request: Request, pictures: Sequence[Pictures]) -> Scope:
    """What the model was made for."""
    found = Scope.of([radiograph.tags for radiograph in pictures], [radiograph.shape for radiograph in pictures])
    return Scope(request.body_parts or found.body_parts, request.views or found.views, found.sides)


def _licence() -> str:
    """Text of the project's licence, as it is installed with the package."""
    text = distribution("anomalib-xray").read_text("licenses/LICENSE")
    return text or "Apache License 2.0; the text is missing from this installation of anomalib-xray.\n"


def _seal(manifest: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Writes the manifest with the checksums of all files, and its own beside it, the last of them."""
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    sealed = {**manifest, "files": files}
    write_atomically(folder / MANIFEST_NAME, json.dumps(sealed, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / DIGEST_NAME, checksums_of([folder / MANIFEST_NAME]))
    return sealed
