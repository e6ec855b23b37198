"""Cost of one training step: CPU seconds, wall seconds, peak memory, parameters.

    python benchmarks/training_step.py                         # the cases of the published table
    python benchmarks/training_step.py Cae --set image_size=256 --batch 8

Every case runs in a process of its own, on two threads, through Lightning's trainer as in ``anomalib train``, after one
step that warms up. Peak memory is the process's, so it includes torch itself. Wall time depends on what else the
machine does; CPU seconds are the robust figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="model to measure instead of the default cases, e.g. AlphaGan")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of that model")
    parser.add_argument("--batch", type=int, default=16, help="batch size of that model")
    parser.add_argument("--steps", type=int, default=3, help="steps to measure after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(**json.loads(arguments.child))))
        return
    if arguments.model:
        settings = {name: _value(value) for name, value in (item.split("=", 1) for item in arguments.set)}
        cases = [(arguments.model, arguments.model, arguments.batch, settings)]
    else:
        cases = [(title, *_model_of(config), batch) for title, config, batch in CASES]
        cases = [(title, model, batch, settings) for title, model, settings, batch in cases]
    machine = platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {arguments.threads} threads\n")
    print("| case | batch | parameters | CPU s/step | wall s/step (median, best) | peak memory |")
    print("|---|---|---|---|---|---|")
    for title, model, batch, settings in cases:
        child = {
            "model": model,
            "batch": batch,
            "settings": settings,
            "steps": arguments.steps,
            "threads": arguments.threads,
        }
        done = subprocess.run(
            [sys.executable, __file__, "--child", json.dumps(child)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{title} failed:\n{done.stderr}")
        row = json.loads(done.stdout.strip().splitlines()[-1])
        print(
            f"| {title} | {batch} | {row['parameters']:,} | {statistics.median(row['cpu']):.1f} | "
            f"{statistics.median(row['wall']):.1f}, {min(row['wall']):.1f} | {row['memory'] / 1024**3:.1f} GiB |",
            flush=True,
        )


def measure(model: str, batch: int, settings: dict[str, Any], steps: int, threads: int) -> dict[str, Any]:
    """Trains a model for a few steps on random images and returns the cost of each."""
    import torch
    from anomalib.data import ImageBatch
    from lightning.pytorch import Callback, Trainer
    from torch.utils.data import DataLoader

    import anomalib_xray.models

    torch.set_num_threads(threads)
    network = getattr(anomalib_xray.models, model)(**settings, evaluator=False, visualizer=False)
    size = network.hparams["image_size"]
    image = torch.rand(batch, 1, size, size).expand(-1, 3, -1, -1).contiguous()
    cost: dict[str, list[float]] = {"cpu": [], "wall": []}

    class Meter(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            self.wall, self.cpu = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, *_: object) -> None:
            cost["cpu"].append(time.process_time() - self.cpu)
            cost["wall"].append(time.perf_counter() - self.wall)

    loader = DataLoader([0] * (steps + 1), batch_size=None, collate_fn=lambda _: ImageBatch(image=image.clone()))
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Meter()],
    )
    trainer.fit(network, loader)
    return {
        "cpu": cost["cpu"][1:],
        "wall": cost["wall"][1:],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": sum(weight.numel() for weight in network.model.parameters()),
    }


def _model_of(config: str) -> tuple[str, dict[str, Any]]:
    """Class name and settings of the model in a configuration."""
    import yaml

    model = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text(encoding="utf-8"))["model"]
    return model["class_path"].rpartition(".")[2], model["init_args"]


def _value(text: str) -> Any:  # noqa: ANN401  # whatever JSON holds
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


if __name__ == "__main__":
    main()
