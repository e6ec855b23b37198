"""Shows that a grid's cells never share a device, and that shards, one of them killed, give what one run gives.

    python benchmarks/scale.py
    python benchmarks/scale.py devices --cells 30 --seconds 2
    python benchmarks/scale.py shards --images 600

Devices need no GPU: cells that train nothing note what their process sees, and when. Shards run the real commands on
phantoms, with a bundle whose map is the picture. The tables stand in docs/results/scale.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from anomalib_xray.devices import VISIBLE
from anomalib_xray.experiments.grid import read_grid
from anomalib_xray.io.text import read_json
from anomalib_xray.io.write import write_png
from anomalib_xray.jobs import RESULT
from anomalib_xray.shards import Shard

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
FAKE = TESTS / "experiments" / "fake_cells.py"
COMMAND = [sys.executable, "-c", "import sys; from anomalib_xray.cli import main; sys.exit(main())"]
DEVICES = "0,1"
SHARDS = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"what to show, of {', '.join(PARTS)}; all by default")
    parser.add_argument("--cells", type=int, default=8, help="cells of the grid")
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds that a cell takes")
    parser.add_argument("--images", type=int, default=90, help="pictures that are prepared and predicted")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - PARTS.keys():
        parser.error(f"{', '.join(sorted(unknown))}: choose of {', '.join(PARTS)}")
    for part in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder), arguments)


def devices(folder: Path, arguments: argparse.Namespace) -> None:
    """Cells on two devices: of one command, of two at once, on a Dask worker with more threads than devices."""
    config = write_grid(folder, arguments.cells)
    print("| grid | cells | on each device | seconds that two cells shared a device |\n|---|---|---|---|")
    runs: dict[str, Callable[[Path], None]] = {
        "one command, one cell of it dies": lambda out: wait(start(FAKE, "benchmark", config, out)),
        "two commands at once on one folder": lambda out: wait(
            *(start(FAKE, "benchmark", config, out) for _ in range(2))
        ),
        "a Dask worker with 4 threads": lambda out: on_dask(config, out),
    }
    settings = {
        VISIBLE: DEVICES,
        "FAKE_SECONDS": str(arguments.seconds),
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([str(FAKE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    for name, run in runs.items():
        out = folder / name.split()[1]
        out.mkdir()
        with environment(settings):
            run(out)
        results = [read_json(path) for path in out.rglob(RESULT)]
        done = [result for result in results if "sees" in result]
        shared = sum(overlap(*pair) for pair in combinations(done, 2) if pair[0]["sees"] == pair[1]["sees"])
        counts = Counter(result["sees"] for result in done)
        on_each = " + ".join(str(counts[name]) for name in sorted(counts))
        print(f"| {name} | {len(results)} | {on_each} | {shared:.2f} |", flush=True)


def overlap(one: dict[str, Any], other: dict[str, Any]) -> float:
    return max(0.0, min(one["to"], other["to"]) - max(one["from"], other["from"]))


def on_dask(config: Path, out: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=None) as cluster:
        wait(start(FAKE, "benchmark", config, out, "--scheduler", cluster.scheduler_address))


def shards(folder: Path, arguments: argparse.Namespace) -> None:
    """Three shards at once, one killed with -9, and the run without a shard, against one run."""
    write_pictures(folder / "raw", arguments.images)
    pipeline = folder / "pipeline.yaml"
    pipeline.write_text("steps:\n  - foreground\n  - resize: {longest_side: 256}\n")
    sys.path.insert(0, str(TESTS / "edge"))
    from tiny_bundle import write_bundle  # type: ignore[import-not-found]

    bundle = write_bundle(folder / "bundle")
    grid = write_grid(folder, arguments.cells)
    keys = [cell.key for cell in read_grid(grid).all_cells]
    print("| verb | files of one run | of three shards, one killed | merged | equal | written by a second merge |")
    print("|---|---|---|---|---|---|")
    verbs: dict[str, tuple[Callable[..., subprocess.Popen[str]], str]] = {
        "prepare": (
            lambda out, *more: start(
                None, "prepare", pipeline, out, "--root", str(folder / "raw"), "--workers", "1", *more
            ),
            "*.png",
        ),
        "predict": (
            lambda out, *more: start(None, "predict", bundle, out, str(folder / "raw"), *more),
            "*.png",
        ),
        "benchmark": (lambda out, *more: start(FAKE, "benchmark", grid, out, *more), "scores.csv"),
    }
    settings = {
        "FAKE_SECONDS": str(4 * arguments.seconds),  # so that the one that is killed is not done
        "TMPDIR": str(folder),
        "PYTHONPATH": os.pathsep.join([str(FAKE.parent), os.environ.get("PYTHONPATH", "")]),
    }
    for verb, (run, pattern) in verbs.items():
        names = keys if verb == "benchmark" else [f"patient{number:05}" for number in range(arguments.images // 2)]
        killed = max(range(SHARDS), key=lambda number: sum(Shard(number, SHARDS).holds(name) for name in names))
        whole, parts = folder / f"{verb}_whole", folder / f"{verb}_parts"
        with environment(settings):
            wait(run(whole))
            processes = [run(parts, "--shard", f"{number}/{SHARDS}") for number in range(SHARDS)]
            while processes[killed].poll() is None and len(files(parts, pattern)) <= len(files(whole, pattern)) // 10:
                time.sleep(0.01)
            processes[killed].send_signal(signal.SIGKILL)
            wait(*processes)
            begun = len(files(parts, pattern))
            wait(run(parts))
            merged = files(parts, pattern)
            stamps = {name: (parts / name).stat().st_mtime_ns for name in merged}
            wait(run(parts))
        told = "yes" if files(whole, pattern) == merged and tables(whole) == tables(parts) else "NO"
        written = sum((parts / name).stat().st_mtime_ns != stamp for name, stamp in stamps.items())
        print(
            f"| {verb} | {len(files(whole, pattern))} | {begun} | {len(merged)} | {told} | {written} |",
            flush=True,
        )


def files(folder: Path, pattern: str) -> dict[str, bytes]:
    """Contents of files that a run is compared by."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob(pattern))}


def tables(folder: Path) -> list[bytes]:
    """Contents of the tables of a run; those of a benchmark hold times."""
    return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".csv", ".json")]


def start(program: Path | None, verb: str, config: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    named = ["--bundle" if verb == "predict" else "--config", str(config)]
    command = [*([sys.executable, str(program)] if program else COMMAND), verb, *named, "--out", str(out), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        printed, _ = process.communicate()
        if process.returncode not in (0, 1, -signal.SIGKILL):
            sys.exit(f"{process.args} ended with {process.returncode}: {printed}")


@contextlib.contextmanager
def environment(settings: dict[str, str]) -> Any:
    before = dict(os.environ)
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def write_grid(folder: Path, cells: int) -> Path:
    """A grid of so many cells, one of which ends its process; the shortcuts are a cell too."""
    models = {name: {"class_path": "none.None"} for name in ("Dies", *(f"Model{n}" for n in range(cells - 2)))}
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"data": {"set": {"class_path": "none.None"}}, "models": models}))
    return path


def write_pictures(folder: Path, count: int) -> None:
    """Phantoms in MURA's layout, two studies a patient, and a file that is no picture."""
    from anomalib_xray.phantom import RAW, render_phantom

    drawn = [render_phantom(np.random.default_rng(seed), RAW).image for seed in range(6)]
    for number in range(count):
        study = f"patient{number // 2:05}/study{number % 2 + 1}_positive"
        write_png(folder / study / "image1.png", np.roll(drawn[number % 6], number))
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {"devices": devices, "shards": shards}


if __name__ == "__main__":
    main()
