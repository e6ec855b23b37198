"""Adds to a benchmark on FracAtlas its figures beyond shortcuts, hits in boxes of fractures, false alarms and lesions.

    anomalib-xray benchmark --config configs/benchmark/fracatlas.yaml --out fracatlas_benchmark
    python benchmarks/fracatlas.py --out fracatlas_benchmark

Prints a row per preparation and model: AUROC of the chosen score, the same beyond shortcuts, and the share of fractured
pictures whose hottest pixel lies in the box of a fracture, beside the share of the foreground in boxes: chance.
Figures are means over the seeds. Intervals of 95 % are from draws of groups (docs/benchmark.md), the same draws in all
rows. "Beyond shortcuts": the rank of a score less what a linear regression on the ranks of the raw picture's numbers
(size, aspect, grey, contrast, sharpness, markers), fitted on the normal pictures of the test, says of it. Pictures that
one of the preparations lost are left out of all rows, and counted.

A second table counts false alarms: of the groups of the test without a fracture, the share with a picture above the
threshold that promises at most 5 or 10 % (docs/edge.md, "False alarms"), which the groups of the validation without one
give. Beside it stand the exact interval of 95 % by groups, and the share that follows from their number.

A third table divides the fractured pictures by view and by the longer side of their largest fracture. Beside the hits
stands what is found of the single fractures: at one false mark per normal picture (of the same view), and as the mean
at 1/8 to 8 of them (evaluation/localisation.py, froc).

FracAtlas: Abedeen et al., Scientific Data 10:521 (2023), doi 10.1038/s41597-023-02432-4, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import Estimate, interval, patient_weights
from anomalib_xray.evaluation.conformal import FalseAlarms, exact_interval, measure_false_alarms, normal_patients_of
from anomalib_xray.evaluation.localisation import RATES, froc
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.shortcuts import SHORTCUTS
from anomalib_xray.evaluation.units import CHOSEN, VALIDATION_SCORES, read_scores, units_of
from anomalib_xray.experiments import grid as grids
from anomalib_xray.experiments.configuration import build
from anomalib_xray.experiments.grid import MARKS, read_grid
from anomalib_xray.experiments.run_grid import folder_of
from anomalib_xray.jobs import read_result

Numbers = NDArray[np.float64]

PROMISES = (0.05, 0.10)
"""Shares of false alarms that thresholds are to promise."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/benchmark/fracatlas.yaml"), help="the grid")
    parser.add_argument("--out", type=Path, default=Path("fracatlas_benchmark"), help="the benchmark's folder")
    arguments = parser.parse_args()
    try:
        print_figures(arguments.config, arguments.out)
    except XrayError as error:
        sys.exit(f"error: {error}")


def print_figures(config: Path, out: Path) -> None:
    """Prints the table of the cells that are done."""
    done = [
        cell for cell in read_grid(config).cells if (read_result(folder_of(out, cell)) or {}).get("status") == "done"
    ]
    shortcuts = [cell for cell in done if (cell.model, cell.preparation) == (grids.SHORTCUTS, grids.RAW)]
    if not shortcuts:
        raise XrayError(f"{out} has no shortcuts of raw pictures yet; run anomalib-xray benchmark first.")
    tables: dict[tuple[str, str], list[pd.DataFrame]] = {}  # those of all seeds, by preparation and model
    folders: dict[tuple[str, str], list[Path]] = {}
    for cell in done:
        if cell.model != grids.SHORTCUTS:
            folders.setdefault((cell.preparation, cell.model), []).append(folder_of(out, cell))
            tables.setdefault((cell.preparation, cell.model), []).append(pictures_of(folder_of(out, cell)))
    numbers = units_of(read_scores(folder_of(out, shortcuts[0]) / grids.SCORES), "image", list(SHORTCUTS))
    assert numbers is not None
    raw = numbers.set_index("source_path")
    common = raw.index
    for table in chain(*tables.values()):
        common = common.intersection(table.index)
    raw = raw.loc[sorted(common)]
    weights = patient_weights(raw["patient"])
    print(f"{len(raw)} of {len(numbers)} pictures, {raw['label'].sum()} fractured, {raw['patient'].nunique()} groups\n")
    print("| pictures | model | AUROC | beyond shortcuts | hit in a box | chance |\n|---|---|---|---|---|---|")
    for (preparation, model), found in tables.items():
        runs = [table.loc[raw.index] for table in found]
        labels = raw["label"].to_numpy()
        plain = auroc(labels, [run[CHOSEN].to_numpy() for run in runs], weights)
        beyond = auroc(labels, [residual(run[CHOSEN], raw, labels == 0) for run in runs], weights)
        hits, chance = hit_rate(runs, labels == 1, weights)
        print(f"| {preparation} | {model} | {_shown(plain)} | {_shown(beyond)} | {_shown(hits)} | {chance:.3f} |")
    print_false_alarms(folders)
    views = views_of(shortcuts[0].data_config).reindex(raw.index, fill_value="unknown")
    print("\n| pictures | model | which | fractured | hit in a box | found at 1 | found, mean |")
    print("|---|---|---|---|---|---|---|")
    for (preparation, model), of_seeds in folders.items():
        if all((folder / MARKS).is_file() for folder in of_seeds):  # a model without maps has none
            marks = [marks_by_original(folder) for folder in of_seeds]
            runs = [table.loc[raw.index] for table in tables[preparation, model]]
            print_lesions(f"| {preparation} | {model}", marks, runs, raw.assign(view=views), weights)


def alarms_of(folder: Path, promise: float) -> FalseAlarms:
    """False alarms of a cell on the normal groups of its test."""
    validation, test = (read_scores(folder / name) for name in (VALIDATION_SCORES, grids.SCORES))
    return measure_false_alarms(normal_patients_of(validation, CHOSEN), normal_patients_of(test, CHOSEN), promise)


def views_of(data: dict[str, Any]) -> pd.Series[str]:
    """View of each original of the data set."""
    from anomalib.data import AnomalibDataModule

    listed: pd.DataFrame = build(AnomalibDataModule, data).list_images()
    return listed.set_index("image_path")["view"].replace("", "unknown")


def marks_by_original(folder: Path) -> pd.DataFrame:
    """Lesions and false marks of a cell, with the original of each."""
    sources = read_scores(folder / grids.SCORES)[["image_path", "source_path"]]
    return pd.read_csv(folder / MARKS).merge(sources, on="image_path")


def print_lesions(
    head: str, marks: list[pd.DataFrame], runs: list[pd.DataFrame], raw: pd.DataFrame, weights: Numbers
) -> None:
    """Prints hits and found lesions of a model, of all pictures, by view and by size."""
    abnormal = raw["label"].to_numpy() == 1
    largest = marks[0].groupby("source_path")["side"].max().reindex(raw.index).to_numpy()
    middle = float(np.nanmedian(largest[abnormal]))
    everything = np.ones(len(raw), bool)
    views = {view: raw["view"].to_numpy() == view for view in sorted(set(raw["view"][abnormal]))}
    # The fractured pictures, those among which lesions and false marks are counted, and the sizes of the lesions.
    parts: list[tuple[str, NDArray[np.bool_], NDArray[np.bool_], tuple[float, float]]] = [
        ("all", everything, everything, (0, np.inf)),
        *((view, shown, shown, (0, np.inf)) for view, shown in views.items()),
        (f"below {middle:.2f} of a side", largest < middle, everything, (0, middle)),
        (f"from {middle:.2f} of a side", largest >= middle, everything, (middle, np.inf)),
    ]
    for name, chosen, among, sizes in parts:
        hits, _ = hit_rate(runs, abnormal & chosen, weights)
        ill, healthy = raw.index[abnormal & among], raw.index[~abnormal & among]
        found = []
        for one in marks:
            lesions = one["heat"][one["source_path"].isin(ill) & one["side"].between(*sizes, inclusive="left")]
            false = one["heat"][one["source_path"].isin(healthy) & one["side"].isna()]
            found.append(froc(lesions, false, len(healthy)))
        at_one = float(np.mean([rates[1] for rates in found]))
        mean = float(np.mean([rates[rate] for rates in found for rate in RATES]))
        print(f"{head} | {name} | {(abnormal & chosen).sum()} | {_shown(hits)} | {at_one:.3f} | {mean:.3f} |")


def print_false_alarms(folders: dict[tuple[str, str], list[Path]]) -> None:
    """Prints the second table, from the folders of the seeds of each preparation and model."""
    print("\n| pictures | model | normal groups: validation, test | promised | false alarms | expected |")
    print("|---|---|---|---|---|---|")
    for (preparation, model), found in folders.items():
        for promise in PROMISES:
            try:
                alarms = [alarms_of(folder, promise) for folder in found]
            except XrayError as error:
                print(f"| {preparation} | {model} | | {promise:g} | {error} | |")
                continue
            share = exact_interval(float(np.mean([one.share.value for one in alarms])), alarms[0].patients)
            groups = f"{alarms[0].calibrated}, {alarms[0].patients}"
            row = (preparation, model, groups, f"{promise:g}", _shown(share), f"{alarms[0].expected:.3f}")
            print(f"| {' | '.join(row)} |")


def pictures_of(folder: Path) -> pd.DataFrame:
    """Score, hit and share of boxes per original: of its hottest part, where it was prepared into several."""
    scores = read_scores(folder / grids.SCORES)
    found = scores.merge(pd.read_csv(folder / grids.TOP_K).drop(columns="label"), on="image_path", how="left")
    hottest = found.sort_values("k=10", ascending=False).drop_duplicates("source_path").set_index("source_path")
    return hottest[["hit", "box_share"]].join(found.groupby("source_path")[CHOSEN].max())


def residual(score: pd.Series[float], raw: pd.DataFrame, normal: NDArray[np.bool_]) -> Numbers:
    """Ranks of a score, less what the ranks of the shortcuts say of them on normal pictures."""
    design = np.column_stack([np.ones(len(raw)), *(raw[name].rank(pct=True) for name in SHORTCUTS)])
    ranks = score.rank(pct=True).to_numpy()
    return np.asarray(ranks - design @ np.linalg.lstsq(design[normal], ranks[normal], rcond=None)[0])


def auroc(labels: Numbers, runs: list[Numbers], weights: Numbers) -> Estimate:
    """Mean AUROC over runs, with its interval."""
    rankings = [Ranking(labels, run) for run in runs]
    value = float(np.mean([ranking.auroc()[0] for ranking in rankings]))
    return interval(value, np.mean([ranking.auroc(weights) for ranking in rankings], axis=0))


def hit_rate(runs: list[pd.DataFrame], abnormal: NDArray[np.bool_], weights: Numbers) -> tuple[Estimate, float]:
    """Mean share of hits of abnormal pictures over runs, with its interval; and that of a random pixel."""
    hits = np.mean([run["hit"][abnormal].to_numpy(float) for run in runs], axis=0)
    drawn = weights[:, abnormal]
    chance = float(np.mean([run["box_share"][abnormal].mean() for run in runs]))
    return interval(float(hits.mean()), drawn @ hits / np.maximum(drawn.sum(1), 1)), chance


def _shown(figure: Estimate) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


if __name__ == "__main__":
    main()
