"""Parts of a benchmark, whose rows may be compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from anomalib_xray.experiments.grid import SHORTCUTS, Cell, Grid
from anomalib_xray.report.results import by_model
from anomalib_xray.report.rows import Row, part_title

HIGHLIGHTS = 5
"""Models of a part that have a colour of their own; more could not be told apart."""


@dataclass(frozen=True)
class Part:
    """The rows of one data set, prepared in one way, which share their test images.

    Attributes:
        data, preparation, equalize: The key of the part.
        rows: Its rows, shortcuts included.
        cells: Its cells by model, one per seed.
        sized: Cells by model that trained on some of the images only.
        baseline: Model that the others are compared with.
    """

    data: str
    preparation: str
    equalize: bool
    rows: list[Row]
    cells: dict[str, list[Cell]]
    sized: dict[str, list[Cell]]
    baseline: str | None

    @property
    def title(self) -> str:
        """Name for a reader."""
        return part_title(self.data, self.preparation, self.equalize)

    @cached_property
    def models(self) -> list[Row]:
        """Rows of models that have figures, the highest AUROC first, and last those that trained with labels."""
        found = [row for row in self.rows if row.model != SHORTCUTS and row.estimates]
        return sorted(found, key=lambda row: (row.uses_labels, -row.estimates["AUROC"].value))

    @cached_property
    def best_shortcut(self) -> Row | None:
        """The shortcut with the highest AUROC."""
        return max(self.shortcuts, key=lambda row: row.estimates["AUROC"].value, default=None)

    @property
    def shortcuts(self) -> list[Row]:
        """Rows of shortcuts that have figures."""
        return [row for row in self.rows if row.model == SHORTCUTS and row.estimates]

    @cached_property
    def baseline_row(self) -> Row | None:
        """The first row of the baseline, if it has figures."""
        first = next((row for row in self.rows if row.model == self.baseline), None)
        return first if first is not None and first.estimates else None

    @cached_property
    def leaders(self) -> list[Row]:
        """The highest row of each model, the highest first."""
        highest: dict[str, Row] = {}
        for row in self.models:
            highest.setdefault(row.model, row)
        return list(highest.values())

    @cached_property
    def styles(self) -> dict[str, str]:
        """Style class of each model in the charts: colours for the highest, one for the baseline, grey for the rest."""
        styles = dict.fromkeys((row.model for row in self.leaders), "rest")
        ranked = [row.model for row in self.leaders if row.model != self.baseline]
        styles |= {model: f"s{place}" for place, model in enumerate(ranked[:HIGHLIGHTS], start=1)}
        return styles | ({self.baseline_row.model: "base"} if self.baseline_row else {})

    def score(self, row: Row) -> str:
        """Name of a row's score for a reader."""
        cells = self.cells.get(row.model, [])
        return row.score if row.model == SHORTCUTS or not cells else score_name(row, cells[0])

    def label(self, row: Row) -> str:
        """Name of a row among the others: the model, with its score if the model has several."""
        several = sum(other.model == row.model for other in self.rows) > 1
        return f"{row.model} {self.score(row)}" if several else row.model


def score_name(row: Row, cell: Cell) -> str:
    """Name of a row's score, such as ``mse_top_k``; ``own`` for the only score of a model, which has no name."""
    chosen = str(cell.model_config.get("init_args", {}).get("score", "own"))
    return chosen if row.score == "pred_score" else row.score


def parts_of(rows: Sequence[Row], grid: Grid) -> list[Part]:
    """Groups rows and cells into parts, in the order of the rows."""
    by_part: dict[tuple[str, str, bool], list[Row]] = {}
    for row in rows:
        by_part.setdefault((row.data, row.preparation, row.equalize), []).append(row)
    return [
        Part(*key, part, by_model(grid.cells, key), by_model(grid.curve_cells, key), grid.baseline)
        for key, part in by_part.items()
    ]
