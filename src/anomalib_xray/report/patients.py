"""Who is in a benchmark, and figures of groups of images and of lesions by size, as tables of the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from anomalib_xray.evaluation.bootstrap import Estimate, interval, patient_weights
from anomalib_xray.evaluation.conformal import exact_interval
from anomalib_xray.evaluation.curves import DRAWS, aurocs
from anomalib_xray.evaluation.ranking import Values
from anomalib_xray.evaluation.subgroups import grouped
from anomalib_xray.evaluation.units import LEVELS, read_scores
from anomalib_xray.experiments.grid import CHARACTERISTICS, MARKS, SCORES, Cell
from anomalib_xray.io.text import read_frame
from anomalib_xray.report.charts import runs_of
from anomalib_xray.report.decisions import with_range
from anomalib_xray.report.page_tables import Entry, Table
from anomalib_xray.report.parts import Part
from anomalib_xray.report.results import CellOutputs
from anomalib_xray.report.rows import Row

SMALLEST = 10
"""Patients that a class of a group needs for a figure: with fewer, an interval of a share is wider than 0.6."""

MODELS = 3
"""Highest models that have figures by group."""

_SPLITS = {
    "train": "training",
    "labelled": "training, labelled abnormal",
    "pool": "training, unlabelled pool",
    "val": "validation",
    "test": "test",
}
_SEVERAL = "several"


def patients_table(part: Part, outputs: CellOutputs) -> Table | None:
    """Numbers of pictures, patients and classes in each split, and what is said of them."""
    cell = next((cell for cell in _cells(part, outputs) if outputs.result(cell).get("splits")), None)
    if cell is None:
        return None
    result = outputs.result(cell)
    splits: dict[str, dict[str, Any]] = result["splits"]
    names = list(dict.fromkeys(name for split in splits.values() for name in split["characteristics"]))
    rows = []
    for split in sorted(splits, key=list(_SPLITS).index):
        counts = splits[split]
        numbers = [counts[name] for name in ("pictures", "originals", "patients", "normal", "abnormal")]
        texts = [Entry(counts["characteristics"].get(name, ""), style="long") for name in names]
        rows.append([Entry(_SPLITS[split]), *(Entry(f"{number:,}", number) for number in numbers), *texts])
    header = ["split", "pictures", "radiographs", result.get("unit", "patients"), "normal", "abnormal"]
    note = f"Of {cell.model}, seed {cell.seed}; labels of a pool are withheld from training."
    return Table(part.title, [*header, *(name.replace("_", " ") for name in names)], rows, [note])


def _cells(part: Part, outputs: CellOutputs) -> Iterator[Cell]:
    """Finished cells of the models, the highest first."""
    for row in part.leaders:
        yield from outputs.done(part.cells[row.model])


def subgroup_tables(part: Part, outputs: CellOutputs) -> list[Table]:
    """AUROC, sensitivity and specificity of the highest models in groups of the test, a table per characteristic."""
    cell = next((one for one in _cells(part, outputs) if (outputs.folder(one) / CHARACTERISTICS).is_file()), None)
    if cell is None or not part.leaders:
        return []
    rows = [row for row in part.leaders[:MODELS] if runs_of(row, part, outputs)]
    found = []
    for name, groups in _groups(cell, outputs).items():
        if len(groups.cat.categories) < 2:
            continue
        entries = []
        for group in groups.cat.categories:
            inside = set(groups.index[groups == group])
            entries += [_group_row(row, str(group), inside, part, outputs) for row in rows]
        header = [
            name.replace("_", " "),
            "model",
            "normal / abnormal",
            "patients",
            "AUROC",
            "sensitivity",
            "specificity",
        ]
        found.append(Table(f"{part.title}, by {name.replace('_', ' ')}", header, entries))
    return found


def _groups(cell: Cell, outputs: CellOutputs) -> dict[str, pd.Series[Any]]:
    """Group of each unit of the test by characteristic; a unit whose images differ is one of several."""
    path = outputs.folder(cell) / CHARACTERISTICS
    table = read_frame(path, ["image_path"], text=["image_path"], advice="run the cell again")
    names = [str(name) for name in table if name != "image_path"]
    images = read_scores(outputs.folder(cell) / SCORES)
    source = images["source_path"].replace("", None).fillna(images["image_path"])
    images = images.assign(source_path=source).merge(table, on="image_path", how="left")
    keys = LEVELS[outputs.grid.level]
    unit = ["/".join(ids) for ids in images[keys].itertuples(index=False, name=None)]
    found = {}
    for name in names:
        groups = grouped(images[name]).astype(str).groupby(np.array(unit)).agg(_only)
        order = [*grouped(images[name]).cat.categories, *([_SEVERAL] if (groups == _SEVERAL).any() else [])]
        found[name] = groups.astype(pd.CategoricalDtype([one for one in order if (groups == one).any()]))
    return found


def _only(values: pd.Series[str]) -> str:
    different = values.unique()
    return str(different[0]) if len(different) == 1 else _SEVERAL


def _group_row(row: Row, group: str, inside: set[str], part: Part, outputs: CellOutputs) -> list[Entry]:
    runs = [run[run["id"].isin(inside)] for run in runs_of(row, part, outputs)]
    first = runs[0]
    patients = first.groupby("label")["patient"].nunique()
    counts = [int((first["label"] == label).sum()) for label in (0, 1)]
    enough = [patients.get(label, 0) >= SMALLEST for label in (0, 1)]
    auroc = Estimate(*aurocs(runs)) if all(enough) else None
    decided = [_called(runs, label) if enough[label] else None for label in (1, 0)]
    return [
        Entry(group),
        Entry(row.model),
        Entry(f"{counts[0]} / {counts[1]}", sum(counts)),
        Entry(str(first["patient"].nunique()), first["patient"].nunique()),
        Entry("too few") if auroc is None else with_range(auroc),
        *(with_range(one) for one in decided),
    ]


def _called(runs: list[pd.DataFrame], label: int) -> Estimate | None:
    """Share of a class that is decided rightly, with its interval over patients."""
    if not all("decision" in run for run in runs):
        return None
    units = runs[0][runs[0]["label"] == label]
    right = np.mean([(run["decision"] == label)[run["label"] == label] for run in runs], axis=0)
    return share_of(right, units["patient"])


def share_of(right: Values, patients: pd.Series[str]) -> Estimate:
    """Mean of what was right, ``(N,)``, with its interval over patients; the exact one where all or none was."""
    value = float(right.mean())
    if value in (0, 1):
        return exact_interval(value, patients.nunique())
    weights = patient_weights(patients, DRAWS)
    return interval(value, weights @ right / weights.sum(1))


def lesion_table(part: Part, outputs: CellOutputs) -> Table | None:
    """Share of lesions found at one false mark per normal picture, by their size, of the highest models."""
    entries = []
    for row in part.leaders[:MODELS]:
        cells = [cell for cell in outputs.done(part.cells[row.model]) if (outputs.folder(cell) / MARKS).is_file()]
        found = [_lesions(cell, outputs) for cell in cells]
        found = [one for one in found if len(one) >= 2 * SMALLEST]
        if not found:
            continue
        first = found[0]
        sizes = grouped((100 * first["side"]).round(1))
        right = np.mean([one["found"] for one in found], axis=0)
        for size in sizes.cat.categories:
            inside = (sizes == size).to_numpy()
            enough = inside.sum() >= SMALLEST
            share = share_of(right[inside], first["patient"][inside]) if enough else None
            counts = Entry(str(int(inside.sum())), int(inside.sum()))
            entries.append(
                [Entry(f"{size} %"), Entry(row.model), counts, with_range(share) if share else Entry("too few")]
            )
    header = ["longer side, of the picture's", "model", "lesions", "found at 1 false mark per normal picture"]
    return Table(f"{part.title}, lesions by size", header, entries) if entries else None


def _lesions(cell: Cell, outputs: CellOutputs) -> pd.DataFrame:
    """Lesions of a cell in the order of their images: ``side``, ``patient``, and whether each was ``found``."""
    path = outputs.folder(cell) / MARKS
    marks = read_frame(path, ["image_path", "heat", "side"], text=["image_path"], advice="run the cell again")
    images = read_scores(outputs.folder(cell) / SCORES)
    of_image = images.set_index("image_path")["patient" if "patient" in images else "source_path"]
    lesions = marks[marks["side"].notna()].sort_values("image_path", kind="stable")
    normal = int((images["label"] == 0).sum())
    false = np.sort(marks["heat"][marks["side"].isna()])[::-1]
    limit = false[normal] if len(false) > normal else -np.inf
    patient = lesions["image_path"].map(of_image)
    patient = patient.where(patient != "", lesions["image_path"])
    return lesions.assign(patient=patient, found=lesions["heat"] > limit).reset_index(drop=True)
