"""Draw the attention maps of radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from anomalib_xray import NOTICE
from anomalib_xray.edge.graph import CENTRED, to_picture
from anomalib_xray.edge.overlay import Picture, blend
from anomalib_xray.edge.table import printable
from anomalib_xray.errors import XrayError
from anomalib_xray.explain.drawing import LARGEST, enlarged, pre_processed, report, side_by_side
from anomalib_xray.io.inputs import Input
from anomalib_xray.io.progress import track
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_atomically
from anomalib_xray.networks.attention_maps import AttentionMap, Query, attention_maps, has_attention
from anomalib_xray.transforms.pre_processor import padding_of

if TYPE_CHECKING:
    from anomalib.models import AnomalibModule

Position = tuple[float, float]


def draw_all(model: AnomalibModule, inputs: Sequence[Input], query: Query, out: Path) -> int:
    """Draws the attention maps of image after image; returns the exit status, 1 if an image could not be used.

    Raises:
        XrayError: The model has no self-attention.
    """
    if not has_attention(model.model):
        raise XrayError(f"{model.name} was trained without self-attention, so that there is nothing to draw.")
    print(NOTICE)
    failed = 0
    for image in track(inputs, "Drawing"):
        try:
            layers = _draw_one(model, image, query)
        except XrayError as error:
            report(image.path, error)
            failed += 1
        else:
            print(f"{printable(image.path)}: {', '.join(layers)}")
    print(f"{len(inputs) - failed} of {len(inputs)} images drawn; the pictures are in {out}.")
    return 1 if failed else 0


def _draw_one(model: AnomalibModule, image: Input, query: Query) -> list[str]:
    """Draws the maps of one image; returns the names of the layers."""
    radiograph = read_radiograph(image.path)
    prepared = pre_processed(model, radiograph)
    maps = attention_maps(model.model, prepared, query)
    padding = padding_of(model)
    position = _on_radiograph(maps.position[0].tolist(), prepared.shape[-1], radiograph.shape, padding)
    for name, layer in maps.layers.items():
        strength = model.model.get_parameter(f"{name}.gamma").item()
        title = f"{printable(image.name)}, {name}, strength {strength:.2g}"
        picture = draw_attention(radiograph, layer, position, title, padding)
        write_atomically(image.picture(name), cv2.imencode(".png", picture)[1].tobytes())
    return list(maps.layers)


def draw_attention(
    radiograph: Radiograph, layer: AttentionMap, position: Position, title: str, padding: str = CENTRED
) -> Picture:
    """Draws a radiograph under the two maps of a layer, ``(1, 1, S, S)`` each, side by side above a footer.

    Colours begin at a quarter of the map's largest value and run from yellow to red. A cross marks the position, a row
    and a column of the radiograph. ``padding`` is as in :func:`~anomalib_xray.edge.graph.to_picture`.
    """
    grey = enlarged(radiograph)
    height, width = grey.shape[:2]
    looking, received = (
        blend(grey, LARGEST * to_picture(weights[0, 0].numpy(), height, width, padding)) for weights in layer
    )
    factor = looking.shape[0] / radiograph.shape[0]
    row, column = (round((value + 0.5) * factor) for value in position)
    cv2.drawMarker(looking, (column, row), (255, 255, 0), cv2.MARKER_CROSS, 24, 2, cv2.LINE_AA)
    texts = [f"smallest {float(weights.min()):.2f} of largest" for weights in layer]
    below = (f"what the cross attends to, {texts[0]}", f"attention received, {texts[1]}")
    return side_by_side((looking, received), title, below)


def _on_radiograph(position: Sequence[int], size: int, shape: tuple[int, ...], padding: str) -> Position:
    """A pixel of the padded square of side ``size`` as a pixel of the radiograph, which the padding may leave."""
    side = max(shape)
    row, column = (
        min(max((index + 0.5) * side / size - 0.5 - (padding == CENTRED) * ((side - length) // 2), 0), length - 1)
        for index, length in zip(position, shape, strict=True)
    )
    return row, column
