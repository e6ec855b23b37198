"""Measures the preparation at scale: speed, memory, a Dask cluster with a dying worker, and hostile files.

    python benchmarks/preparation_scale.py
    python benchmarks/preparation_scale.py --only speed memory --images 5000

All pictures are phantoms. Speed is given for one core, in CPU time as well as in wall time, because the machine may be
shared. The figures stand in docs/results/preparation.md.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
from rich.progress import track

from anomalib_xray.io.dicom_write import write_secondary_capture
from anomalib_xray.io.read import decode_radiograph, read_radiograph
from anomalib_xray.io.write import write_png
from anomalib_xray.phantom import RAW, render_phantom
from anomalib_xray.preparation.pipeline import Pipeline
from anomalib_xray.preparation.record import MANIFEST

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs" / "preparation"
BIN = Path(sys.executable).parent
DISTINCT = 100  # phantoms drawn; a larger set repeats them under other names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=sorted(PARTS), default=list(PARTS), help="what to measure")
    parser.add_argument("--images", type=int, default=5000, help="pictures of the long run")
    parser.add_argument("--mutations", type=int, default=2000, help="hostile files of each format")
    parser.add_argument("--seed", type=int, default=42, help="seed of phantoms and mutations")
    arguments = parser.parse_args()
    for part in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            PARTS[part](Path(folder), arguments)


def speed(folder: Path, arguments: argparse.Namespace) -> None:
    """Pictures a second on one core, with and without the text detector, steps alone."""
    cv2.setNumThreads(1)
    images = [read_radiograph(path) for path in write_phantoms(folder, 60, arguments.seed)]
    for name in ("hand", "full"):
        pipeline = Pipeline.load(CONFIGS / f"{name}.yaml")
        for image in images[:3]:  # the models load at the first picture
            pipeline.prepare(image)
        wall, cpu = time.perf_counter(), time.process_time()
        for image in track(images, f"{name}.yaml"):
            pipeline.prepare(image)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{name}.yaml: {len(images) / cpu:.1f} images/s of CPU time, {len(images) / wall:.1f} of wall time")
        spent = dict.fromkeys((named.name for named in pipeline.steps), 0.0)
        for image in images:
            for step, seconds in step_times(pipeline, image):
                spent[step] += seconds
        print("  " + ", ".join(f"{step} {1000 * seconds / len(images):.1f} ms" for step, seconds in spent.items()))


def step_times(pipeline: Pipeline, image: np.ndarray) -> Iterator[tuple[str, float]]:
    """CPU time of each step, on the first part where a picture is divided."""
    for named in pipeline.steps:
        start = time.process_time()
        plan = named.step.plan(image)
        if plan.parameters:
            image = named.step.apply(image, named.step.parts(plan)[0])
        yield named.name, time.process_time() - start


def memory(folder: Path, arguments: argparse.Namespace) -> None:
    """Peak memory of two worker processes over a long run, at a tenth of it and at its end."""
    write_phantoms(folder / "raw", arguments.images, arguments.seed)
    start = time.perf_counter()
    process = prepare(folder / "raw", folder / "out", "full", "--workers", "2")
    peaks: list[tuple[float, int]] = []
    while process.poll() is None:
        workers = psutil.Process(process.pid).children(recursive=True)
        peaks.append((time.perf_counter() - start, max(map(resident, workers), default=0)))
        time.sleep(0.5)
    if process.returncode != 0:
        sys.exit(f"prepare ended with {process.returncode}: {process.communicate()[1]}")
    seconds = time.perf_counter() - start
    tenths = [0] * 10
    for at, peak in peaks:
        tenth = min(int(10 * at / seconds), 9)
        tenths[tenth] = max(tenths[tenth], peak)
    print(f"{arguments.images} images in {seconds:.0f} s; largest worker in each tenth of the time, MiB:")
    print("  " + " ".join(f"{peak / 2**20:.0f}" for peak in tenths))


def resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def dask(folder: Path, arguments: argparse.Namespace) -> None:
    """A Dask cluster of two workers, one killed in mid-run, against a local run, byte by byte."""
    write_phantoms(folder / "raw", 200, arguments.seed)
    (folder / "raw" / "broken.png").write_bytes(b"nothing")
    start = time.perf_counter()
    local = prepare(folder / "raw", folder / "local", "hand", "--workers", "2")
    local.communicate()
    print(f"loky: {time.perf_counter() - start:.0f} s")
    for kill in (False, True):
        out = folder / f"dask_{kill}"
        with cluster(folder) as (address, workers):
            start = time.perf_counter()
            process = prepare(folder / "raw", out, "hand", "--scheduler", address)
            while kill and process.poll() is None and len(list(out.glob("*.png"))) < 40:
                time.sleep(0.2)
            if kill:
                killed = [workers[0], *psutil.Process(workers[0].pid).children(recursive=True)]
                for victim in killed:
                    os.kill(victim.pid, signal.SIGKILL)
                print(f"worker killed after {len(list(out.glob('*.png')))} outputs")
            output, errors = process.communicate()
        print(f"dask: {time.perf_counter() - start:.0f} s, {output.splitlines()[-1] if output else errors}")
        print(f"  equal to the local run: {tree(out) == tree(folder / 'local')} ({len(tree(out))} files)")


@contextmanager
def cluster(folder: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers, started from the shell's commands."""
    port, quiet = 8799, {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    address = f"tcp://127.0.0.1:{port}"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    scheduler = subprocess.Popen(
        [str(BIN / "dask"), "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
        cwd=folder,
        **quiet,
    )
    command = [str(BIN / "dask"), "worker", address, "--nthreads", "1", "--no-dashboard"]
    workers = [subprocess.Popen(command, cwd=folder, env=environment, **quiet) for _ in range(2)]
    from distributed import Client

    try:
        with Client(address, timeout="60s") as client:
            client.wait_for_workers(2, timeout=60)
        yield address, workers
    finally:
        for process in (*workers, scheduler):
            process.terminate()
            process.wait()


def fuzz(folder: Path, arguments: argparse.Namespace) -> None:
    """Mutated files of every format, read in a process of their own, then prepared: each is a picture or a row."""
    mutations = runpy.run_path(str(ROOT / "tests" / "mutations.py"))["mutations"]

    for suffix, contents in example_files(folder, arguments.seed).items():
        files = list(mutations(contents, arguments.mutations, arguments.seed))
        context = multiprocessing.get_context("spawn")
        slowest = context.Value("d", 0.0)
        read = context.Value("i", 0)
        process = context.Process(target=read_all, args=(files, slowest, read))
        process.start()
        process.join()
        for number, content in enumerate(files):
            (folder / suffix).mkdir(exist_ok=True)
            (folder / suffix / f"{number:05}.{suffix}").write_bytes(content)
        run = prepare(folder / suffix, folder / f"{suffix}_out", "hand", "--workers", "2")
        run.communicate()
        with (folder / f"{suffix}_out" / MANIFEST).open(newline="") as file:
            rows = list(csv.DictReader(file))
        sources = {row["source_path"] for row in rows}
        print(
            f"{suffix}: {len(files)} files, exit {process.exitcode}; {read.value} readable, slowest"
            f" {1000 * slowest.value:.0f} ms; prepare: exit {run.returncode}, rows for {len(sources)} files,"
            f" {len({row['source_path'] for row in rows if row['error']})} with a reason"
        )


def example_files(folder: Path, seed: int) -> dict[str, list[bytes]]:
    """Sound files of each format, by the ending of their names."""
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit, RLELossless

    small = cv2.resize(render_phantom(np.random.default_rng(seed), RAW).image, (90, 110))
    colour = cv2.cvtColor(small, cv2.COLOR_GRAY2BGR)
    deep = small.astype(np.uint16) * 200
    encoded = {
        suffix: [cv2.imencode(f".{suffix}", picture)[1].tobytes() for picture in pictures]
        for suffix, pictures in {"png": [small, colour, deep], "jpg": [small, colour]}.items()
    }
    path = folder / "example.dcm"
    write_secondary_capture(path, small, source=None, description="example")
    dicom = [path.read_bytes()]
    for transfer_syntax in (RLELossless, JPEGBaseline8Bit):
        data = dcmread(path)
        if transfer_syntax == RLELossless:
            data.compress(RLELossless)
        else:
            data.PixelData = encapsulate([encoded["jpg"][0]])
            data["PixelData"].is_undefined_length = True
            data.file_meta.TransferSyntaxUID = transfer_syntax
        compressed = folder / "compressed.dcm"
        data.save_as(compressed)
        dicom.append(compressed.read_bytes())
    for content in (*encoded["png"], *encoded["jpg"], *dicom):
        decode_radiograph(content, name="example")  # a mutation of what cannot be read would show nothing
    return encoded | {"dcm": dicom}


def read_all(files: list[bytes], slowest: object, read: object) -> None:
    """Reads files; anything but a picture or an XrayError ends the process with a traceback."""
    from anomalib_xray.errors import XrayError

    for content in files:
        start = time.perf_counter()
        try:
            decode_radiograph(content, name="mutated")
            read.value += 1  # type: ignore[attr-defined]
        except XrayError:
            pass
        slowest.value = max(slowest.value, time.perf_counter() - start)  # type: ignore[attr-defined]


def prepare(root: Path, out: Path, config: str, *more: str) -> subprocess.Popen[str]:
    command = [
        *(str(BIN / "anomalib-xray"), "prepare", "--config", str(CONFIGS / f"{config}.yaml")),
        *("--root", str(root), "--out", str(out), *more),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def write_phantoms(folder: Path, count: int, seed: int) -> list[Path]:
    """Raw phantoms; from a number on they repeat under other names."""
    paths = []
    for number in track(range(count), "Drawing phantoms"):
        path = folder / f"{number:05}.png"
        if number < DISTINCT:
            write_png(path, render_phantom(np.random.default_rng([seed, number]), RAW).image)
        else:
            shutil.copyfile(paths[number % DISTINCT], path)
        paths.append(path)
    return paths


def tree(folder: Path) -> dict[str, str]:
    """Hashes of the prepared pictures and the manifest."""
    files = [*folder.rglob("*.png"), folder / MANIFEST]
    return {file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


PARTS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "speed": speed,
    "memory": memory,
    "dask": dask,
    "fuzz": fuzz,
}


if __name__ == "__main__":
    main()
