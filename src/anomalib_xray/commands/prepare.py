"""The command that prepares radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from anomalib_xray.errors import XrayError
from anomalib_xray.shards import Shard


def prepare(
    root: Path,
    out: Path,
    config: Path | None = None,
    table: Path | None = None,
    masks: Path | None = None,
    only: str | None = None,
    workers: int = 0,
    shard: str | None = None,
    backend: Literal["loky", "ray"] = "loky",
    scheduler: str | None = None,
    preview: int = 0,
    replay: Path | None = None,
    back: bool = False,
) -> int:
    """Turns raw radiographs into clean, masked ones, ready to train on.

    Every radiograph below ROOT becomes a PNG file of the same path below OUT, or several where it shows several hands
    or exposures. OUT/manifest.csv has a row for each, with what was done and flagged, and one with the reason for each
    radiograph that could not be prepared. The run may be stopped at any time; the same command goes on, and does
    nothing once all is done.

    Args:
        root: Folder of the raw radiographs (PNG, JPEG, DICOM), which is searched with all folders below it but
            those named ground_truth.
        out: Folder to write to; the folders in it are those of ROOT.
        config: Pipeline, a YAML file such as configs/preparation/full.yaml.
        table: CSV file that lists the radiographs instead: image_path below ROOT, and patient, study, mask_path where
            known.
        masks: Folder below ROOT with anomaly masks under the relative paths of their radiographs, such as
            ground_truth/anomaly; the masks are moved along into the geometry of the prepared pictures.
        only: Pattern of the paths below ROOT to prepare, such as '*/XR_HAND/*'; the manifest lists these alone.
        workers: Processes that work at once; 0 for one a core.
        shard: Part I/N of the radiographs, such as 0/8 for the first of eight; I counts from 0, and those of a patient
            are in one part. The same command without --shard prepares what is left and writes the manifest.
        backend: loky for processes on this machine, ray for Ray.
        scheduler: Address of the scheduler of a Dask cluster that is to do the work, such as tcp://host:8786.
        preview: How many pictures to show, stage by stage and the worst first, on OUT/preview_1.png and so on: those
            where a step failed, then those that a step doubts most, then those with the rarest flags.
        replay: Folder that was prepared before. What was done there is done again, without looking at the pictures,
            to those of the same names below ROOT.
        back: With --replay: the pictures below ROOT are heat maps of prepared pictures, and are moved back onto the
            originals.

    Returns:
        Exit status: 0, 1 if a radiograph could not be prepared.

    Raises:
        XrayError: An argument, a folder or the pipeline cannot be used.
    """
    if workers < 0 or preview < 0:
        raise XrayError("--workers and --preview are counts: give 0 or more.")
    if (config is None) == (replay is None):
        raise XrayError("Give either --config with a pipeline, or --replay with a folder that was prepared before.")
    if back and replay is None:
        raise XrayError("--back needs --replay with the folder whose prepared pictures the heat maps belong to.")
    part = None if shard is None else Shard.parse(shard)
    if part is not None and (preview or back):
        raise XrayError("--preview and --back are of whole folders: leave out --shard, or them.")
    if back and replay is not None:
        from anomalib_xray.preparation.mapping import restore

        return restore(root, out, replay)

    from joblib import cpu_count

    from anomalib_xray.preparation.pipeline import Pipeline
    from anomalib_xray.preparation.report import print_summary
    from anomalib_xray.preparation.runner import pipeline_of, run
    from anomalib_xray.preparation.sources import find_sources

    pipeline = pipeline_of(replay) if replay is not None else Pipeline.load(config or Path())
    sources = find_sources(root, out, table=table, masks=masks, only=only)
    try:
        summary = run(
            pipeline,
            root,
            out,
            sources,
            workers=workers or cpu_count(),
            backend=backend,
            scheduler=scheduler,
            replay=replay,
            shard=part,
        )
    except KeyboardInterrupt:
        print(f"Stopped. What is done is in {out}; the same command goes on.")
        return 130
    print_summary(summary, out, part)
    if preview:
        from anomalib_xray.preparation.report import write_preview

        for page in write_preview(pipeline, root, out, preview):
            print(f"Preview: {page}")
    return 1 if summary.errors else 0
