"""Explain image after image: a picture for each, a table, and a test of how far to trust them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr  # type: ignore[import-untyped]  # scipy has no stubs
from torch import Tensor, nn

from anomalib_xray import NOTICE
from anomalib_xray.edge.graph import to_picture
from anomalib_xray.edge.table import printable
from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.localisation import Localisation, localisation
from anomalib_xray.explain.drawing import LARGEST, draw_explanation, pre_processed, report
from anomalib_xray.explain.explainers import Explainer, Explanation
from anomalib_xray.io.formats import stem_of
from anomalib_xray.io.inputs import Input
from anomalib_xray.io.paths import fitted
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import Radiograph, read_anomaly_mask, read_radiograph
from anomalib_xray.io.text import write_csv
from anomalib_xray.io.write import write_atomically
from anomalib_xray.scores import dissimilarity, foreground, masked_mean

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

EXPLANATIONS, SANITY = "explain.csv", "sanity.csv"
"""Names of the tables: a row per image, and a row per layer of the sanity check."""

COLUMNS = ("path", "method", "layer", "logit", "largest", "relevance_pixels", "relevance_elsewhere")
"""First columns of the table of images; unknown cells are empty."""

SANITY_IMAGES = 8
"""Number of images that the sanity check is made on, the first ones."""

_SHOWN = {
    "grad_cam": "Grad-CAM at {layer}",
    "lrp": "LRP, what adds to the anomaly",
    "rollout": "attention rollout, 1 = an even share",
}
"""Words of a picture about each method."""

UNCHANGED = 0.5
"""Smallest rank correlation at which the map of a random network counts as the same as the trained one's."""

Row = dict[str, str]


class Masks:
    """Masks of anomalies in a folder, if any, by the paths of their images."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def of(self, path: Path) -> Path | None:
        """The PNG file in the folder whose path agrees with most of the end of the image's."""
        if self.folder is None:
            return None
        *folders, name = path.absolute().parts[1:]
        parts = [*folders, fitted(stem_of(name), ".png")]
        tails = (self.folder.joinpath(*parts[start:]) for start in range(len(parts)))
        return next((tail for tail in tails if tail.is_file()), None)

    def read(self, path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
        """The mask of an image of this shape, if there is one.

        Raises:
            XrayError: The mask cannot be read or is of another size.
        """
        file = self.of(path)
        if file is None:
            return None
        mask = read_anomaly_mask(file)
        if mask.shape != shape:
            raise XrayError(f"The mask {file} is {mask.shape} pixels, its image {shape}; give masks of the same size.")
        return mask


def explain_all(
    model: AnomalibModule, explainer: Explainer, inputs: Sequence[Input], out: Path, masks: Masks, sanity: bool
) -> int:
    """Explains, draws and reports image after image, and writes the tables; returns the exit status.

    Raises:
        XrayError: No image has a mask although a folder is given, or a table cannot be written.
    """
    if masks.folder is not None and not any(masks.of(image.path) for image in inputs):
        raise XrayError(f"{masks.folder} has no mask of the images: name the folder whose PNG files have their paths.")
    print(NOTICE)
    rows: list[Row] = []
    found: list[Localisation] = []
    kept: list[Tensor] = []
    try:
        for image in track(inputs, "Explaining"):
            rows.append(_explain_one(model, explainer, image, masks, found, kept))
    except KeyboardInterrupt:
        print(f"Stopped after {len(rows)} of {len(inputs)} images.")
        return 130
    finally:
        write_csv(out / EXPLANATIONS, (*COLUMNS, *Localisation._fields, "error"), rows)
    failed = sum(bool(row["error"]) for row in rows)
    print(f"{len(rows) - failed} of {len(rows)} images explained; pictures and {EXPLANATIONS} are in {out}.")
    if masks.folder is not None:
        print(_summary(found))
    if sanity and kept:
        check_sanity(explainer, kept, out)
    return 1 if failed else 0


def check_sanity(explainer: Explainer, images: Sequence[Tensor], out: Path) -> None:
    """Makes the parameter randomisation test, prints and writes it; the explainer's network is random afterwards."""
    network = explainer.network
    discriminator = network.get_submodule("discriminator")
    count = len(weighted_layers(discriminator))
    tests = randomisation_test(network, discriminator, explainer.heat, images)
    stages = list(track(tests, "Randomising", count))
    rows = [{"layer": name, "spearman": f"{rank:.4f}", "ssim": f"{ssim:.4f}"} for name, rank, ssim in stages]
    write_csv(out / SANITY, ("layer", "spearman", "ssim"), rows)
    last = stages[-1]
    figures = f"rank correlation {last.spearman:.2f}, SSIM {last.ssim:.2f} over {len(images)} images"
    verdict = (
        f"below {UNCHANGED}: the explanation depends on what the discriminator has learnt."
        if is_sane(stages)
        else f"not below {UNCHANGED}: the explanation shows the image, not what was learnt; do not trust it."
    )
    print(f"Sanity check: maps of the randomised discriminator against the trained one's, {figures}, {verdict}")


def _explain_one(
    model: AnomalibModule,
    explainer: Explainer,
    image: Input,
    masks: Masks,
    found: list[Localisation],
    kept: list[Tensor],
) -> Row:
    """Explains one image; returns its row of the table and adds to ``found`` and ``kept``."""
    row = dict.fromkeys((*COLUMNS, *Localisation._fields, "error"), "") | {"path": printable(image.path)}
    try:
        radiograph = read_radiograph(image.path)
        mask = masks.read(image.path, radiograph.shape)
        prepared = pre_processed(model, radiograph)
        explanation = explainer(explainer.network, prepared)
        _draw(explainer, explanation, radiograph, mask, image)
    except XrayError as error:
        return row | {"error": report(image.path, error)}
    if len(kept) < SANITY_IMAGES:
        kept.append(prepared)
    row |= {"method": explainer.method, "layer": explainer.layer or ""}
    row |= _cells({"logit": explanation.logit, "largest": explanation.heat.amax((1, 2)), **explanation.figures})
    if mask is not None:
        heat = to_picture(explanation.heat[0].numpy(), radiograph.shape[0], radiograph.shape[1], explainer.padding)
        found.append(localisation(heat, mask, radiograph > 0))
        row |= _cells(found[-1]._asdict())
    return row


def _draw(
    explainer: Explainer,
    explanation: Explanation,
    radiograph: Radiograph,
    mask: NDArray[np.bool_] | None,
    image: Input,
) -> None:
    """Writes the picture of one image."""
    heat = explanation.heat[0].numpy()
    largest = float(heat.max())
    # Every place takes part in a rollout: its colours begin at the smallest value rather than at 0.
    bottom = float(heat[heat > 0].min()) if explainer.method == "rollout" and largest > 0 else 0.0
    level = np.zeros_like(heat) if largest <= bottom else LARGEST * (heat - bottom) / (largest - bottom)
    title = f"{printable(image.name)}, logit of real {float(explanation.logit[0]):.3g}"
    scale = f"from {bottom:.2g} to {largest:.2g}" if largest > bottom else "0 everywhere"
    below = f"{_SHOWN[explainer.method].format(layer=explainer.layer)}, {scale}"
    picture = draw_explanation(radiograph, level.astype(np.float32), mask, title, below, explainer.padding)
    write_atomically(image.picture("explained"), cv2.imencode(".png", picture)[1].tobytes())


def _cells(figures: Mapping[str, Tensor | float]) -> Row:
    """Figures as text, empty where unknown."""
    return {name: "" if np.isnan(float(value)) else f"{float(value):.6g}" for name, value in figures.items()}


def _summary(found: Sequence[Localisation]) -> str:
    """A line on the agreement of the maps with the anomalies."""
    values = np.array([figures for figures in found if figures.mask_share > 0], float).reshape(-1, 4)
    if not len(values):
        return "No image has an anomaly within its foreground."
    auroc, pointing, energy, share = (_mean(column) for column in values.T)
    return (
        f"{len(values)} images with an anomaly, means: pixel AUROC {auroc}, pointing game {pointing}, "
        f"energy on the anomaly {energy} (by chance {share})."
    )


def _mean(column: NDArray[np.float64]) -> str:
    known = column[~np.isnan(column)]
    return f"{known.mean():.3f}" if len(known) else "unknown"


class Stage(NamedTuple):
    """Effect of randomisation down to a layer on the maps.

    Attributes:
        layer: The lowest layer that is random; all above it are random too.
        spearman: Magnitude of the rank correlation with the original maps over the foreground, mean over the images:
            a map turned into its opposite is still a map of the same edges.
        ssim: Structural similarity of the two, each divided by its largest magnitude; mean over foreground and images.
    """

    layer: str
    spearman: float
    ssim: float


def randomisation_test(
    network: nn.Module, judge: nn.Module, explain: Callable[[nn.Module, Tensor], Tensor], images: Sequence[Tensor]
) -> Iterator[Stage]:
    """Randomises a discriminator from the top and compares the heat maps, a stage for each layer with weights.

    Source: Adebayo et al. 2018 (1810.03292), section 3.1. Layer after layer, from the logit down to the image, weights
    are replaced by random ones; an explanation that stays as it was shows edges of the image and not the network.

    Args:
        network: A network in plain layers, with a discriminator ``judge`` that is random afterwards.
        judge: The discriminator.
        explain: Heat map ``(1, S, S)`` of a network and one pre-processed image.
        images: Pre-processed images, ``(1, 3, S, S)`` in [0, 1].
    """
    generator = torch.Generator().manual_seed(0)
    original = [explain(network, image) for image in images]
    for name, layer in reversed(weighted_layers(judge)):
        randomise(layer, generator)
        pairs = zip(original, (explain(network, image) for image in images), images, strict=True)
        found = np.array([similarity(*pair) for pair in pairs])
        yield Stage(name, float(np.abs(found[:, 0]).mean()), float(found[:, 1].mean()))


def weighted_layers(network: nn.Module) -> list[tuple[str, nn.Module]]:
    """The layers that have weights of their own, by dotted name, in the order of the network."""
    return [(name, layer) for name, layer in network.named_modules() if list(layer.parameters(recurse=False))]


@torch.no_grad()
def randomise(layer: nn.Module, generator: torch.Generator) -> None:
    """Replaces a layer's own weights by normal ones of the same magnitude, so that no signal grows or vanishes."""
    for weight in layer.parameters(recurse=False):
        magnitude = weight.square().mean().sqrt()
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=weight.dtype) * magnitude.cpu())


def similarity(one: Tensor, other: Tensor, image: Tensor) -> tuple[float, float]:
    """Compares two heat maps ``(1, S, S)`` of a pre-processed image ``(1, 3, S, S)`` over its foreground.

    Returns:
        Spearman's rank correlation and SSIM, each 1 for the same map; a correlation of 0 where a map is constant.
    """
    mask = foreground(image.mean(1, keepdim=True))
    shown = mask[0, 0] > 0
    values, others = one[0][shown].numpy(), other[0][shown].numpy()
    varied = len(values) > 0 and np.ptp(values) > 0 and np.ptp(others) > 0
    correlation = float(spearmanr(values, others).statistic) if varied else 0.0
    scaled, others_scaled = (
        (heat / heat.abs().max().clamp(min=torch.finfo(heat.dtype).tiny)).unsqueeze(1) for heat in (one, other)
    )
    return correlation, 1 - 2 * float(masked_mean(dissimilarity(scaled, others_scaled), mask))


def is_sane(stages: Sequence[Stage]) -> bool:
    """Whether maps of the wholly random discriminator differ from the original ones."""
    return stages[-1].spearman < UNCHANGED
