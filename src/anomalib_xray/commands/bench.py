"""The command that measures how fast a bundle is."""

from __future__ import annotations

from pathlib import Path

from anomalib_xray.errors import XrayError


def bench(
    bundle: Path,
    checkpoint: Path | None = None,
    images: list[Path] | None = None,
    runs: int = 50,
    threads: int | None = None,
    out: Path | None = None,
    model: str | None = None,
) -> int:
    """Measures how fast a bundle answers, beside the checkpoint that it was made of.

    Every form of the model runs in a process of its own, and they take turns picture by picture, so that all of them
    meet the same load. Reported are the fastest, the median and the 95 % quantile of the time for one picture, pictures
    a second one after the other, the largest resident memory, and the time from the start of the process to the first
    score. The last rows take raw radiographs and include the way of the heat map back to the original and, where the
    bundle has one, the preparation.

    Args:
        bundle: Folder of the bundle.
        checkpoint: Checkpoint that the bundle was made of, to compare with torch and ONNX.
        images: Radiographs to measure on, files or folders, of which the first 10 are taken; by default phantoms.
        runs: How often each form answers.
        threads: Number of CPU threads; by default all that the process may use.
        out: JSON file to write the figures to.
        model: Name of the checkpoint's model, such as AlphaGan; needed for old checkpoints, which do not hold it.

    Returns:
        Exit status: 0.

    Raises:
        XrayError: The bundle or an image cannot be used, or a number is too small.
    """
    from anomalib_xray.bundling.speed import run_bench

    if runs < 1:
        raise XrayError(f"{runs} runs measure nothing: give 1 or more.")
    if threads is not None and threads < 1:
        raise XrayError(f"{threads} threads cannot compute anything: give 1 or more.")
    if checkpoint is not None:
        from anomalib_xray.io.paths import check_checkpoint

        check_checkpoint(checkpoint)
    return run_bench(bundle, checkpoint, images, runs, threads, out, model)
