"""Charts as SVG, coloured by the style sheet of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log10
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.ticker import LogLocator, MaxNLocator
from numpy import asarray
from numpy.typing import ArrayLike

_LETTER = 6.2
"""Mean width of a letter in units of the drawing."""


class Axis(NamedTuple):
    """An axis; ``sparse`` ones have few ticks.

    >>> Axis("GFLOP", 1, 100, log=True).share(10)
    0.5
    >>> Axis("AUROC", 0, 1, sparse=True).ticks()
    [0.0, 0.5, 1.0]
    """

    label: str
    low: float
    high: float
    log: bool = False
    sparse: bool = False

    def share(self, value: float) -> float:
        """Position of a value, 0 at the smallest and 1 at the largest."""
        low, high, value = (log10(one) if self.log else one for one in (self.low, self.high, value))
        return (value - low) / (high - low)

    def ticks(self) -> list[float]:
        """Values with a tick."""
        if self.log:
            wide = self.high / self.low > 100
            found = LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)).tick_values(self.low, self.high)
        else:
            found = MaxNLocator(2 if self.sparse else 5).tick_values(self.low, self.high)
        margin = 1e-9 * (self.high - self.low)
        return [float(value) for value in found if self.low - margin <= value <= self.high + margin]


class Key(NamedTuple):
    """An entry of a legend: style class, name and figure."""

    style: str
    name: str
    note: str = ""


@dataclass
class Figure:
    """A chart with its title, its legend and a sentence below it."""

    svg: Markup
    title: str = ""
    keys: list[Key] = field(default_factory=list)
    note: str = ""


class Chart:
    """A chart that is drawn piece by piece, the first piece lowest.

    Args:
        x: Horizontal axis.
        y: Vertical axis.
        description: Text for readers who do not see it.
        size: Width and height in units of the drawing.
    """

    def __init__(self, x: Axis, y: Axis, description: str, size: tuple[int, int] = (380, 290)) -> None:
        self.x, self.y, self.size, self.description = x, y, size, description
        small = size[0] < 250
        self.left, self.right, self.top, self.bottom = (30, 6, 6, 30) if small else (48, 12, 8, 40)
        if not y.label:
            self.left = 8
        self._pieces: list[Markup] = []
        self._boxes: list[tuple[float, float, float, float]] = []

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Position of a point in units of the drawing."""
        width, height = self.size[0] - self.left - self.right, self.size[1] - self.top - self.bottom
        return self.left + self.x.share(x) * width, self.top + (1 - self.y.share(y)) * height

    def line(self, x: ArrayLike, y: ArrayLike, style: str, title: str, *, markers: bool = False) -> None:
        """Draws a line through points ``(N,)``, with a dot at each if asked."""
        points = self._points(x, y)
        if len(points) > 1:
            self._add('<path class="line {}" d="M{}"><title>{}</title></path>', style, _joined(points), title)
        for column, row in points if markers or len(points) == 1 else ():
            self._add(
                '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}</title></circle>',
                style, column, row, title,
            )  # fmt: skip

    def band(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, style: str) -> None:
        """Fills the space between two lines ``(N,)``."""
        edge = [*self._points(x, high), *reversed(self._points(x, low))]
        self._add('<path class="band {}" d="M{}Z"/>', style, _joined(edge))

    def area(self, edges: Sequence[float], heights: Sequence[float], style: str, title: str) -> None:
        """Fills a histogram, with edges ``(N + 1,)`` and heights ``(N,)``."""
        x = [edge for edge in edges for _ in (0, 1)]
        y = [self.y.low, *(height for height in heights for _ in (0, 1)), self.y.low]
        text = _joined(self._points(x, y))
        self._add('<path class="area {}" d="M{}Z"><title>{}</title></path>', style, text, title)

    def dot(self, x: float, y: float, ends: tuple[float, float], style: str, title: str) -> None:
        """Draws a point with a vertical interval."""
        column, row = self.at(x, y)
        tops = [self.at(x, min(max(end, self.y.low), self.y.high))[1] for end in ends]
        self._add('<path class="whisker {}" d="M{:.1f},{:.1f}V{:.1f}"/>', style, column, *tops)
        self._add(
            '<circle class="dot {}" cx="{:.1f}" cy="{:.1f}" r="4.5"><title>{}</title></circle>',
            style, column, row, title,
        )  # fmt: skip
        self._boxes.append((column - 5, row - 5, column + 5, row + 5))

    def write(self, x: float, y: float, label: str, style: str) -> None:
        """Writes right or left of a point, if there is room."""
        column, row = self.at(x, y)
        width = _LETTER * len(label)
        for anchor, start in (("start", column + 8), ("end", column - 8 - width)):
            for shift in (0, -9, 9):
                box = (start, row - 6 + shift, start + width, row + 6 + shift)
                inside = box[0] >= self.left and box[2] <= self.size[0] - 2
                if inside and not any(_overlap(box, other) for other in self._boxes):
                    self._boxes.append(box)
                    end = start if anchor == "start" else start + width
                    form = '<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
                    self._add(form, style, end, row + 4 + shift, anchor, label)
                    return

    def across(self, y: float, style: str, title: str) -> None:
        """Draws a line over the whole width."""
        (left, row), (right, _) = (self.at(x, y) for x in (self.x.low, self.x.high))
        form = '<path class="line {}" d="M{:.1f},{:.1f}H{:.1f}"><title>{}</title></path>'
        self._add(form, style, left, row, right, title)

    def svg(self) -> Markup:
        """The chart, with its axes below everything else."""
        form = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>')
        return form.format(*self.size, self.description, self._axes(), Markup().join(self._pieces))

    def _axes(self) -> Markup:
        right, floor = self.size[0] - self.right, self.size[1] - self.bottom
        pieces = [Markup('<path class="frame" d="M{},{}V{}H{}"/>').format(self.left, self.top, floor, right)]
        for value, text in _written(self.x):
            column = self.at(value, self.y.low)[0]
            pieces.append(Markup('<path class="tick" d="M{:.1f},{}v4"/>').format(column, floor))
            form = '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
            pieces.append(Markup(form).format(column, floor + 15, text))
        for value, text in _written(self.y) if self.y.label else ():
            row = self.at(self.x.low, value)[1]
            pieces.append(Markup('<path class="grid" d="M{},{:.1f}H{}"/>').format(self.left, row, right))
            form = '<text x="{}" y="{:.1f}" text-anchor="end">{}</text>'
            pieces.append(Markup(form).format(self.left - 5, row + 4, text))
        middle = ((self.left + right) / 2, (self.top + floor) / 2)
        form = '<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>'
        pieces.append(Markup(form).format(middle[0], self.size[1] - 3, self.x.label))
        form = '<text transform="translate(10 {:.1f}) rotate(-90)" text-anchor="middle">{}</text>'
        pieces.append(Markup(form).format(middle[1], self.y.label))
        return Markup().join(pieces)

    def _points(self, x: ArrayLike, y: ArrayLike) -> list[tuple[float, float]]:
        return [self.at(column, row) for column, row in zip(asarray(x).tolist(), asarray(y).tolist(), strict=True)]

    def _add(self, form: str, *values: object) -> None:
        self._pieces.append(Markup(form).format(*values))


def _joined(points: Iterable[tuple[float, float]]) -> str:
    return "L".join(f"{column:.1f},{row:.1f}" for column, row in points)


def _written(axis: Axis) -> list[tuple[float, str]]:
    return [(value, f"{value:.10g}") for value in axis.ticks()]


def _overlap(first: tuple[float, float, float, float], second: tuple[float, float, float, float]) -> bool:
    apart = first[2] < second[0] or second[2] < first[0] or first[3] < second[1] or second[3] < first[1]
    return not apart


def interval_mark(value: float, low: float, high: float, seeds: Iterable[float], description: str) -> Markup:
    """Draws a figure with its interval and seeds on a scale from 0 to 1, with a line at 0.5, for a cell of a table."""
    width = 120
    dots = Markup().join(
        Markup('<circle class="seed" cx="{:.1f}" cy="8" r="1.6"/>').format(width * seed) for seed in seeds
    )
    return Markup(
        '<svg class="mark" viewBox="0 0 {width} 16" role="img" aria-label="{text}">'
        '<path class="scale" d="M0,8H{width}"/>'
        '<path class="chance" d="M{middle},1V15"/><path class="range" d="M{low:.1f},8H{high:.1f}"/>'
        '<circle class="value" cx="{value:.1f}" cy="8" r="4"/>{dots}</svg>'
    ).format(
        width=width, middle=width / 2, low=width * low, high=width * high, value=width * value, dots=dots,
        text=description,
    )  # fmt: skip
