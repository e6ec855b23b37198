"""The command that makes a moving picture of a training."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_atomically

if TYPE_CHECKING:
    from PIL import Image

CAPTION = 14
"""Height of the line with the step, in pixels."""

_LAST = 2000  # milliseconds that the last frame stays
_FASTEST = 50.0  # frames per second that browsers still show at their speed


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
    frames = read_frames(logs, name)
    write_gif(out, frames, frames_per_second)
    print(f"{out}: {len(frames)} frames of {name}, steps {frames[0].step} to {frames[-1].step}.")


class Frame(NamedTuple):
    """A picture, RGB, and the step of the training at which it was logged."""

    step: int
    picture: Image.Image


def read_frames(logs: Path, name: str) -> list[Frame]:
    """Reads all pictures of one name that a run logged, at least one, sorted by step.

    Args:
        logs: Folder of TensorBoard files, or one that holds ``<name>/<step>.png`` at any depth, as MLflow keeps them.
        name: Name of the pictures.
    """
    if not logs.is_dir():
        raise XrayError(f"{logs} is not a folder; name the one that the run's logger writes to.")
    events = list(logs.rglob("events.out.tfevents.*"))
    frames = _from_tensorboard(_only_folder(logs, events), name) if events else _from_files(logs, name)
    return sorted(frames, key=lambda frame: frame.step)


def _only_folder(logs: Path, files: list[Path]) -> Path:
    """The folder of all files; refuses several, which are of several runs."""
    folder, *others = sorted({path.parent for path in files})
    if others:
        names = ", ".join(str(found.relative_to(logs)) for found in (folder, *others))
        raise XrayError(f"{logs} holds several runs ({names}); name one of their folders.")
    return folder


def _from_tensorboard(run: Path, name: str) -> list[Frame]:
    from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

    events = EventAccumulator(str(run), size_guidance={IMAGES: 0})
    events.Reload()
    names = events.Tags()[IMAGES]
    if name not in names:
        there = f"there are {', '.join(names)}" if names else "it logged no pictures"
        raise XrayError(f"The run in {run} logged no pictures called {name!r}; {there}.")
    return [Frame(event.step, _open(io.BytesIO(event.encoded_image_string))) for event in events.Images(name)]


def _from_files(logs: Path, name: str) -> list[Frame]:
    files = [path for path in logs.rglob("*.png") if path.parent.name == name and path.stem.isdigit()]
    if not files:
        raise XrayError(f"{logs} holds neither TensorBoard files nor pictures {name}/<step>.png.")
    _only_folder(logs, files)
    return [Frame(int(path.stem), _open(path)) for path in files]


def _open(source: Path | io.BytesIO) -> Image.Image:
    from PIL import Image

    try:
        with Image.open(source, formats=["PNG"]) as picture:
            return picture.convert("RGB")
    except (OSError, Image.DecompressionBombError) as error:
        where = source if isinstance(source, Path) else "A logged picture"
        raise XrayError(f"{where} cannot be read: {error}.") from error


def write_gif(path: Path, frames: list[Frame], frames_per_second: float) -> None:
    """Writes frames as a GIF that repeats, each with its step below it, all of the size of the largest one."""
    if not 0 < frames_per_second <= _FASTEST:
        raise XrayError(f"frames_per_second is {frames_per_second:g}, but it is more than 0 and at most {_FASTEST:g}.")
    size = (max(frame.picture.width for frame in frames), max(frame.picture.height for frame in frames) + CAPTION)
    drawn = [_with_caption(frame, size) for frame in frames]
    milliseconds = round(1000 / frames_per_second)
    content = io.BytesIO()
    drawn[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=drawn[1:],
        duration=[milliseconds] * (len(drawn) - 1) + [max(_LAST, milliseconds)],
        loop=0,
    )
    write_atomically(path, content.getvalue())


def _with_caption(frame: Frame, size: tuple[int, int]) -> Image.Image:
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", size)
    canvas.paste(frame.picture)
    ImageDraw.Draw(canvas).text((2, size[1] - CAPTION + 1), f"step {frame.step}", fill="white")
    return canvas
