"""Cost of a training step of every model on a GPU, by precision and compilation: time, images per second, memory.

    python benchmarks/gpu.py                                    # 8 minutes; once more goes on with what was left out
    python benchmarks/gpu.py --configs configs/cae.yaml --minutes inf
    python benchmarks/gpu.py --device cpu --threads 1 --batch 8 --steps 3 --minutes inf --variants f32 bf16

Models, sizes and batches are those of ``configs`` (recommended) and ``configs/paper`` (as published), trained as in
``anomalib train`` on random images in memory. A child process measures case after case, since importing takes longer
than most of them; a case that fails, takes too long or kills the child is a row with its reason, and the next one goes
on. Rows are kept in ``--out``; a case with the same settings, versions and device is not measured again.

Steps that warm up, and compile, are not counted. A step begins and ends with the device idle, so that small models are
slower here than where the next step is prepared meanwhile. On a CPU times are CPU seconds: other programs change them
less; memory is not measured there (``benchmarks/training_step.py`` does).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from anomalib_xray import __version__
from anomalib_xray.io.text import read_json, read_yaml, write_json
from training_step import CONFIGS, measure

VARIANTS: dict[str, dict[str, bool]] = {
    "f32": {},
    "bf16": {"half": True},
    "compiled": {"compiled": True},
    "bf16 compiled": {"half": True, "compiled": True},
    "channels last": {"channels_last": True},
    "bf16 channels last": {"half": True, "channels_last": True},
}
"""Ways to train by name, in the order of their columns; the first one is what the others are compared with."""

FIRST = ("cae", "bae", "vae", "alphagan", "bigan", "dcgan")
"""Configurations that are measured before the others, which follow by name."""

WARM_UP = 4
"""Steps before those that count: the first counts operations and is not compiled; GANs compile for each player."""

STARTING = 120.0
"""Seconds that a new child has to import everything, on a slow disk."""

GOODBYE = 10.0
"""Seconds that an idle child has to end by itself."""

A_DAY = 86400.0
"""Longest time to wait, where there is no limit: a poll takes no infinity."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", type=Path, metavar="FILE", help="configurations; all if left out")
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS)[:4], metavar="NAME",
                        help=f"some of: {', '.join(VARIANTS)}")  # fmt: skip
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batch", type=int, help="batch size of all; each configuration's own if left out")
    parser.add_argument("--steps", type=int, default=10, help="steps that count")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of the CPU")
    parser.add_argument("--minutes", type=float, default=8, help="time for all; what it does not suffice for is said")
    parser.add_argument("--limit", type=float, default=90, help="seconds that a case may take")
    parser.add_argument("--retry", action="store_true", help="measure failed cases again")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    machine = machine_of(arguments.device)
    rows: list[dict[str, Any]] = read_json(arguments.out) if arguments.out.exists() else []
    if arguments.retry:
        rows = [row for row in rows if "failed" not in row]
    done = [row["case"] for row in rows]
    cases = list(cases_of(arguments, machine))
    left = measure_all([case for case in cases if case not in done], rows, arguments, end)
    print_table([row for case in cases for row in rows if row["case"] == case], machine)
    if left:
        names = ", ".join(f"{case['config']} ({case['variant']})" for case in left)
        print(f"\nLeft out after {arguments.minutes:g} minutes, the same command goes on with them: {names}.")


def machine_of(device: str) -> dict[str, str]:
    """Card, or processor, and versions, which rows that are compared have in common."""
    import torch

    if device == "cpu":
        name = f"CPU, {torch.backends.cpu.get_cpu_capability()}"
    elif torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    else:
        sys.exit(
            f"PyTorch {torch.__version__} finds no CUDA device; run this where there is one, or give --device cpu."
        )
    return {"device": name, "torch": torch.__version__, "cuda": str(torch.version.cuda), "anomalib_xray": __version__}


def cases_of(arguments: argparse.Namespace, machine: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The cases in the order of their importance: compilation takes long, and comes when all else is measured."""
    paths = arguments.configs or [*CONFIGS.glob("*.yaml"), *CONFIGS.glob("paper/*.yaml")]
    configs = {path: read_yaml(path) for path in sorted(paths, key=_importance)}
    for late in (False, True):
        for path, config in configs.items():
            model = config.get("model", {})
            for variant in arguments.variants:
                if VARIANTS[variant].get("compiled", False) is late and "class_path" in model:
                    yield {
                        "config": f"{'paper/' if path.parent.name == 'paper' else ''}{path.stem}",
                        "variant": variant,
                        "model": model["class_path"].rpartition(".")[2],
                        "settings": model["init_args"],
                        "batch": arguments.batch or config["data"]["init_args"]["train_batch_size"],
                        "threads": arguments.threads,
                        "machine": machine,
                    }


def _importance(path: Path) -> tuple[bool, int, str]:
    """Recommended before published settings."""
    return path.parent.name == "paper", FIRST.index(path.stem) if path.stem in FIRST else len(FIRST), path.stem


def measure_all(
    cases: Sequence[dict[str, Any]], rows: list[dict[str, Any]], arguments: argparse.Namespace, end: float
) -> Sequence[dict[str, Any]]:
    """Adds a row for each case, each written as it is made, and returns the cases for which no time was left."""
    log, child = arguments.out.with_suffix(".log"), None
    try:
        for number, case in enumerate(cases):
            if time.monotonic() >= end:
                return cases[number:]
            child = child or Child(log)
            left = end - time.monotonic()
            row = child.measure({**case, "steps": arguments.steps}, min(left, arguments.limit))
            if row is None or child.lost:
                child.end()
                child = None
            if row is None and left < arguments.limit:  # which is not the case's fault
                return cases[number:]
            row = row or {"failed": f"it took longer than {arguments.limit:g} s"}
            said = row.get("failed") or f"{1000 * row['seconds']:.0f} ms"
            print(f"{number + 1}/{len(cases)} {case['config']}, {case['variant']}: {said}", file=sys.stderr, flush=True)
            rows.append({"case": case, **row})
            write_json(arguments.out, rows)
        return []
    finally:
        if child is not None:
            child.end(GOODBYE)


class Child:
    """A process that measures case after case, in a fresh interpreter: CUDA does not outlive a fork."""

    def __init__(self, log: Path) -> None:
        self.log, self.lost = log, False
        self.connection, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, log), daemon=True)
        self.process.start()
        theirs.close()  # so that a dead child is noticed
        if self._receive(STARTING) != {}:
            self.end()
            sys.exit(f"The process that measures does not start; {log} says why.")

    def measure(self, case: dict[str, Any], limit: float) -> dict[str, Any] | None:
        """The row of a case, ``None`` if it takes longer."""
        self.connection.send(case)
        return self._receive(limit)

    def _receive(self, limit: float) -> dict[str, Any] | None:
        try:
            return dict(self.connection.recv()) if self.connection.poll(min(limit, A_DAY)) else None
        except EOFError:
            self.lost = True
            self.process.join()
            return {"failed": f"its process ended with status {self.process.exitcode}, see {self.log}"}

    def end(self, wait: float = 0.0) -> None:
        """Ends it, by force unless it ends by itself within some seconds."""
        self.connection.close()
        self.process.join(wait)
        self.process.kill()
        self.process.join()


def serve(connection: Connection, log: Path) -> None:
    """Measures the cases that come in; what libraries print goes into a log."""
    with log.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import anomalib_xray.models  # noqa: F401  # which takes long, and is no part of a case

    connection.send({})
    while True:
        try:
            case = connection.recv()
        except EOFError:
            return
        connection.send(measured(case))


def measured(case: dict[str, Any]) -> dict[str, Any]:
    """The row of a case: ``seconds`` of a step (median), ``memory`` in bytes and so on, or why it ``failed``."""
    import gc
    import traceback

    import torch

    cuda = torch.cuda.is_available() and not case["machine"]["device"].startswith("CPU")
    try:
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            settings = case["settings"]
            if case["model"] == "DeepOneClass":
                settings = {**settings, "reference_root": str(write_references(Path(folder)))}
            cost = measure(
                case["model"],
                case["batch"],
                settings,
                case["steps"] + WARM_UP - 1,  # it leaves out the first one itself
                case["threads"],
                **trainer_arguments(VARIANTS[case["variant"]], cuda),
            )
        return {
            "seconds": statistics.median(cost["wall" if cuda else "cpu"][WARM_UP - 1 :]),
            "memory": torch.cuda.max_memory_allocated() if cuda else None,
            "operations": cost["operations"],
            "parameters": cost["parameters"],
        }
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except Exception as error:  # any model may fail in any way, and the others go on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
    finally:
        torch._dynamo.reset()
        gc.collect()
        torch.cuda.empty_cache()


def write_references(root: Path) -> Path:
    """Writes a few phantoms as the two classes of other radiographs that one model needs."""
    import numpy as np

    from anomalib_xray.io.write import write_png
    from anomalib_xray.phantom import render_phantom

    for number in range(8):
        phantom = render_phantom(np.random.default_rng(number))
        write_png(root / f"class_{number % 2}" / f"{number}.png", phantom.image)
    return root


def trainer_arguments(how: dict[str, bool], cuda: bool) -> dict[str, Any]:
    """Arguments of Lightning's trainer for a way to train."""
    import torch
    from lightning.pytorch import Callback

    from anomalib_xray.training.callbacks import ChannelsLast, CompileNetworks

    class Idle(Callback):
        """Waits for the device before a clock is read."""

        def on_train_batch_start(self, *_: object) -> None:
            if cuda:
                torch.cuda.synchronize()

        def on_train_batch_end(self, *_: object) -> None:
            if cuda:
                torch.cuda.synchronize()

    return {
        "accelerator": "cuda" if cuda else "cpu",
        "devices": 1,
        "precision": "bf16-mixed" if how.get("half") else "32-true",
        "callbacks": [
            Idle(),
            *([CompileNetworks()] if how.get("compiled") else []),
            *([ChannelsLast()] if how.get("channels_last") else []),
        ],
    }


def print_table(rows: Sequence[dict[str, Any]], machine: dict[str, str]) -> None:
    """Prints a line for each configuration and a column for each way to train, as a table in Markdown."""
    variants = [name for name in VARIANTS if any(row["case"]["variant"] == name for row in rows)]
    unit = "CPU ms" if machine["device"].startswith("CPU") else "ms"
    print(f"{', '.join(f'{value}' if key == 'device' else f'{key} {value}' for key, value in machine.items())}. Each: ")
    print(f"{unit} a step, images per second, × as fast as {next(iter(VARIANTS))}, peak memory.\n")
    print(f"| configuration | size | batch | {' | '.join(variants)} |")
    print(f"|---|---|---|{'---|' * len(variants)}")
    by_case: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        by_case.setdefault((row["case"]["config"], row["case"]["batch"]), {})[row["case"]["variant"]] = row
    for (config, batch), found in by_case.items():
        size = next(iter(found.values()))["case"]["settings"].get("image_size", "")
        cells = [_cell(found.get(name), batch, found.get(next(iter(VARIANTS)), {}).get("seconds")) for name in variants]
        print(f"| {config} | {size} | {batch} | {' | '.join(cells)} |")


def _cell(row: dict[str, Any] | None, batch: int, plain: float | None) -> str:
    if row is None:
        return "not measured"
    if "failed" in row:
        return str(row["failed"]).replace("|", "/")
    parts = [f"{1000 * row['seconds']:.1f}", f"{batch / row['seconds']:.0f} /s"]
    if plain is not None:
        parts.append(f"{plain / row['seconds']:.2f} ×")
    if row["memory"] is not None:
        parts.append(f"{row['memory'] / 1024**3:.2f} GiB")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
