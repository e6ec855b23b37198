from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from anomalib_xray.cli import main
from anomalib_xray.commands.progress_gif import CAPTION, read_frames, write_gif
from anomalib_xray.errors import XrayError


def log(folder: Path, steps: list[int], name: str = "samples") -> None:
    """Logs pictures whose grey level is their step, as anomalib's logger does."""
    with SummaryWriter(str(folder)) as writer:
        for step in steps:
            writer.add_image(name, np.full((12, 20, 3), step / 255, dtype=np.float32), step, dataformats="HWC")


def grey(picture: Image.Image) -> int:
    level, *_ = picture.getpixel((10, 5))  # type: ignore[misc]  # RGB
    return int(level)


def test_pictures_of_a_run_come_in_the_order_of_their_steps(tmp_path: Path) -> None:
    log(tmp_path / "logs", [30, 10])
    log(tmp_path / "logs", [20])  # a resumed run writes a file of its own
    frames = read_frames(tmp_path, "samples")
    assert [frame.step for frame in frames] == [10, 20, 30]
    assert [grey(frame.picture) for frame in frames] == [10, 20, 30]


def test_more_pictures_than_tensorboard_shows(tmp_path: Path) -> None:
    log(tmp_path, list(range(25)))
    assert len(read_frames(tmp_path, "samples")) == 25


def test_pictures_that_mlflow_keeps(tmp_path: Path) -> None:
    folder = tmp_path / "7" / "artifacts" / "samples"
    folder.mkdir(parents=True)
    for step in (100, 20):
        Image.new("RGB", (20, 12), (step, step, step)).save(folder / f"{step:08d}.png")
    assert [frame.step for frame in read_frames(tmp_path, "samples")] == [20, 100]


def test_gif_has_every_frame_and_stays_at_the_last(tmp_path: Path) -> None:
    log(tmp_path / "logs", [10, 200])
    path = tmp_path / "new" / "progress.gif"
    write_gif(path, read_frames(tmp_path / "logs", "samples"), 10)
    with Image.open(path) as gif:
        assert gif.n_frames == 2  # type: ignore[attr-defined]  # of GIF files
        assert gif.size == (20, 12 + CAPTION)
        found = []
        for index in range(2):
            gif.seek(index)
            found.append((grey(gif.convert("RGB")), gif.info["duration"]))
    assert found == [(10, 100), (200, 2000)]


def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log(tmp_path / "logs", [10, 20])
    out = tmp_path / "p.gif"
    assert main(["progress-gif", "--logs", str(tmp_path / "logs"), "--out", str(out)]) == 0
    assert "2 frames of samples, steps 10 to 20" in capsys.readouterr().out
    assert out.exists()


def test_what_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="is not a folder"):
        read_frames(tmp_path / "none", "samples")
    with pytest.raises(XrayError, match="neither TensorBoard files nor pictures"):
        read_frames(tmp_path, "samples")
    log(tmp_path / "a", [1])
    with pytest.raises(XrayError, match=r"no pictures called 'other'; there are samples\."):
        read_frames(tmp_path, "other")
    log(tmp_path / "b", [1])
    with pytest.raises(XrayError, match=r"several runs \(a, b\); name one"):
        read_frames(tmp_path, "samples")


def test_broken_picture_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "samples" / "00000001.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no picture")
    with pytest.raises(XrayError, match=r"00000001\.png cannot be read"):
        read_frames(tmp_path, "samples")


@pytest.mark.parametrize("speed", [0, -1, 51])
def test_impossible_speeds_are_refused(tmp_path: Path, speed: float) -> None:
    log(tmp_path, [1])
    with pytest.raises(XrayError, match="frames_per_second"):
        write_gif(tmp_path / "p.gif", read_frames(tmp_path, "samples"), speed)
