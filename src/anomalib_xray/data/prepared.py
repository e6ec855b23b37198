"""Prepared pictures in place of the originals that a samples table lists.

``anomalib-xray prepare`` leaves a manifest beside the pictures that it wrote, with a row per prepared picture. Folders
of other tools, for example Photoshop, have none; there a picture lies under the relative path of its original.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from anomalib_xray.data.splits import LABELLED, POOL, USED
from anomalib_xray.data.table import has_masks
from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import absolute, is_below
from anomalib_xray.io.tables import identity
from anomalib_xray.io.text import read_csv
from anomalib_xray.preparation.record import HOUSEKEEPING, MANIFEST
from anomalib_xray.preparation.sources import prepared_name

logger = logging.getLogger(__name__)

_COLUMNS = ("source_path", "image_path", "mask_path", "flags", "error")
_AGAIN = "run anomalib-xray prepare again with the same --out"


def prepared_samples(samples: pd.DataFrame, root: Path, prepared_root: Path) -> pd.DataFrame:
    """Replaces the originals of a samples table, which keep their splits, by their prepared pictures.

    With a manifest the new table has a row for each prepared picture, several where an original gave several, and the
    column ``flags``: words about the picture, separated by spaces. Originals that could not be prepared are left out,
    which a warning counts. Without a manifest it has the rows of ``samples``, with masks too from the prepared folder.

    Raises:
        XrayError: There is no such folder, the manifest is unusable or does not list all of the originals, the
            preparation has not ended, or an original is not below ``root``.
    """
    if not prepared_root.is_dir():
        raise XrayError(
            f"There is no folder {prepared_root}: set another prepared_root, or run anomalib-xray prepare with --root"
            f" {root} and --out {prepared_root}."
        )
    if (prepared_root / MANIFEST).is_file():
        return _by_manifest(samples, root, prepared_root)
    if (prepared_root / HOUSEKEEPING).is_dir():
        raise XrayError(f"{prepared_root} has no {MANIFEST} yet, because its preparation has not ended; {_AGAIN}.")
    return samples.assign(
        **{
            column: [
                str(prepared_counterpart(Path(path), root, prepared_root)) if path else "" for path in samples[column]
            ]
            for column in ("image_path", "mask_path")
        }
    )


def leave_out_flagged(samples: pd.DataFrame, flags: Sequence[str]) -> pd.DataFrame:
    """Takes pictures with some flags out of the train split and the pool, and logs how many; val and test keep theirs.

    Raises:
        XrayError: The pictures carry no flags, because they do not come from a manifest.
    """
    if "flags" not in samples:
        raise XrayError(
            f"drop_flagged needs pictures with a {MANIFEST}: prepare them with anomalib-xray prepare and set"
            " prepared_root, or leave drop_flagged out."
        )
    train = samples["split"].isin(["train", POOL, LABELLED])
    found = samples["flags"].str.split()
    has = {flag: train & found.map(lambda words, flag=flag: flag in words) for flag in flags}
    left_out = pd.DataFrame(has, index=samples.index).any(axis=1)
    counts = ", ".join(f"{int(rows.sum())} {flag}" for flag, rows in has.items())
    logger.info("%d flagged pictures are left out of training: %s.", left_out.sum(), counts)
    return samples[~left_out].reset_index(drop=True)


def prepared_counterpart(path: Path, root: Path, prepared_root: Path) -> Path:
    """The prepared picture, in a folder without a manifest, of an original; a JPEG may have become a PNG.

    It need not exist, which :func:`.table.check_samples` looks after.

    Raises:
        XrayError: ``path`` is not below ``root``, so that it has no relative path.
    """
    relative = _relative(path, root)
    prepared = prepared_root / relative
    as_png = prepared_root / prepared_name(relative.as_posix(), 1, 1)
    return as_png if as_png.is_file() and not prepared.is_file() else prepared


def read_manifest(folder: Path) -> pd.DataFrame:
    """Reads the manifest of a folder: a row per prepared picture, and one per original that failed.

    The columns are ``source_path`` (relative to the originals' root), ``image_path`` and ``mask_path`` (absolute; empty
    where there is none), ``flags`` (words separated by spaces) and ``error`` (empty where fine).

    Raises:
        XrayError: The manifest cannot be read, lacks a column, or names a file outside of the folder.
    """
    path = folder / MANIFEST
    try:
        # The plans that the manifest also records would fill the memory.
        rows = pd.DataFrame(read_csv(path, _COLUMNS), columns=list(_COLUMNS), dtype=str)
    except XrayError as error:
        raise XrayError(f"{str(error).rstrip('.')}; {_AGAIN}.") from error
    for column in ("image_path", "mask_path"):
        rows[column] = [_inside(folder, name) if name else "" for name in rows[column]]
    return rows


def count_body_parts(samples: pd.DataFrame, folder: Path) -> dict[str, int]:
    """Number of pictures of the train split that show each body part, by the manifest of their ``folder``.

    Empty where the preparation did not recognise body parts. Parts are sorted, most frequent first.
    """
    try:
        rows = read_csv(folder / MANIFEST, ("image_path", "body_part"))
    except XrayError:  # without a manifest, or with one of before there was such a column
        return {}
    part_of = {str(absolute(folder / row["image_path"])): row["body_part"] for row in rows if row["body_part"]}
    found = samples.loc[samples["split"] == "train", "image_path"].map(part_of).dropna()
    return {str(part): int(count) for part, count in found.value_counts().items()}


def _by_manifest(samples: pd.DataFrame, root: Path, prepared_root: Path) -> pd.DataFrame:
    originals = samples.assign(source_path=[_relative(Path(path), root).as_posix() for path in samples["source"]])
    manifest = read_manifest(prepared_root)
    # Copying to another system may change the Unicode form of names.
    exact, alike = set(manifest["source_path"]), {identity(name): name for name in manifest["source_path"]}
    originals["source_path"] = [
        name if name in exact else alike.get(identity(name), name) for name in originals["source_path"]
    ]
    unknown = originals[~originals["source_path"].isin(manifest["source_path"])]
    if len(unknown) > 0:
        raise XrayError(
            f"{len(unknown)} of {len(originals)} radiographs below {root} are not in {prepared_root / MANIFEST}, the"
            f" first is {unknown.iloc[0].source_path}; run anomalib-xray prepare again with --root {root} and"
            f" --out {prepared_root}."
        )
    rows = originals.drop(columns=["image_path", "mask_path"]).merge(manifest, on="source_path")
    failed = rows["image_path"] == ""
    if failed.any():
        _warn_of_failures(rows[failed])
    if has_masks(samples) and not has_masks(rows):
        logger.warning("No anomaly mask was prepared for %s, so pixels are not evaluated.", prepared_root)
    return rows[~failed][[*samples.columns, "flags"]].sort_values("image_path", ignore_index=True)


def _warn_of_failures(rows: pd.DataFrame) -> None:
    counts = rows["split"].value_counts()
    logger.warning(
        "%d radiographs could not be prepared and are left out: %s; the first is %s: %s",
        len(rows),
        ", ".join(f"{counts[split]} of {split}" for split in USED if split in counts),
        rows.iloc[0].source_path,
        rows.iloc[0].error,
    )


def _relative(path: Path, root: Path) -> Path:
    """The path of an original below its root."""
    if not path.is_relative_to(root):
        raise XrayError(f"{path} is not below {root}, so no prepared picture can stand for it; set the root.")
    return path.relative_to(root)


def _inside(folder: Path, name: str) -> str:
    """The absolute path of a manifest's cell."""
    path = absolute(folder / name)
    if not is_below(path, folder):
        raise XrayError(f"{folder / MANIFEST} names {name}, which is not below {folder}; {_AGAIN}.")
    return str(path)
