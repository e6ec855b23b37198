"""Adds to a benchmark on FracAtlas its figures beyond shortcuts, hits in boxes of fractures, false alarms and lesions.

    anomalib-xray benchmark --config configs/benchmark/fracatlas.yaml --out fracatlas_benchmark
    python benchmarks/fracatlas.py --out fracatlas_benchmark

Prints a row per preparation, model and score: AUROC, the same beyond shortcuts, and the share of fractured pictures
whose hottest pixel lies in the box of a fracture, beside the share of the foreground in boxes: chance. Then how much
more each score of this project has beyond shortcuts than the best of anomalib's models, paired: both of the same draws.
Which of theirs is the best is read from this table, so that the choice favours them. Last, each shortcut alone.

Figures are means over the seeds. Intervals of 95 % are from draws of groups (docs/how-to/benchmark.md), the same in all
rows. "Beyond shortcuts": the rank of a score less what a linear regression on the ranks of the raw picture's numbers
(size, aspect, grey, contrast, sharpness, markers), fitted on the normal pictures of the test, says of it. Pictures that
one of the preparations lost are left out of all rows, and counted.

A second table counts false alarms: of the groups of the test without a fracture, the share with a picture above the
threshold that promises at most 5 or 10 % (docs/reference/edge.md, "False alarms"), which the groups of the validation
without one give. Beside it stand the exact interval of 95 % by groups, and the share that follows from their number.

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
from anomalib_xray.evaluation.conformal import PROMISES, false_alarms_of_runs, normal_patients_of
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
Row = tuple[str, str, str]  # preparation, model, score
Drawn = tuple[float, Numbers]  # a figure, and that of each draw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/benchmark/fracatlas.yaml"), help="the grid")
    parser.add_argument("--out", type=Path, default=Path("fracatlas_benchmark"), help="the benchmark's folder")
    parser.add_argument("--fused", type=Path, nargs="*", default=[], help="tables of anomalib-xray fuse of its cells")
    arguments = parser.parse_args()
    try:
        print_figures(arguments.config, arguments.out, arguments.fused)
    except XrayError as error:
        sys.exit(f"error: {error}")


def print_figures(config: Path, out: Path, fused: list[Path]) -> None:
    """Prints the tables of the cells that are done, and a row of each fused table."""
    grid = read_grid(config)
    done = [cell for cell in grid.cells if (read_result(folder_of(out, cell)) or {}).get("status") == "done"]
    shortcuts = [cell for cell in done if (cell.model, cell.preparation) == (grids.SHORTCUTS, grids.RAW)]
    if not shortcuts:
        raise XrayError(f"{out} has no shortcuts of raw pictures yet; run anomalib-xray benchmark first.")
    runs: dict[Row, list[pd.DataFrame]] = {}  # those of all seeds
    folders: dict[tuple[str, str], list[Path]] = {}
    for cell in done:
        if cell.model == grids.SHORTCUTS:
            continue
        folders.setdefault((cell.preparation, cell.model), []).append(folder_of(out, cell))
        for score in grid.scores.get(cell.model, [CHOSEN]):
            table = pictures_of(folder_of(out, cell), score)
            runs.setdefault((cell.preparation, cell.model, score), []).append(table)
    for path in fused:
        table = read_scores(path).set_index("source_path")
        runs["fused", path.stem, CHOSEN] = [table.assign(score=table[CHOSEN], hit=np.nan)]
    numbers = units_of(read_scores(folder_of(out, shortcuts[0]) / grids.SCORES), "image", list(SHORTCUTS))
    assert numbers is not None
    raw = numbers.set_index("source_path")
    common = raw.index
    for table in chain(*runs.values()):
        common = common.intersection(table.index)
    raw = raw.loc[sorted(common)]
    print(f"{len(raw)} of {len(numbers)} pictures, {raw['label'].sum()} fractured, {raw['patient'].nunique()} groups\n")
    weights = patient_weights(raw["patient"])
    beyond = print_models(
        {row: [table.loc[raw.index] for table in tables] for row, tables in runs.items()}, raw, weights
    )
    print_differences(beyond, {cell.model for cell in done if _is_anomalibs(cell)})
    print("\n| shortcut | AUROC |\n|---|---|")
    for name in SHORTCUTS:
        figure = interval(*auroc(raw["label"].to_numpy(), [raw[name].to_numpy()], weights))
        print(f"| {name} | {_shown(figure)} |")
    print_false_alarms(folders)
    views = views_of(shortcuts[0].data_config).reindex(raw.index, fill_value="unknown")
    print("\n| pictures | model | which | fractured | hit in a box | found at 1 | found, mean |")
    print("|---|---|---|---|---|---|---|")
    for (preparation, model), of_seeds in folders.items():
        if all((folder / MARKS).is_file() for folder in of_seeds):  # a model without maps has none
            marks = [marks_by_original(folder) for folder in of_seeds]
            tables = next(found for row, found in runs.items() if row[:2] == (preparation, model))
            of_raw = [table.loc[raw.index] for table in tables]
            print_lesions(f"| {preparation} | {model}", marks, of_raw, raw.assign(view=views), weights)


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


def _normal(folder: Path, *names: str) -> Any:
    """Scores of the normal groups in each table of a folder."""
    return tuple(normal_patients_of(read_scores(folder / name), CHOSEN) for name in names)


def print_false_alarms(folders: dict[tuple[str, str], list[Path]]) -> None:
    """Prints the second table, from the folders of the seeds of each preparation and model."""
    print("\n| pictures | model | normal groups: validation, test | promised | false alarms | expected |")
    print("|---|---|---|---|---|---|")
    for (preparation, model), found in folders.items():
        try:
            normal = [_normal(folder, VALIDATION_SCORES, grids.SCORES) for folder in found]
        except XrayError as error:  # the grid validates nothing
            print(f"| {preparation} | {model} | | | {error} | |")
            continue
        for promise in PROMISES:
            try:
                alarms = false_alarms_of_runs(normal, promise)
            except XrayError as error:
                print(f"| {preparation} | {model} | | {promise:g} | {error} | |")
                continue
            groups = f"{alarms.calibrated}, {alarms.patients}"
            row = (preparation, model, groups, f"{promise:g}", _shown(alarms.share), f"{alarms.expected:.3f}")
            print(f"| {' | '.join(row)} |")


def print_models(runs: dict[Row, list[pd.DataFrame]], raw: pd.DataFrame, weights: Numbers) -> dict[Row, Drawn]:
    """Prints a row per score, and returns its AUROC beyond shortcuts."""
    labels = raw["label"].to_numpy()
    print("| pictures | model | score | AUROC | beyond shortcuts | hit in a box | chance |")
    print("|---|---|---|---|---|---|---|")
    beyond = {}
    for row, tables in runs.items():
        plain = auroc(labels, [table["score"].to_numpy() for table in tables], weights)
        beyond[row] = auroc(labels, [residual(table["score"], raw, labels == 0) for table in tables], weights)
        figures = [_shown(interval(*plain)), _shown(interval(*beyond[row])), "–", "–"]
        if tables[0]["hit"].notna().any():
            rate, chance = hit_rate(tables, labels == 1, weights)
            figures[2:] = [_shown(rate), f"{chance:.3f}"]
        print(f"| {' | '.join([*row, *figures])} |")
    return beyond


def print_differences(beyond: dict[Row, Drawn], theirs: set[str]) -> None:
    """Prints what each score of this project has beyond shortcuts less what the best of anomalib's models has."""
    best = max((row for row in beyond if row[1] in theirs), key=lambda row: beyond[row][0], default=None)
    if best is None:
        return
    value, drawn = beyond[best]
    print(f"\n| pictures | model | score | beyond shortcuts less {best[1]}'s ({best[0]}) |\n|---|---|---|---|")
    for row, (own, of_draws) in beyond.items():
        if row[1] not in theirs:
            print(f"| {' | '.join(row)} | {_shown(interval(own - value, of_draws - drawn))} |")


def _is_anomalibs(cell: grids.Cell) -> bool:
    return str(cell.model_config.get("class_path", "")).startswith("anomalib.")


def pictures_of(folder: Path, score: str) -> pd.DataFrame:
    """Score, hit and share of boxes per original: of its hottest part, where it was prepared into several."""
    found = read_scores(folder / grids.SCORES)
    if (folder / grids.TOP_K).exists():  # the model has a map
        found = found.merge(pd.read_csv(folder / grids.TOP_K).drop(columns="label"), on="image_path", how="left")
    found = found.reindex(columns=list(dict.fromkeys([*found.columns, "k=10", "hit", "box_share"])))
    hottest = found.sort_values("k=10", ascending=False).drop_duplicates("source_path").set_index("source_path")
    return hottest[["hit", "box_share"]].join(found.groupby("source_path")[score].max().rename("score"))


def residual(score: pd.Series[float], raw: pd.DataFrame, normal: NDArray[np.bool_]) -> Numbers:
    """Ranks of a score, less what the ranks of the shortcuts say of them on normal pictures."""
    design = np.column_stack([np.ones(len(raw)), *(raw[name].rank(pct=True) for name in SHORTCUTS)])
    ranks = score.rank(pct=True).to_numpy()
    return np.asarray(ranks - design @ np.linalg.lstsq(design[normal], ranks[normal], rcond=None)[0])


def auroc(labels: Numbers, runs: list[Numbers], weights: Numbers) -> Drawn:
    """Mean AUROC over runs, and that of each draw."""
    rankings = [Ranking(labels, run) for run in runs]
    value = float(np.mean([ranking.auroc()[0] for ranking in rankings]))
    return value, np.mean([ranking.auroc(weights) for ranking in rankings], axis=0)


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
