"""Write a bundle from a model and radiographs: export, measure, describe, and put in place when complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_xray.bundling.card import WEIGHTS_NAME, model_card
from anomalib_xray.bundling.images import ABNORMAL, PreparedSample, Sample, prepare_samples
from anomalib_xray.bundling.normal_scores import Promise, score_all, statistics_of, threshold_origin
from anomalib_xray.bundling.precisions import MAX_AUROC_LOSS, Variants, measure_precisions, quantise
from anomalib_xray.bundling.preparation import UNKNOWN_DATA, copy_pipeline
from anomalib_xray.edge.bundle import seal
from anomalib_xray.edge.description import Data, Description
from anomalib_xray.edge.scope import Scope
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import status
from anomalib_xray.io.write import completed, scratch, write_atomically
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.training.export import description_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule


_NO_LICENCE = "Apache License 2.0; the text is missing from this installation of anomalib-xray.\n"


@dataclass(frozen=True)
class Request:
    """Ingredients of a bundle.

    Attributes:
        samples: Radiographs to measure on; all that are not known to be abnormal count as normal.
        pipeline: Preparation; ``None`` for radiographs that go in as they are.
        int8: Whether to try 8-bit integers.
        note: Description of the radiographs, for the card.
        licence: Their licence, for the card.
        trained_on: The training data, in words.
        warning: Warning to readers of the numbers; may be empty.
        recompute: Whether thresholds are taken from the samples even where the model has its own.
        body_parts: Body parts that the model was made for; empty for those that the samples name.
        views: The same of views.
        false_alarms: Largest share of new normal patients that may alarm, for thresholds that keep it; ``None`` for the
            model's own thresholds.
        max_auroc_loss: AUROC that the 8-bit model may lose.
        shared: Whether the folder is to be shared: with weights for torch and the front matter of hubs.
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
    false_alarms: float | None = None
    max_auroc_loss: float = MAX_AUROC_LOSS
    shared: bool = False


def write_bundle(model: AnomalibModule, request: Request, out: Path) -> Description:
    """Makes a bundle of a model of this project, in evaluation, on the CPU; returns its description.

    The folder ``out`` must not exist or be empty.
    """
    pipeline = request.pipeline
    with completed(out) as folder, scratch(out) as work:
        samples = prepare_samples(request.samples, pipeline, work)
        normal = [sample for sample in samples if sample.label != ABNORMAL]
        if not normal:
            raise XrayError("All images are labelled abnormal: a bundle needs normal ones to compare with.")
        with status("Exporting"):
            variants = Variants.of(model, work, folder)
        if request.int8:
            with status("Quantising"):
                variants.add("int8", quantise(variants.graph, normal), folder)
        preparation = copy_pipeline(pipeline, folder / "preparation") if pipeline else None
        scores, values = score_all(variants.run("fp32"), samples, "fp32", variants.foreground)
        promise = Promise.of(model, request.false_alarms, samples, scores)
        origin = threshold_origin(model, variants.names, recompute=request.recompute, promise=promise)
        description = description_of(
            model,
            scores=tuple(variants.names),
            **statistics_of(model, variants.names, values, recompute=request.recompute, promise=promise),
            normalization=None,
            precisions=measure_precisions(
                variants, model.hparams["score"], scores, samples, folder, request.max_auroc_loss
            ),
            preparation=preparation.relative_to(folder).as_posix() if preparation else None,
            scope=_scope(request, samples),
            data=_data(request, samples, origin),
        )
        write_atomically(folder / "README.md", model_card(description, shared=request.shared))
        licence = distribution("anomalib-xray").read_text("licenses/LICENSE")
        write_atomically(folder / "LICENSE", licence or _NO_LICENCE)
        files = {path for path in folder.rglob("*") if path.is_file()}
        if request.shared:
            files.remove(folder / "README.md")  # hubs let their users edit it, and no command reads it
            files.add(_write_weights(model, description, folder / WEIGHTS_NAME))
        return seal(description, folder, sorted(files))


def _write_weights(model: AnomalibModule, about: Description, path: Path) -> Path:
    """Writes parameters and buffers of a model, with its name and settings, so that they load without pickled code."""
    from safetensors.torch import save_file

    # Copies, because the format refuses tensors that share their memory.
    weights = {name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}
    settings = {name: value for name, value in about.settings.items() if name in model.hparams}
    save_file(weights, path, {"format": "pt", "model": about.model, "settings": json.dumps(settings)})
    return path


def _data(request: Request, samples: Sequence[PreparedSample], threshold_origin: dict[str, str]) -> Data:
    abnormal = sum(sample.label == ABNORMAL for sample in samples)
    normal = {sample.patient for sample in samples if sample.label != ABNORMAL}
    return Data(
        images=len(samples),
        normal=len(samples) - abnormal,
        abnormal=abnormal,
        normal_patients=None if "" in normal else len(normal),
        pictures=sum(len(sample.views) for sample in samples),
        note=request.note,
        licence=request.licence,
        trained_on=request.trained_on,
        warning=request.warning,
        threshold_origin=threshold_origin,
    )


def _scope(request: Request, samples: Sequence[PreparedSample]) -> Scope:
    found = Scope.of([sample.tags for sample in samples], [sample.shape for sample in samples])
    return Scope(request.body_parts or found.body_parts, request.views or found.views, found.sides)
