from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.cli import main
from anomalib_xray.data import prepared
from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation import worker
from anomalib_xray.preparation.manifest import read_manifest
from anomalib_xray.preparation.record import MANIFEST


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / "raw"
    rng = np.random.default_rng(0)
    write_png(root / "a/wide.png", rng.integers(50, 200, (8, 20), dtype=np.uint8))
    write_png(root / "b.png", rng.integers(50, 200, (9, 9), dtype=np.uint8))
    return root


@pytest.fixture
def config(tmp_path: Path, small_steps: object) -> Path:
    del small_steps
    worker._pipeline.cache_clear()
    path = tmp_path / "pipeline.yaml"
    path.write_text("steps:\n  - halves\n  - brighten: {by: 3}\n")
    return path


def call(*arguments: object) -> int:
    return main(["prepare", "--workers", "1", *map(str, arguments)])


def test_a_folder_is_prepared_and_summed_up(raw: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = raw.parent / "out"
    assert call("--config", config, "--root", raw, "--out", out, "--preview", 2) == 0
    printed = capsys.readouterr().out
    assert "2 radiographs: 2 prepared, 0 done before, 0 failed. 3 pictures" in printed
    assert "narrow" in printed
    assert read_radiograph(out / "a/wide_part2.png").shape == (8, 10)
    assert (out / MANIFEST).is_file()
    assert (out / "preview_1.png").is_file()


def test_odd_names_end_nothing_and_read_back(raw: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = raw.parent / "out"
    odd = [
        os.fsdecode(b"R\xf6ntgen.png"),
        "ö" * 125 + "1.png",
        "ö" * 125 + "2.png",
        "u" * 255,
        "1.2.840.5",
        "1.2.840.6",
    ]
    for name in odd:
        (raw / name).write_bytes((raw / ("a/wide.png" if name.startswith("ö") else "b.png")).read_bytes())
    (raw / os.fsdecode(b"damaged\xff.png")).write_bytes(b"nothing")
    arguments = ("--config", config, "--root", raw, "--out", out, "--preview", 1)
    assert call(*arguments) == 1
    assert "damaged\\udcff.png" in capsys.readouterr().out
    (out / MANIFEST).read_text(encoding="utf-8")
    rows = read_manifest(out)
    assert {row["source_path"] for row in rows} == {"a/wide.png", "b.png", "damaged\udcff.png", *odd}
    pictures = [row["image_path"] for row in rows if row["image_path"]]
    assert len(set(pictures)) == len(pictures) == 2 + 1 + 1 + 2 * 2 + 3
    for picture in pictures:
        assert (out / picture).is_file()
    assert {row["source_path"] for row in prepared.read_manifest(out).to_dict("records")} == {
        row["source_path"] for row in rows
    }
    assert call(*arguments) == 1
    assert f"{len(odd) + 2} done before, 1 failed" in capsys.readouterr().out


def test_rows_without_a_radiograph_are_rows_with_their_reasons(raw: Path, config: Path) -> None:
    (raw / "gone.png").symlink_to("store/abc")
    table = raw.parent / "t.csv"
    table.write_text("image_path;patient\nb.png; p1\n;p2\n;\n../b.png;p3\ngone.png;p4\nnone.png;p5\n")
    assert call("--config", config, "--root", raw, "--out", raw.parent / "out", "--table", table) == 1
    rows = {row["source_path"]: row for row in read_manifest(raw.parent / "out")}
    assert (rows["b.png"]["patient"], rows["b.png"]["error"]) == ("p1", "")
    assert "its image_path is empty" in rows["line 3 of t.csv"]["error"]
    assert "is no file that lies below" in rows["line 5 of t.csv"]["error"]
    assert "gone.png is a link to store/abc, which is not there" in rows["gone.png"]["error"]
    assert "none.png cannot be read: No such file" in rows["none.png"]["error"]
    assert len(rows) == 5


def test_a_folder_in_the_place_of_a_picture_ends_nothing(raw: Path, config: Path) -> None:
    (raw / "c.jpg").write_bytes((raw / "b.png").read_bytes())
    write_png(raw / "c.png" / "d.png", read_radiograph(raw / "b.png"))
    (raw / "e").write_bytes((raw / "b.png").read_bytes())
    write_png(raw / "e.json" / "d.png", read_radiograph(raw / "b.png"))  # e.json is the name of a record too
    assert call("--config", config, "--root", raw, "--out", raw.parent / "out") == 1
    rows = {row["source_path"]: row["error"] for row in read_manifest(raw.parent / "out")}
    assert set(rows) == {"a/wide.png", "b.png", "c.jpg", "c.png/d.png", "e", "e.json/d.png"}
    assert sorted(bool(error) for error in rows.values()) == [False] * 4 + [True] * 2


def test_a_name_too_long_for_the_folders_system_ends_nothing(
    raw: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png = worker.write_png

    def short_names_only(path: Path, image: np.ndarray) -> None:
        if path.name == "b.png":
            cause = OSError(errno.ENAMETOOLONG, "File name too long")
            raise XrayError(f"{path} cannot be written: {cause.strerror}.") from cause
        write_png(path, image)

    monkeypatch.setattr(worker, "write_png", short_names_only)
    assert call("--config", config, "--root", raw, "--out", raw.parent / "out") == 1
    assert [row["error"][-19:] for row in read_manifest(raw.parent / "out")] == ["", "", "File name too long."]


def test_heat_maps_of_files_named_by_uids_go_back_one_by_one(raw: Path, config: Path) -> None:
    for name in ("1.2.840.5", "1.2.840.6"):
        (raw / name).write_bytes((raw / "b.png").read_bytes())
    prepared, back = raw.parent / "prepared", raw.parent / "back"
    assert call("--config", config, "--root", raw, "--out", prepared) == 0
    assert call("--replay", prepared, "--root", prepared, "--out", back, "--back", "true") == 0
    assert {path.name for path in back.glob("*.png")} == {"1.2.840.5.png", "1.2.840.6.png", "b.png"}


def test_a_broken_radiograph_is_one_line_and_the_status(
    raw: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (raw / "broken.png").write_bytes(b"nothing")
    assert call("--config", config, "--root", raw, "--out", raw.parent / "out") == 1
    printed = capsys.readouterr().out
    assert printed.count("broken.png") == 1
    assert "1 failed" in printed


def test_an_interrupted_run_says_how_to_go_on(
    raw: Path, config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "write_png", interrupted)
        assert call("--config", config, "--root", raw, "--out", raw.parent / "out") == 130
    assert "the same command goes on" in capsys.readouterr().out
    assert call("--config", config, "--root", raw, "--out", raw.parent / "out") == 0


def test_a_replay_and_heat_maps_go_back(raw: Path, config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, maps = raw.parent / "out", raw.parent / "maps"
    call("--config", config, "--root", raw, "--out", out)
    assert call("--replay", out, "--root", raw, "--out", raw.parent / "again") == 0
    assert (raw.parent / "again/b.png").read_bytes() == (out / "b.png").read_bytes()
    write_png(maps / "a/wide_part1.png", np.full((8, 10), 40, np.uint8))
    write_png(maps / "a/wide_part2.png", np.full((4, 5), 90, np.uint8))  # of half the size, as a model gives it
    assert call("--replay", out, "--back", "true", "--root", maps, "--out", raw.parent / "back") == 0
    back = read_radiograph(raw.parent / "back/a/wide.png")
    np.testing.assert_array_equal(back, np.tile(np.uint8([40] * 10 + [90] * 10), (8, 1)))
    assert "1 of 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--root", "RAW", "--out", "out"], "Give either --config"),
        (["--root", "RAW", "--out", "out", "--config", "none.yaml"], "none.yaml cannot be read"),
        (["--root", "none", "--out", "out", "--config", "CONFIG"], "There is no folder none"),
        (["--root", "RAW", "--out", "RAW", "--config", "CONFIG"], "overwritten"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--workers", "-1"], "0 or more"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--back", "true"], "needs --replay"),
        (["--root", "RAW", "--out", "out", "--replay", "RAW"], "holds no prepared"),
        (["--root", "RAW", "--out", "out", "--replay", "RAW", "--back", "true"], "no manifest"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--shard", "3/3"], "count from 0"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--shard", "0/3", "--preview", "1"], "whole folders"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--backend", "spark"], "'spark' is no value"),
        (["--root", "RAW", "--out", "out", "--config", "CONFIG", "--table", "none.csv"], "none.csv cannot be read"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    raw: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    names = {"RAW": str(raw), "CONFIG": str(config), "out": str(tmp_path / "out")}
    assert main(["prepare", *(names.get(argument, argument) for argument in arguments)]) == 2
    printed = capsys.readouterr().err
    assert says in printed
    assert printed.count("\n") == 1


def prepare(folder: Path, out: Path) -> list[str]:
    """A command of its own process that prepares ``raw`` of a folder."""
    # A shell starts what runs in its background with SIGINT ignored, and children inherit that.
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from anomalib_xray.cli import main; sys.exit(main())"
    )
    return [
        *(sys.executable, "-c", code, "prepare", "--config", str(folder / "pipeline.yaml")),
        *("--root", str(folder / "raw"), "--out", str(out), "--workers", "2"),
    ]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in ``raw`` and what they become in ``whole``."""
    folder = tmp_path_factory.mktemp("finished")
    rng = np.random.default_rng(0)
    # With 16 bits the filter takes its time: most pictures are still to do when the first one is there.
    picture = rng.integers(0, 65535, (300, 300), dtype=np.uint16)
    for number in range(30):
        write_png(folder / "raw" / f"{number:03}.png", np.roll(picture, number))
    (folder / "pipeline.yaml").write_text("steps:\n  - median_filter: {kernel: 19}\n")
    subprocess.run(prepare(folder, folder / "whole"), check=True, capture_output=True, timeout=300)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_process_loses_nothing(finished: Path, tmp_path: Path, end: signal.Signals) -> None:
    command, whole = prepare(finished, tmp_path / "out"), finished / "whole"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    while process.poll() is None and not list((tmp_path / "out").glob("00?.png")):
        time.sleep(0.01)
    os.killpg(process.pid, end)
    printed = b"".join(process.communicate(timeout=60)).decode()
    assert "Traceback" not in printed
    assert len(list((tmp_path / "out").glob("*.png"))) < 30
    assert not (tmp_path / "out" / MANIFEST).exists()
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    for path in [*whole.glob("*.png"), whole / MANIFEST]:
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
