"""Pseudo-lesions: changes of normal radiographs that a network learns to find.

Every lesion is made in a window around its place, for a whole batch at once, from numbers in [0, 1) that a generator
of each picture has drawn: the same seed gives a picture the same lesion, whatever is beside it in the batch, unless
that is where its patch comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, max_pool2d, pad

from anomalib_xray.scores import foreground
from anomalib_xray.transforms.foreground import keep_foreground
from anomalib_xray_plugins.pseudo_lesion.blends import BLENDS, Task

SCALES = (0.7, 1.3)
"""Range of the magnification of a natural patch; NSA's of aligned objects (2109.15222, section 3.1)."""

INSIDE = 0.999
"""Least share of foreground in an interpolated pixel of a source; less would mix the background in."""


@dataclass(frozen=True)
class Lesions:
    """What is painted.

    Attributes:
        tasks: Kinds of lesion, one of which is drawn for each lesion.
        aligned: Patches of other pictures come from the same place; otherwise from any.
        sizes: Least and largest side of a lesion, as shares of the picture's side.
        count: Largest number of lesions of a picture; from none to these are drawn.
    """

    tasks: Sequence[Task] = ("natural",)
    aligned: bool = False
    sizes: tuple[float, float] = (0.04, 0.2)
    count: int = 3


class Draw(NamedTuple):
    """Numbers in [0, 1) of one lesion of each picture, ``(N,)`` each."""

    task: Tensor
    place: Tensor
    length: Tensor
    width: Tensor
    angle: Tensor
    partner: Tensor
    source: Tensor
    weight: Tensor
    scale: Tensor
    direction: Tensor
    fault: Tensor


class Window(NamedTuple):
    """A square around the place of each picture's lesion.

    Attributes:
        rows: Rows of the picture, ``(N, W, 1)``.
        columns: Its columns, ``(N, 1, W)``.
        y: Distance from the lesion's middle, downwards in pixels, ``(N, W, 1)``.
        x: The same to the right, ``(N, 1, W)``.
        along: Distance along the lesion, in halves of its length, ``(N, W, W)``.
        across: Distance across it, in halves of its width, ``(N, W, W)``.
    """

    rows: Tensor
    columns: Tensor
    y: Tensor
    x: Tensor
    along: Tensor
    across: Tensor


def paint_lesions(image: Tensor, lesions: Lesions, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Paints pseudo-lesions into normal radiographs, within their foreground.

    Args:
        image: ``(N, 1, S, S)`` in [0, 1], background exactly 0.
        lesions: What is painted.
        seeds: A seed of each picture.

    Returns:
        The pictures, and how much of a lesion each pixel is, from 0 (nothing was changed) to 1; both ``(N, 1, S, S)``.

    Example:
        >>> normal = torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(min=0.1)
        >>> painted, lesion = paint_lesions(normal, Lesions(tasks=["cut_paste"], count=1), seeds=[0, 3])
        >>> bool((lesion.amax((1, 2, 3)) == ((painted - normal).abs().amax((1, 2, 3)) > 0)).all())
        True
    """
    numbers = draw_numbers(seeds, 1 + lesions.count * len(Draw._fields)).to(image.device)
    count = (numbers[:, 0] * (lesions.count + 1)).long()
    painted, lesion = image, torch.zeros_like(image)
    for number in range(lesions.count):
        start = 1 + number * len(Draw._fields)
        draws = numbers[:, start : start + len(Draw._fields)]
        kinds = (draws[:, 0] * len(lesions.tasks)).long()
        for kind, task in enumerate(lesions.tasks):
            chosen = ((count > number) & (kinds == kind)).nonzero().squeeze(1)
            if len(chosen):
                draw = Draw(*draws[chosen].unbind(1))
                others = image[partners(chosen, draw.partner, len(image))]
                changed, label = paint(painted[chosen], others, task, lesions, draw)
                painted = painted.index_copy(0, chosen, changed)
                lesion = lesion.index_copy(0, chosen, torch.maximum(lesion[chosen], label))
    return painted, lesion


def draw_numbers(seeds: Sequence[int], count: int) -> Tensor:
    """Draws numbers in [0, 1) from a generator of each seed, ``(N, count)``.

    >>> one, both = draw_numbers([7], 3), draw_numbers([5, 7], 3)
    >>> torch.equal(one[0], both[1])
    True
    """
    return torch.stack([torch.rand(count, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def partners(chosen: Tensor, number: Tensor, count: int) -> Tensor:
    """Another picture of a batch of ``count`` for each chosen one, ``(M,)``; itself where there is no other.

    >>> partners(torch.tensor([0, 2]), torch.tensor([0.0, 0.99]), count=3)
    tensor([1, 1])
    """
    return (chosen + 1 + (number * (count - 1)).long()) % count


def paint(image: Tensor, other: Tensor, task: Task, lesions: Lesions, draw: Draw) -> tuple[Tensor, Tensor]:
    """Paints one lesion into each picture; arguments and results as those of :func:`paint_lesions`.

    Args:
        image: The pictures, ``(N, 1, S, S)``.
        other: Pictures that patches come from, ``(N, 1, S, S)``.
        task: Kind of the lesions.
        lesions: Their settings.
        draw: Their numbers.
    """
    side = image.shape[-1]
    middle = places(foreground(image), draw.place)
    least, largest = (math.log(size * side / 2) for size in lesions.sizes)
    length, width = ((least + number * (largest - least)).exp() for number in (draw.length, draw.width))
    window = window_at(middle, length, width, math.pi * draw.angle, side, math.ceil(lesions.sizes[1] * side) + 2)
    own = take(image, window.rows, window.columns).squeeze(1)
    y, x = window.y, window.x
    shape = torch.maximum(window.along.abs(), window.across.abs()) <= 1
    if task == "deform":
        other, source = image, middle
        moved_y, moved_x = displacement(window, torch.minimum(length, width), draw)
        y, x = y - moved_y, x - moved_x
        shape = window.along.square() + window.across.square() <= 1
    else:
        other = image if task == "cut_paste" else other
        anywhere = task == "cut_paste" or not lesions.aligned
        source = places(foreground(other), draw.source) if anywhere else middle
        if task == "natural":
            scale = (SCALES[0] + draw.scale * (SCALES[1] - SCALES[0])).view(-1, 1, 1)
            y, x = y / scale, x / scale
    patch, is_body = sample(other, source[:, :1, None] + y, source[:, 1:, None] + x)
    region = shape & within(own > 0) & within(is_body)
    changed, label = BLENDS[task](own, patch, region, draw.weight.view(-1, 1, 1))
    changed = keep_foreground(changed, own > 0)
    place = window.rows, window.columns
    return put(image, changed.unsqueeze(1), *place), put(torch.zeros_like(image), label.unsqueeze(1), *place)


def places(mask: Tensor, number: Tensor) -> Tensor:
    """A pixel of each mask ``(N, 1, H, W)``, row and column ``(N, 2)``: the one that a number in [0, 1) counts to.

    >>> places(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]), torch.tensor([0.7]))
    tensor([[1, 1]])
    """
    counts = mask.flatten(1).long().cumsum(1)
    wanted = (number.double() * counts[:, -1]).long() + 1
    found = torch.searchsorted(counts, wanted[:, None]).clamp(max=counts.shape[1] - 1)
    return torch.cat([found // mask.shape[-1], found % mask.shape[-1]], 1)


def window_at(middle: Tensor, length: Tensor, width: Tensor, angle: Tensor, side: int, window: int) -> Window:
    """Windows of a side around the middles ``(N, 2)`` of lesions, moved so that they lie within the picture.

    Args:
        middle: Row and column of a lesion's middle, ``(N, 2)``.
        length: Half of its length, in pixels, ``(N,)``.
        width: Half of its width.
        angle: Its direction, in radians.
        side: Side of the pictures.
        window: Side of the windows.
    """
    rows, columns = square_at(middle, side, min(window, side))
    y, x = (rows - middle[:, :1, None]).float(), (columns - middle[:, 1:, None]).float()
    length, width, angle = (value.view(-1, 1, 1) for value in (length, width, angle))
    along = (angle.cos() * x + angle.sin() * y) / length
    across = (angle.cos() * y - angle.sin() * x) / width
    return Window(rows, columns, y, x, along, across)


def square_at(middle: Tensor, side: int, window: int) -> tuple[Tensor, Tensor]:
    """Rows ``(N, W, 1)`` and columns ``(N, 1, W)`` of squares around places ``(N, 2)``, within pictures of a side.

    >>> rows, columns = square_at(torch.tensor([[0, 5]]), side=8, window=4)
    >>> rows.flatten().tolist(), columns.flatten().tolist()
    ([0, 1, 2, 3], [3, 4, 5, 6])
    """
    corner = (middle - window // 2).clamp(0, side - window)
    steps = torch.arange(window, device=middle.device)
    return (corner[:, :1] + steps).unsqueeze(2), (corner[:, 1:] + steps).unsqueeze(1)


def take(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Squares ``(N, C, W, W)`` of pictures ``(N, C, S, S)``."""
    picture = torch.arange(len(image), device=image.device).view(-1, 1, 1)
    return image[picture, :, rows, columns].movedim(3, 1)


def put(image: Tensor, content: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pictures ``(N, C, S, S)`` with squares of another content, ``(N, C, W, W)``."""
    picture = torch.arange(len(image), device=image.device).view(-1, 1, 1)
    changed = image.clone()
    changed[picture, :, rows, columns] = content.to(image.dtype).movedim(1, 3)
    return changed


def sample(image: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, 1, S, S)`` at any places ``(N, W, W)``, bilinear, and whether that is foreground alone."""
    side = image.shape[-1]
    grid = torch.stack([columns + 0 * rows, rows + 0 * columns], -1) * (2 / (side - 1)) - 1
    both = torch.cat([image, foreground(image)], 1)
    values = grid_sample(both, grid.to(image.dtype), mode="bilinear", padding_mode="zeros", align_corners=True)
    return values[:, 0], values[:, 1] > INSIDE


def within(mask: Tensor) -> Tensor:
    """Pixels of ``(N, W, W)`` whose eight neighbours are in the mask and in the window."""
    outside = pad((~mask).float(), (1, 1, 1, 1), value=1.0)
    return max_pool2d(outside.unsqueeze(1), 3, 1).squeeze(1) == 0


def displacement(window: Window, radius: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Smooth movement of pixels, 0 at the border of an ellipse: ``d (1 - r^2)^2`` in a direction.

    It is short enough for no two pixels to swap places. For half of the lesions the two sides of their long axis move
    in opposite directions along it: a fault.

    Args:
        window: The lesions' windows.
        radius: Smaller half axis of the ellipse, in pixels, ``(N,)``.
        draw: Numbers of the lesions.

    Returns:
        Rows and columns by which content moves, ``(N, W, W)`` each.
    """
    inside = (1 - window.along.square() - window.across.square()).clamp(min=0).square()
    # (1 - r^2)^2 is nowhere steeper than 1.54.
    size = ((0.2 + 0.4 * draw.weight) * radius).view(-1, 1, 1) * inside
    fault = draw.fault.view(-1, 1, 1) < 0.5
    size = torch.where(fault, size * window.across.sign(), size)
    angle = torch.where(fault, math.pi * draw.angle.view(-1, 1, 1), 2 * math.pi * draw.direction.view(-1, 1, 1))
    return size * angle.sin(), size * angle.cos()
