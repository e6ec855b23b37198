"""The command that makes a moving picture of a training."""

from __future__ import annotations

from pathlib import Path


def progress_gif(
    logs: Path, name: str = "samples", out: Path = Path("progress.gif"), frames_per_second: float = 4.0
) -> None:
    """Makes a GIF of the grids that a training logged: samples, reconstructions, histograms.

    Args:
        logs: Where the run logged: the folder of its TensorBoard files, or a folder of PNG files as MLflow keeps them.
        name: Name of the grids: samples, reconstructions, attention_..., scores_...
        out: The GIF to write.
        frames_per_second: Speed; the last frame is shown for two seconds.
    """
    from anomalib_xray.report.progress import read_frames, write_gif

    frames = read_frames(logs, name)
    write_gif(out, frames, frames_per_second)
    print(f"{out}: {len(frames)} frames of {name}, steps {frames[0].step} to {frames[-1].step}.")
