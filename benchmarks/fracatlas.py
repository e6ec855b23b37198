"""Adds to a benchmark on FracAtlas its figures beyond shortcuts, hits in boxes of fractures, and false alarms.

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

FracAtlas: Abedeen et al., Scientific Data 10:521 (2023), doi 10.1038/s41597-023-02432-4, CC BY 4.0.
"""

from __future__ import annotations

import argparse
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.evaluation.bootstrap import Estimate, interval, patient_weights
from anomalib_xray.evaluation.conformal import exact_interval, measure_false_alarms, normal_patients_of
from anomalib_xray.evaluation.ranking import Ranking
from anomalib_xray.evaluation.shortcuts import SHORTCUTS
from anomalib_xray.evaluation.units import CHOSEN, VALIDATION_SCORES, read_scores, units_of
from anomalib_xray.experiments import grid as grids
from anomalib_xray.experiments.grid import read_grid
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


def print_false_alarms(folders: dict[tuple[str, str], list[Path]]) -> None:
    """Prints the second table, from the folders of the seeds of each preparation and model."""
    print("\n| pictures | model | normal groups: validation, test | promised | false alarms | expected |")
    print("|---|---|---|---|---|---|")
    for (preparation, model), found in folders.items():
        runs = [
            [normal_patients_of(read_scores(folder / name), CHOSEN) for name in (VALIDATION_SCORES, grids.SCORES)]
            for folder in found
        ]
        for promise in PROMISES:
            try:
                alarms = [measure_false_alarms(*run, promise) for run in runs]
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
