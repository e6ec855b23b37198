"""Prepare a whole folder: in parallel, resumable, with a manifest at the end."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from anomalib_xray.errors import XrayError
from anomalib_xray.io.paths import absolute
from anomalib_xray.io.progress import track
from anomalib_xray.io.text import read_json
from anomalib_xray.io.write import TEMPORARY, alone, holds, write_atomically
from anomalib_xray.jobs import Backend, WorkerDiedError, results
from anomalib_xray.preparation.manifest import write_manifest
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.record import HOUSEKEEPING, MANIFEST
from anomalib_xray.preparation.sources import Source
from anomalib_xray.preparation.worker import Job, Outcome, give_up, prepare_source
from anomalib_xray.shards import Shard

PIPELINE = f"{HOUSEKEEPING}/pipeline.json"
"""File beside the prepared pictures that holds the settings they were made with."""

_LOCK = f"{HOUSEKEEPING}/lock"
_CHUNK = 64  # originals that are tried together once a worker has died


@dataclass(frozen=True)
class Summary:
    """The summary of a run.

    Attributes:
        done: Numbers of originals that were prepared, kept or failed.
        outputs: Number of prepared pictures.
        flags: Numbers of these that carry each flag.
        errors: The reason of each original that failed, by its path below the root.
    """

    done: Counter[str]
    outputs: int
    flags: Counter[str]
    errors: dict[str, str]


def run(
    pipeline: Pipeline,
    root: Path,
    out: Path,
    sources: Sequence[Source],
    *,
    workers: int = 1,
    backend: Backend = "loky",
    scheduler: str | None = None,
    replay: Path | None = None,
    shard: Shard | None = None,
) -> Summary:
    """Prepare radiographs and write the manifest.

    Originals that an earlier run finished are kept. The run may be stopped at any time, and the next one goes on; until
    one reaches the end there is no manifest. Shards may run at the same time and write none; a run without one then
    keeps what they did.

    Args:
        pipeline: The steps.
        root: Folder of the raw radiographs.
        out: Folder of the prepared ones.
        sources: The radiographs, as of :func:`anomalib_xray.preparation.sources.find_sources`.
        workers: Number of processes at once on this machine.
        backend: ``loky`` for processes, ``ray`` for Ray.
        scheduler: Address of the scheduler of a Dask cluster, which is then used instead.
        replay: Folder of prepared pictures whose records are replayed; None to look at each picture.
        shard: Part of the sources to prepare, each patient's in one; None for all.

    Raises:
        XrayError: ``out`` cannot be used, or the workers cannot.
    """
    # Workers may run in other folders, even on other machines.
    root, out = absolute(root), absolute(out)
    job = Job(root, out, json.dumps(pipeline.settings), absolute(pipeline.folder), replay and absolute(replay))
    if shard is not None:
        sources = [source for source in sources if shard.holds(source.patient or source.study or source.name)]
    with _alone_in(out, shard):
        if shard is None:  # else they may be of another shard
            _remove_leftovers(out)
        _remember(out, pipeline)
        outcomes = list(track(_work(job, sources, workers, backend, scheduler), "Preparing", len(sources)))
        if shard is None:
            write_manifest(out, (row for outcome in outcomes for row in outcome.rows))
    return _summary(outcomes)


def pipeline_of(prepared: Path) -> Pipeline:
    """The pipeline of a folder of prepared pictures.

    Raises:
        XrayError: Nothing was prepared there, or a step is not installed any more.
    """
    path = prepared / PIPELINE
    try:
        remembered = read_json(path)
        steps, folder = list(remembered["steps"]), Path(remembered["folder"])
    except (XrayError, KeyError, TypeError) as error:
        raise XrayError(f"{prepared} holds no prepared radiographs: give a folder that prepare wrote.") from error
    return Pipeline(steps, folder, str(path))


def _work(
    job: Job, sources: Sequence[Source], workers: int, backend: Backend, scheduler: str | None
) -> Iterator[Outcome]:
    """Prepare all sources; if some kill their worker, the others are prepared all the same."""
    prepare = partial(prepare_source, job)
    finished = set()
    try:
        for outcome in results(
            prepare, sources, workers=workers, backend=backend, scheduler=scheduler, shared=job.root
        ):
            finished.add(outcome.rows[0]["source_path"])
            yield outcome
    except WorkerDiedError:
        remaining = [source for source in sources if source.name not in finished]
        for start in range(0, len(remaining), _CHUNK):
            yield from _carefully(job, remaining[start : start + _CHUNK], workers)


def _carefully(job: Job, sources: Sequence[Source], workers: int) -> Iterator[Outcome]:
    """Prepare some sources, and if a worker dies one after the other, to find the one to blame."""
    prepare = partial(prepare_source, job)
    try:
        yield from list(results(prepare, sources, workers=workers))
    except WorkerDiedError:
        for source in sources:
            try:
                yield from list(results(prepare, [source], workers=2))  # a single worker would be this process
            except WorkerDiedError:
                yield give_up(job, source)


def _summary(outcomes: Sequence[Outcome]) -> Summary:
    rows = [row for outcome in outcomes for row in outcome.rows]
    return Summary(
        done=Counter(outcome.done for outcome in outcomes),
        outputs=sum(bool(row["image_path"]) for row in rows),
        flags=Counter(flag for row in rows for flag in row["flags"].split()),
        errors=dict(sorted((row["source_path"], row["error"]) for row in rows if row["error"])),
    )


def _remember(out: Path, pipeline: Pipeline) -> None:
    """Keep the settings beside the pictures, for replays."""
    content = json.dumps({"steps": pipeline.settings, "folder": str(absolute(pipeline.folder))}, indent=1)
    path = out / PIPELINE
    if not holds(path, content):
        (out / MANIFEST).unlink(missing_ok=True)
        write_atomically(path, content)


@contextmanager
def _alone_in(out: Path, shard: Shard | None) -> Iterator[None]:
    """Make sure that the folder holds prepared pictures only, and that no run writes there but other shards of it."""
    try:
        # In this order, since another shard may begin at this moment.
        if out.is_dir() and any(out.iterdir()) and not (out / HOUSEKEEPING).is_dir():
            raise XrayError(f"{out} holds files that prepare did not write: give an empty or a new folder as --out.")
        (out / HOUSEKEEPING).mkdir(parents=True, exist_ok=True)
        (out / _LOCK).touch()
    except OSError as error:
        raise XrayError(f"{out} cannot be written: {error.strerror}; give another folder as --out.") from error
    busy = f"Another run, or a shard of one, is preparing into {out}: wait until it is done."
    with alone(out / _LOCK, busy, shared=shard is not None):
        if shard is None:
            yield
            return
        with alone(out / f"{_LOCK}-{shard.number}-of-{shard.count}", f"Another run prepares shard {shard} into {out}."):
            yield


def _remove_leftovers(out: Path) -> None:
    """Remove the halves of files that killed processes left behind."""
    for folder, _, files in os.walk(out):
        for file in files:
            if TEMPORARY.fullmatch(file):
                Path(folder, file).unlink(missing_ok=True)
