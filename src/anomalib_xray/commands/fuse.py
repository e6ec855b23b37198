"""The command that fuses the scores of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    import pandas as pd


def fuse(
    runs: list[Path],
    names: list[str] | None = None,
    method: Literal["rank", "z_score", "robust_z_score"] = "rank",
    table: str = "scores.csv",
    out: Path = Path("fused.csv"),
) -> None:
    """Fuses the scores of runs into one score an image.

    Every score is brought to a common scale by the normal images of its run's last validation, RUN/val_scores.csv, and
    the mean of the scaled scores is the fused one. Writes a score table whose pred_score it is, and prints how well the
    scores and their fusion tell abnormal images, studies and patients.

    A score of a run is called by what tells the runs apart: Cae/mse_top_k and Vae/kld for results/Cae/Phantom/v0 and
    results/Vae/Phantom/v0, v0/kld and v1/kld for two versions of one model, and plainly kld if there is one run.

    Args:
        runs: Folders of the runs, each with the tables that training and test left there.
        names: Scores to fuse, for example [Cae/mse_top_k, Vae/kld]; by default the predicted score of each run.
        method: rank for the share of normal images with a lower score, z_score for the distance from their mean in
            standard deviations, robust_z_score for the same from medians.
        table: Name of the tables to fuse: scores.csv of a test, or predictions.csv.
        out: Table to write.

    Raises:
        XrayError: A table or a score is missing, or the runs saw different images.
    """
    from anomalib_xray.evaluation.fusion import ScoreFusion
    from anomalib_xray.evaluation.units import ID_COLUMNS, VALIDATION_SCORES, check_score
    from anomalib_xray.io.write import write_atomically
    from anomalib_xray.training.score_table import score_metrics

    folders = dict(zip(_labels(runs), runs, strict=True))
    chosen = [_find(name, folders) for name in names or [_join(label, "pred_score") for label in folders]]
    tables = {label: _read(folders[label] / table) for label, _ in chosen}
    normal = {label: _normal(folders[label] / VALIDATION_SCORES) for label, _ in chosen}
    if _prepared_differently(list(tables.values())):
        tables, normal = ({label: _of_originals(one) for label, one in some.items()} for some in (tables, normal))
    _check_images(tables, folders)

    first = next(iter(tables.values()))
    scores, of_normal = {}, {}
    for label, score in chosen:
        name, folder = _join(label, score), folders[label]
        check_score(tables[label], score, folder / table)
        check_score(normal[label], score, folder / VALIDATION_SCORES)
        scores[name] = tables[label][score].reindex(first.index)
        of_normal[name] = normal[label][score]
    fusion = ScoreFusion(method).fit(of_normal)
    fused = first.reindex(columns=[*ID_COLUMNS]).assign(pred_label=None, pred_score=fusion(scores), **scores)
    write_atomically(out, fused.to_csv(index=False))
    print(f"{out}: {len(fused)} images, {method} of {', '.join(scores)}.")
    _report(score_metrics(fused), list(scores))


def _labels(runs: list[Path]) -> list[str]:
    """Names of runs: the first part of their paths that differs, or all parts from there on."""
    if len(runs) == 1:
        return [""]
    parts = [run.absolute().parts for run in runs]
    if len(set(parts)) < len(parts):
        raise XrayError("A run is named twice; name each once.")
    common = next((index for index, same in enumerate(zip(*parts, strict=False)) if len(set(same)) > 1), None)
    if common is None:
        raise XrayError("One of the runs lies within another; name folders that each hold one run.")
    short = [own[common] for own in parts]
    return short if len(set(short)) == len(short) else ["/".join(own[common:]) for own in parts]


def _join(label: str, score: str) -> str:
    return f"{label}/{score}" if label else score


def _find(name: str, folders: dict[str, Path]) -> tuple[str, str]:
    """The run's label and the column of a score."""
    label, _, score = name.rpartition("/")
    if label not in folders:
        known = ", ".join(_join(label, score) for label in folders)
        raise XrayError(f"The score {name} is of no run; call it one of {known}.")
    if name == "pred_score":  # the column of the fused score
        raise XrayError(
            "The pred_score of one run is one of its named scores; name those to fuse: --names='[mse, l1]'."
        )
    return label, score


def _read(path: Path) -> pd.DataFrame:
    """A score table, by image path."""
    from anomalib_xray.evaluation.units import read_scores

    table = read_scores(path)
    repeated = table["image_path"].duplicated()
    if repeated.any():
        raise XrayError(f"{path} names {table['image_path'][repeated].iloc[0]} twice; write the table anew.")
    return _by_path(table)


def _by_path(table: pd.DataFrame) -> pd.DataFrame:
    return table.set_index("image_path", drop=False).rename_axis(None)


def _normal(path: Path) -> pd.DataFrame:
    """The rows of the normal images of a validation table."""
    table = _read(path)
    normal = table[table["label"] == 0]
    if normal.empty:
        raise XrayError(f"{path} has no image with label 0; validate on normal images too.")
    return normal


def _prepared_differently(tables: list[pd.DataFrame]) -> bool:
    """Whether tables name other pictures, but the same originals."""
    pictures, originals = (
        {frozenset(table[name]) if name in table else frozenset() for table in tables}
        for name in ("image_path", "source_path")
    )
    return len(pictures) > 1 and len(originals) == 1 and originals != {frozenset()}


def _of_originals(table: pd.DataFrame) -> pd.DataFrame:
    """A score table with a row per original in place of one per picture."""
    from anomalib_xray.evaluation.units import one_row_per_original, scores_of

    merged = one_row_per_original(table, scores_of(table))
    return _by_path(merged.assign(image_path=merged["source_path"]))


def _check_images(tables: dict[str, pd.DataFrame], folders: dict[str, Path]) -> None:
    """Refuses runs with different images or labels."""
    (first, expected), *others = tables.items()
    for label, found in others:
        for here, there, name in ((expected, found, label), (found, expected, first)):
            lacking = here.index.difference(there.index)
            if len(lacking):
                raise XrayError(f"{folders[name]} has no score of {lacking[0]}; test all runs on the same images.")
        labels = found["label"].reindex(expected.index)
        differs = (labels != expected["label"]) & ~(labels.isna() & expected["label"].isna())
        if differs.any():
            raise XrayError(
                f"{folders[first]} and {folders[label]} disagree on the label of {expected.index[differs][0]}; "
                "test all runs on the same data set."
            )


def _report(metrics: dict[str, float], scores: list[str]) -> None:
    """Prints AUROC and average precision of every score and of their fusion."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from anomalib_xray.evaluation.units import LEVELS

    levels = [level for level in LEVELS if f"{level}_AUROC" in metrics]
    if not levels:
        print("The table has not both normal and abnormal images, so there is nothing to measure.")
        return
    table = Table("score", *(f"{level} {metric}" for level in levels for metric in ("AUROC", "AP")))
    for name, suffix in (("fused", ""), *((score, f"_{score}") for score in scores)):
        values = [f"{metrics[f'{level}_{metric}{suffix}']:.3f}" for level in levels for metric in ("AUROC", "AP")]
        table.add_row(Text(name), *values)
    Console().print(table)
