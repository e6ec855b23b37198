"""Cost of one training step: CPU seconds, wall seconds, peak memory, parameters.

    python benchmarks/training_step.py                         # the cases of the published table
    python benchmarks/training_step.py --published             # and beside them the published steps, rewritten
    python benchmarks/training_step.py Cae --set image_size=256 --batch 8
    python benchmarks/training_step.py --configs               # what the training of each configuration costs

Every case runs in a process of its own, on two threads, through Lightning's trainer as in ``anomalib train``, after one
step that warms up. Peak memory is the process's, so it includes torch itself. Wall time depends on what else the
machine does; CPU seconds are the robust figure, above all on one thread: several wait for each other at full speed.
"Products alone" are the CPU seconds of the step's convolutions and matrix products, forward and backward, each measured
on its own with the step's shapes and memory formats: no step with these layers costs less. Published steps are those of
``published_steps.py``, measured in turns with the project's in the same run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pickle
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from anomalib_xray.io.progress import duration
from published_steps import STEPS

CONFIGS = Path(__file__).parents[1] / "configs"

CASES: list[tuple[str, str, int]] = [
    ("BAE, as published, 512 px", "paper/bae", 4),
    ("VAE, as published, 512 px", "paper/vae", 4),
    ("CAE, as published, 512 px", "paper/cae", 4),
    ("DCGAN, as published, 512 px", "paper/dcgan", 16),
    ("BiGAN, as published, 128 px", "paper/bigan", 16),
    ("BiGAN, recommended, 128 px", "bigan", 16),
    ("α-GAN, as published, 128 px", "paper/alphagan", 16),
    ("α-GAN, recommended, 128 px", "alphagan", 16),
    ("f-AnoGAN, as published, 64 px", "paper/fanogan", 64),
]
"""Title, configuration and batch size of the default cases."""


IMAGES = {"XR_HAND": 2554, "XR_SHOULDER": 2048, "RsnaPneumonia": 3851}
"""Normal training images of the parts of MURA and of the data sets that the configurations name."""

GPU_OPERATIONS, GPU_STEP = 5e12, 0.02
"""Assumed speed of a GPU: operations per second, and least seconds per step."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="model to measure instead of the default cases, e.g. AlphaGan")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of that model")
    parser.add_argument("--batch", type=int, default=16, help="batch size of that model")
    parser.add_argument("--steps", type=int, default=3, help="steps to measure after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--configs", nargs="*", type=Path, metavar="FILE", help="configurations; without any, all")
    parser.add_argument("--reference", help="reference_root of DeepOneClass")
    parser.add_argument("--published", action="store_true", help="also measure the published steps, rewritten")
    parser.add_argument("--cases", nargs="+", metavar="CONFIG", help="of the default cases these, e.g. paper/vae")
    parser.add_argument("--rounds", type=int, default=1, help="processes per case, in turns with the published step's")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child = json.loads(arguments.child)
        print(json.dumps(measure_published(**child) if "published" in child else measure(**child)))
        return
    if arguments.configs is not None:
        print_costs(arguments.configs or sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("paper/*.yaml")]), arguments)
        return
    if arguments.model:
        settings = {name: value_of(value) for name, value in (item.split("=", 1) for item in arguments.set)}
        cases = [(arguments.model, "", arguments.model, arguments.batch, settings)]
    else:
        chosen = [case for case in CASES if not arguments.cases or case[1] in arguments.cases]
        cases = [
            (title, config, model, batch, settings)
            for title, config, batch in chosen
            for model, settings in [_model_of(config)]
        ]
    machine = platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {arguments.threads} threads\n")
    columns = ["case", "batch", "parameters", "CPU s/step", "products alone", "wall s/step (median, best)"]
    columns.append("peak memory")
    if arguments.published:
        columns += ["published, rewritten: CPU s/step", "peak memory", "ratio"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for title, config, model, batch, settings in cases:
        common = {"batch": batch, "steps": arguments.steps, "threads": arguments.threads}
        theirs = arguments.published and config in STEPS
        ours, published = [], []
        for _ in range(arguments.rounds):
            ours.append(in_a_process(title, {"model": model, "settings": settings, "alone": True, **common}))
            if theirs:
                size = settings["image_size"]
                published.append(in_a_process(title, {"published": config, "image_size": size, **common}))
        cpu, wall = of_all(ours, "cpu"), of_all(ours, "wall")
        row = [title, batch, f"{ours[0]['parameters']:,}", f"{statistics.median(cpu):.2f}"]
        row += [f"{min(one['products'] for one in ours):.2f}", f"{statistics.median(wall):.2f}, {min(wall):.2f}"]
        row.append(f"{max(one['memory'] for one in ours) / 1024**3:.1f} GiB")
        if theirs:
            median = statistics.median(of_all(published, "cpu"))
            memory = max(one["memory"] for one in published) / 1024**3
            row += [f"{median:.2f}", f"{memory:.1f} GiB", f"{statistics.median(cpu) / median:.2f}"]
        print(f"| {' | '.join(map(str, row))} |", flush=True)


def in_a_process(title: str, child: dict[str, Any]) -> dict[str, Any]:
    """What a process of its own measures."""
    command = [sys.executable, __file__, "--child", json.dumps(child)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{title} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def of_all(processes: list[dict[str, Any]], name: str) -> list[float]:
    """The figures of all processes."""
    return [figure for process in processes for figure in process[name]]


def print_costs(configs: list[Path], arguments: argparse.Namespace) -> None:
    """Prints what the training of each configuration costs."""
    import yaml

    print(f"{date.today()}, {platform.processor() or platform.machine()}, {arguments.threads} threads\n")
    print("| configuration | images | epochs | CPU s/image | GFLOP/image | two cores | GPU, reckoned |")
    print("|---|---|---|---|---|---|---|")
    for path in configs:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(config.get("model"), dict) or "class_path" not in config["model"]:
            continue
        name = f"{'paper/' if path.parent.name == 'paper' else ''}{path.stem}"
        model, settings = _of_class(config["model"]), config["model"]["init_args"]
        if model == "DeepOneClass":
            settings["reference_root"] = arguments.reference
        data = config.get(
            "data", {"class_path": "Mura", "init_args": {"body_parts": "XR_HAND", "train_batch_size": 32}}
        )
        images, batch = (
            IMAGES[data["init_args"].get("body_parts", _of_class(data))],
            data["init_args"]["train_batch_size"],
        )
        trainer = config["trainer"]
        epochs = trainer["max_epochs"]
        if epochs < 1:
            epochs = math.ceil(trainer["max_steps"] / (images / batch))
        try:
            # A cost an image hardly depends on the batch; large ones need memory and time.
            row = measure(model, min(batch, 4 if settings["image_size"] >= 256 else 8), settings, arguments.steps,
                          arguments.threads, epochs)  # fmt: skip
        except Exception as error:  # a table with a hole is better than none
            print(
                f"| {name} | {images} | {epochs} | not measured: {' '.join(str(error).split())[:200]} | | | |",
                flush=True,
            )
            continue
        cpu = statistics.median(row["cpu"]) / row["batch"]
        operations = row["operations"] / row["batch"]
        of_a_step = max(GPU_STEP, operations * batch / GPU_OPERATIONS)
        print(
            f"| {name} | {images} | {epochs} | {cpu:.3f} | {operations / 1e9:.2f} | "
            f"{duration(cpu * images * epochs / 2)} | {duration(of_a_step * images / batch * epochs)} |",
            flush=True,
        )


def measure(
    model: str,
    batch: int,
    settings: dict[str, Any],
    steps: int,
    threads: int,
    epochs: int = 1,
    alone: bool = False,
    **trainer_arguments: Any,
) -> dict[str, Any]:
    """Trains a model for a few steps on random images, on the CPU unless told otherwise; the cost of each step.

    With ``alone`` also that of its products, which takes as long as some steps, on the CPU.
    """
    from anomalib.data import ImageBatch
    from lightning.pytorch import Callback, Trainer
    from torch.utils.data import DataLoader
    from torch.utils.flop_counter import FlopCounterMode

    import anomalib_xray.models

    torch.set_num_threads(threads)
    network = getattr(anomalib_xray.models, model)(**settings, evaluator=False, visualizer=False)
    size = network.hparams["image_size"]
    image = torch.rand(batch, 1, size, size).expand(-1, 3, -1, -1).contiguous()
    cost: dict[str, list[float]] = {"cpu": [], "wall": []}
    products = Products() if alone else None
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _NoModules()  # its hooks cannot be within torch.autograd.grad, which a gradient penalty calls

    class Meter(Callback):
        def on_train_batch_start(self, *arguments: object) -> None:
            if arguments[-1] == 0:  # the step that warms up
                counter.__enter__()
                if products is not None:
                    products.__enter__()
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, *arguments: object) -> None:
            cost["cpu"].append(time.process_time() - self.cpu)
            cost["wall"].append(time.perf_counter() - self.wall)
            if arguments[-1] == 0:
                if products is not None:
                    products.__exit__(None, None, None)
                counter.__exit__(None, None, None)

        def on_train_epoch_end(self, trainer: Trainer, *_: object) -> None:
            trainer.should_stop = True
            if products is not None:  # while memory is kept as in the steps
                cost["products"] = [products.seconds()]

    loader = DataLoader([0] * (steps + 1), batch_size=None, collate_fn=lambda _: ImageBatch(image=image.clone()))
    callbacks = trainer_arguments.pop("callbacks", [])
    trainer = Trainer(
        max_epochs=epochs,
        min_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*callbacks, Meter()],
        **{"accelerator": "cpu", **trainer_arguments},
    )
    trainer.fit(network, loader)
    return {
        "cpu": cost["cpu"][1:],
        "wall": cost["wall"][1:],
        **({"products": cost["products"][0]} if alone else {}),
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "operations": counter.get_total_flops(),
        "batch": batch,
        "parameters": sum(weight.numel() for weight in network.model.parameters()),
    }


def measure_published(published: str, batch: int, image_size: int, steps: int, threads: int) -> dict[str, Any]:
    """Makes a few rewritten steps of a published model on random images and returns the cost of each."""
    torch.set_num_threads(threads)
    network, step = STEPS[published](torch.rand(batch, 1, image_size, image_size))
    cost: dict[str, list[float]] = {"cpu": [], "wall": []}
    for _ in range(steps + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        cost["cpu"].append(time.process_time() - cpu)
        cost["wall"].append(time.perf_counter() - wall)
    return {
        "cpu": cost["cpu"][1:],
        "wall": cost["wall"][1:],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(weight.numel() for weight in network.parameters()),
    }


class Products(TorchDispatchMode):
    """Notes the convolutions and matrix products of a step, to measure each of them on its own."""

    aten = torch.ops.aten
    operations = (aten.convolution.default, aten.convolution_backward.default, aten.mm.default, aten.addmm.default,
                  aten.bmm.default, aten.baddbmm.default)  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[Any] = Counter()

    def __torch_dispatch__(self, operation: Any, types: Any, inputs: Any = (), named: Any = None) -> Any:
        """Notes an operation, and the shapes and strides of its inputs, and computes it."""
        if operation in self.operations:
            self.calls[operation, pickle.dumps([_like(x) if isinstance(x, torch.Tensor) else x for x in inputs])] += 1
        return operation(*inputs, **(named or {}))

    @torch.no_grad()
    def seconds(self) -> float:
        """CPU seconds of all of them, the best of three tries each after one that warms up."""
        total = 0.0
        for (operation, inputs), count in self.calls.items():
            made = [_made(x) if isinstance(x, _Like) else x for x in pickle.loads(inputs)]
            tries = []
            for _ in range(4):
                begin = time.process_time()
                operation(*made)
                tries.append(time.process_time() - begin)
            total += count * min(tries[1:])
        return total


class _Like(NamedTuple):
    """Shape and strides of a tensor."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _like(tensor: torch.Tensor) -> _Like:
    return _Like(tuple(tensor.shape), tensor.stride())


def _made(like: _Like) -> torch.Tensor:
    return torch.empty_strided(like.shape, like.strides).fill_(0.5)


def _model_of(config: str) -> tuple[str, dict[str, Any]]:
    """Class name and settings of the model in a configuration."""
    import yaml

    model = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text(encoding="utf-8"))["model"]
    return model["class_path"].rpartition(".")[2], model["init_args"]


class _NoModules:
    """Stands in for the tracker that tells a counter which module an operation belongs to."""

    parents = ("Global",)

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


def _of_class(entry: dict[str, Any]) -> str:
    return str(entry["class_path"]).rpartition(".")[2]


def value_of(text: str) -> Any:
    """The value that a command line gives: as JSON has it, or else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    main()
