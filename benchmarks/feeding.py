"""Cost of feeding a training, of memory, and of the cache of its pictures, through ``anomalib train`` itself.

    python benchmarks/feeding.py epoch      # CPU time of an epoch / CPU time of the bare training steps of its batches
    python benchmarks/feeding.py plain      # wall time of a plain loop / of ReconstructionAe through anomalib train
    python benchmarks/feeding.py memory     # peak memory of a training on 5,000 pictures of 512 pixels
    python benchmarks/feeding.py quality    # AUROC of three models with and without the cache

Each table is of one run, in which what is compared alternates, so that other work on the machine meets both. Sizes are
options, such as ``--pictures 60 --epochs 2``; ``--set name=value`` lays a setting over the configuration of all runs,
such as ``--set data.init_args.cache_gib=0``. Pictures are generated once into ``--folder``, and what ``quality`` has
trained there is not trained again.

``epoch``: epochs from the second on, in CPU seconds of the training process and of those that read for it. Bare
steps are the forward passes, losses, backward passes and optimisers of a copy of the model, on the pre-processed
batches of the first epoch, in memory; they are repeated after every epoch. ``plain``: the loop that MedIAnomaly's
autoencoder is trained with (64 pixels, batches of 64, Adam at 1e-3, hidden layers of 1024; written anew from its
description), with all pictures in one tensor; no augmentation and no validation in either. ``memory``: proportional
set size, in which pages that processes share count once. ``quality``: 95 % intervals from patients drawn with
replacement; the difference is drawn in pairs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from anomalib_xray.io.progress import reported, status, track
from anomalib_xray.io.text import read_json, read_yaml, write_json, write_yaml
from training_step import value_of

ROOT = Path(__file__).parents[1]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ReconstructionAe, 64 px": (
        "reconstruction_ae", {"model.init_args.image_size": 64, "data.init_args.train_batch_size": 64},
    ),
    "Cae, advanced, 128 px": ("cae", {"model.init_args.image_size": 128, "model.init_args.augmentation": "advanced"}),
    "AlphaGan, 64 px, width 16": ("alphagan", {"model.init_args.image_size": 64, "model.init_args.width": 16}),
    "Ganomaly of anomalib, 256 px": (
        "", {"model.class_path": "anomalib.models.Ganomaly", "model.init_args.n_features": 16},
    ),
}  # fmt: skip
"""Configuration of each case of ``epoch``, and what is laid over it."""

QUALITY = ("cae", "vae", "reconstruction_ae")
VALIDATION, TEST = 40, 40
"""Pictures of each table's other splits."""


class Meter(Callback):
    """Writes the CPU seconds of each epoch from the second on, of its validation, and of the bare steps.

    Args:
        out: File for them.
    """

    def __init__(self, out: str) -> None:
        super().__init__()
        self.out, self.batches, self.epochs = Path(out), list[Any](), list[dict[str, float]]()
        self.bare: BareSteps | None = None
        self.checkpoints = 0.0

    def on_fit_start(self, trainer: Trainer, _module: LightningModule) -> None:
        """Puts a clock around the writing of checkpoints."""
        save = trainer.save_checkpoint

        def timed(*arguments: Any, **options: Any) -> None:
            began = time.process_time()
            save(*arguments, **options)
            self.checkpoints += time.process_time() - began

        trainer.save_checkpoint = timed  # type: ignore[method-assign]  # for this one training

    def on_train_batch_end(
        self, trainer: Trainer, _module: LightningModule, _outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keeps the batches of the first epoch, after their pre-processing."""
        if trainer.current_epoch == 0:
            self.batches.append(batch.image.clone())

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ends the account of the epoch before, makes the bare steps, and begins the next account."""
        if self.bare is not None:
            parts = {"validation": self.validation, "checkpoints": self.checkpoints, "bare": self.cost}
            self.epochs.append(self._since() | parts)
            write_json(self.out, self.epochs)
        if trainer.current_epoch == 0:
            return
        self.bare = self.bare or BareSteps(pl_module)
        began = time.process_time()
        for image in self.batches:
            self.bare.step(image)
        self.cost, self.validation, self.checkpoints = time.process_time() - began, 0.0, 0.0
        self.began = {"main": time.process_time(), "readers": of_readers()}

    def _since(self) -> dict[str, float]:
        return {"main": time.process_time() - self.began["main"], "readers": of_readers() - self.began["readers"]}

    def on_validation_start(self, *_: Any) -> None:
        """Starts the clock of a validation."""
        self.validation_began, self.saved_before = time.process_time(), self.checkpoints

    def on_validation_end(self, *_: Any) -> None:
        """Stops the clock of a validation, of which a checkpoint is no part."""
        self.validation = time.process_time() - self.validation_began - (self.checkpoints - self.saved_before)


class BareSteps:
    """The training steps of a model's copy without a trainer: no log, no hooks, no schedules."""

    def __init__(self, module: Any) -> None:
        from copy import deepcopy

        trainer, module._trainer = module._trainer, None
        self.copy = deepcopy(module)
        module._trainer = trainer
        found = self.copy.configure_optimizers()
        found = found if isinstance(found, list) else [found]
        self.optimizers = [one["optimizer"] if isinstance(one, dict) else one for one in found]
        nothing: Any = lambda *_, **__: None  # noqa: E731
        self.copy.log = self.copy.log_dict = self.copy.lr_schedulers = nothing
        self.copy.optimizers = lambda: self.optimizers
        self.copy.manual_backward = lambda loss, **options: loss.backward(**options)

    def step(self, image: Any) -> None:
        """Trains on pre-processed images."""
        from anomalib.data import ImageBatch

        if self.copy.automatic_optimization:
            self.optimizers[0].zero_grad()
        loss = self.copy.training_step(ImageBatch(image=image.clone()), 0)
        if self.copy.automatic_optimization:
            (loss["loss"] if isinstance(loss, dict) else loss).backward()
            self.optimizers[0].step()


def of_readers() -> float:
    """CPU seconds of the processes that this one has started, those that have ended included."""
    import multiprocessing
    import resource

    living = 0.0
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        living += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return living + ended.ru_utime + ended.ru_stime


class Clock(Callback):
    """Writes the wall seconds of a training from its start with no data read, and of each epoch.

    Args:
        out: File for them.
    """

    def __init__(self, out: str) -> None:
        super().__init__()
        self.out, self.marks = Path(out), list[float]()

    def setup(self, _trainer: Trainer, _module: LightningModule, stage: str) -> None:
        """Starts the clock."""
        if stage == "fit":
            self.marks.append(time.perf_counter())

    def on_train_epoch_end(self, *_: Any) -> None:
        """Marks the end of an epoch."""
        self.marks.append(time.perf_counter())

    def on_fit_end(self, *_: Any) -> None:
        """Writes the marks."""
        write_json(self.out, {"marks": self.marks, "all": time.perf_counter() - self.marks[0]})


def train(
    config: str, changes: dict[str, Any], out: Path, callback: str = "", threads: int = 1
) -> subprocess.Popen[bytes]:
    """Starts ``anomalib train`` with a configuration and changed settings, in a folder for its results."""
    content: dict[str, Any] = read_yaml(ROOT / "configs" / f"{config}.yaml") if config else {}
    for name, value in changes.items():
        *path, last = name.split(".")
        part = content
        for key in path:
            part = part.setdefault(key, {})
        part[last] = value
    content["default_root_dir"] = str(out)
    trainer = content.setdefault("trainer", {})
    trainer |= {"accelerator": "cpu", "enable_progress_bar": False, "num_sanity_val_steps": 0}
    if callback:
        entry = {"class_path": f"feeding.{callback}", "init_args": {"out": str(out / "costs.json")}}
        trainer["callbacks"] = [*trainer.get("callbacks", []), entry]
    out.mkdir(parents=True, exist_ok=True)
    write_yaml(out / "train.yaml", content)
    search = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    command = Path(sys.executable).with_name("anomalib")
    with (out / "log.txt").open("w", encoding="utf-8") as log:
        return subprocess.Popen(
            [command, "train", "--config", out / "train.yaml"], stdout=log, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": search, "OMP_NUM_THREADS": str(threads)},
        )  # fmt: skip


def wait(process: subprocess.Popen[bytes], out: Path) -> None:
    if process.wait():
        sys.exit(f"The training failed; see {out / 'log.txt'}.")


def phantoms(folder: Path, pictures: int) -> Path:
    """The table of generated hands: so many normal ones to train on, and some to validate and to test."""
    from anomalib_xray.phantom import write_phantoms
    from anomalib_xray.phantom.dataset import Arguments, list_images

    patients, images, normal = 0, list[Any](), list[str]()
    while len(normal) < pictures + VALIDATION + TEST // 2:
        patients += 10
        images = list_images(Arguments(patients=patients))
        normal = [image.path for image in images if not image.positive]
    root = write_phantoms(folder / f"phantoms{pictures}", patients=patients)
    abnormal = [image.path for image in images if image.positive][: TEST // 2]
    splits = {
        "train": normal[:pictures],
        "val": normal[pictures : pictures + VALIDATION],
        "test": normal[-TEST // 2 :] + abnormal,
    }
    return write_table(
        root / "feeding.csv", [(path, int(path in abnormal), split) for split in splits for path in splits[split]]
    )


def cheap_pictures(folder: Path, pictures: int) -> Path:
    """The table of blurred noise within a disc, 512 pixels wide and high, as quickly drawn as written."""
    import cv2
    import numpy as np

    from anomalib_xray.io.write import write_png

    root, disc = folder / f"noise{pictures}", np.hypot(*np.mgrid[-256:256, -256:256]) < 240
    rows = []
    for number in track(range(pictures + VALIDATION + TEST), "Drawing pictures"):
        split = "train" if number < pictures else "val" if number < pictures + VALIDATION else "test"
        path = root / f"{number}.png"
        if not path.is_file():
            noise = np.random.default_rng(number).integers(1, 256, (32, 32), dtype=np.uint8)
            write_png(path, cv2.resize(noise, (512, 512)).clip(1) * disc.astype(np.uint8))
        rows.append((path.name, int(split == "test" and number % 2), split))
    return write_table(root / "feeding.csv", rows)


def write_table(table: Path, rows: list[tuple[str, int, str]]) -> Path:
    from anomalib_xray.io.write import write_atomically

    lines = [f"{path},{path},{label},{split}" for path, label, split in rows]
    write_atomically(table, "\n".join(["image_path,patient,label,split", *lines, ""]))
    return table


def data_of(table: Path) -> dict[str, Any]:
    return {
        "data.class_path": "anomalib_xray.data.Radiographs",
        "data.init_args": {"table": str(table), "num_workers": 2},
    }


def epoch(arguments: argparse.Namespace) -> None:
    data = data_of(phantoms(arguments.folder, arguments.pictures))
    print(
        "| case | bare steps | epoch: process | readers | of it validation | of it checkpoints | epoch ÷ bare |"
        " without both |\n|---|---|---|---|---|---|---|---|"
    )
    for title, (config, changes) in CASES.items():
        if arguments.case and not any(word.lower() in title.lower() for word in arguments.case):
            continue
        out = arguments.folder / "epoch" / title.split()[0].strip(",").replace("'", "")
        settings = {**data, **changes, "trainer.max_epochs": arguments.epochs + 2, **arguments.set}
        with status(f"Training {title}"):
            wait(train(config, settings, out, "Meter", arguments.threads), out)
        rows = read_json(out / "costs.json")
        bare, main, readers, validation, checkpoints = (
            statistics.mean(row[name] for row in rows)
            for name in ("bare", "main", "readers", "validation", "checkpoints")
        )
        print(
            f"| {title} | {bare:.2f} s | {main:.2f} s | {readers:.2f} s | {validation:.2f} s | {checkpoints:.2f} s | "
            f"{(main + readers) / bare:.2f} | {(main + readers - validation - checkpoints) / bare:.2f} |",
            flush=True,
        )


def plain(arguments: argparse.Namespace) -> None:
    table = phantoms(arguments.folder, arguments.pictures)
    init = {"image_size": 64, "hidden": 1024, "masked": False, "learning_rate": 1e-3, "schedule": "constant"}
    changes = {**data_of(table), **{f"model.init_args.{name}": value for name, value in init.items()}}
    changes |= {
        "data.init_args.train_batch_size": 64,
        "trainer.max_epochs": arguments.epochs,
        "trainer.callbacks": [],  # the plain loop does not keep the best weights either
        "trainer.check_val_every_n_epoch": arguments.epochs + 1,
        **arguments.set,
    }
    found: dict[str, list[list[float]]] = {"plain": [], "ours": []}
    for turn in range(arguments.repeats):
        out = arguments.folder / "plain" / str(turn)
        out.mkdir(parents=True, exist_ok=True)
        with status(f"Training, turn {turn + 1} of {arguments.repeats}"):
            loop = [
                sys.executable,
                __file__,
                "loop",
                "--folder",
                out,
                "--table",
                table,
                "--epochs",
                str(arguments.epochs),
            ]
            environment = {**os.environ, "OMP_NUM_THREADS": str(arguments.threads)}
            subprocess.run(loop, check=True, env=environment)
            wait(train("reconstruction_ae", changes, out, "Clock", arguments.threads), out)
        for name, file in (("plain", "loop.json"), ("ours", "costs.json")):
            costs = read_json(out / file)
            marks = costs["marks"]
            found[name].append([(marks[-1] - marks[1]) / (len(marks) - 2), costs["all"]])
    print("| | an epoch, from the second | whole training, reading included |\n|---|---|---|")
    for name, values in found.items():
        of_epoch, whole = (statistics.median(value[place] for value in values) for place in (0, 1))
        print(f"| {name} | {of_epoch:.3f} s | {whole:.1f} s |")
    ratios = [
        statistics.median(ours[place] / own[place] for ours, own in zip(found["ours"], found["plain"], strict=True))
        for place in (0, 1)
    ]
    print(f"| ours ÷ plain, median of {arguments.repeats} turns | {ratios[0]:.2f} | {ratios[1]:.2f} |")


def loop(arguments: argparse.Namespace) -> None:
    """The plain loop: every picture in one tensor, and nothing but steps."""
    import cv2
    import numpy as np
    import pandas as pd
    import torch
    from torch import nn

    def block(layer: type[nn.Module], inputs: int, outputs: int) -> list[nn.Module]:
        return [layer(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    def dense(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]

    torch.manual_seed(0)
    marks = [time.perf_counter()]
    table = pd.read_csv(arguments.table)
    paths = table.loc[table["split"] == "train", "image_path"]
    read = (cv2.imread(str(arguments.table.parent / path), cv2.IMREAD_GRAYSCALE) for path in paths)
    small = np.stack([cv2.resize(picture, (64, 64)) for picture in read])
    data = torch.from_numpy(small)[:, None].float().div(127.5).sub(1)
    down, up = nn.Conv2d, nn.ConvTranspose2d
    network = nn.Sequential(
        *block(down, 1, 16), *block(down, 16, 32), *block(down, 32, 64), *block(down, 64, 64),
        nn.Flatten(), *dense(1024, 1024), nn.Linear(1024, 16), *dense(16, 1024), nn.Linear(1024, 1024),
        nn.Unflatten(1, (64, 4, 4)),
        *block(up, 64, 64), *block(up, 64, 32), *block(up, 32, 16), up(16, 1, 4, 2, 1, bias=False),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
    for _ in range(arguments.epochs):
        for chosen in torch.randperm(len(data)).split(64):
            batch = data[chosen]
            optimizer.zero_grad()
            loss = (network(batch) - batch).square().mean()
            loss.backward()
            optimizer.step()
        marks.append(time.perf_counter())
    write_json(arguments.folder / "loop.json", {"marks": marks, "all": time.perf_counter() - marks[0]})


def memory(arguments: argparse.Namespace) -> None:
    data = data_of(cheap_pictures(arguments.folder, arguments.pictures))
    out = arguments.folder / "memory"
    settings = {
        **data,
        "model.init_args.image_size": arguments.size,
        "trainer.max_epochs": arguments.epochs,
        **arguments.set,
    }
    peaks = dict.fromkeys(("Pss", "Pss_Anon", "Pss_Shmem", "Pss_File", "own"), 0)
    process = train("cae", settings, out, threads=arguments.threads)
    with status(f"Training on {arguments.pictures} pictures"):
        while process.poll() is None:
            sizes = [size for pid in family(process.pid) if (size := sizes_of(pid))]
            now = {name: sum(size.get(name, 0) for size in sizes) for name in peaks}
            now["own"] = now["Pss_Anon"] + now["Pss_Shmem"]
            peaks = {name: max(value, now[name]) for name, value in peaks.items()}
            time.sleep(0.2)
    wait(process, out)
    named = {"Pss": "all", "own": "without pages of files", "Pss_File": "pages of files", "Pss_Shmem": "shared memory"}
    found = ", ".join(f"{title} {peaks[name] / 2**20:.2f} GiB" for name, title in named.items())
    print(f"Cae, {arguments.size} px, {arguments.pictures} pictures, {arguments.epochs} epochs, peaks: {found}")


def family(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:  # it has ended
        return
    for child in children:
        yield from family(int(child))


def sizes_of(pid: int) -> dict[str, int]:
    """Sizes of a process in kibibytes, nothing of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    except OSError:
        return {}
    return {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}


def quality(arguments: argparse.Namespace) -> None:
    import pandas as pd

    from anomalib_xray.evaluation.bootstrap import interval, patient_weights
    from anomalib_xray.evaluation.ranking import Ranking

    data = read_yaml(arguments.data)["data"]
    if arguments.root is not None:
        data["init_args"]["root"] = str(arguments.root)
    elif data["class_path"].endswith("Phantom"):
        data["init_args"]["root"] = str(arguments.folder / "phantoms")
    base = {"data": data, "model.init_args.image_size": arguments.size, "trainer.max_epochs": arguments.epochs}
    print("| model | seed | without the cache | with it | difference |\n|---|---|---|---|---|")
    for model in arguments.models:
        for seed in arguments.seeds:
            found, weights = [], None
            for budget in (0, 1):
                out = arguments.folder / "quality" / Path(data["init_args"]["root"]).name / f"{model}-{seed}-{budget}"
                settings = {**base, "model.init_args.seed": seed, "data.init_args.cache_gib": budget, **arguments.set}
                if not list(out.rglob("latest/scores.csv")):
                    with status(f"Training {model}, seed {seed}, {'with' if budget else 'without'} the cache"):
                        wait(train(model, settings, out, threads=arguments.threads), out)
                (path,) = out.rglob("latest/scores.csv")
                table = pd.read_csv(path, dtype={"patient": str})
                weights = patient_weights(table["patient"]) if weights is None else weights
                ranking = Ranking(table["label"], table["pred_score"])
                found.append((float(ranking.auroc()[0]), ranking.auroc(weights)))
            (before, before_drawn), (after, after_drawn) = found
            estimates = [interval(*found[0]), interval(*found[1]), interval(after - before, after_drawn - before_drawn)]
            cells = " | ".join(f"{value:.3f} ({low:.3f} to {high:.3f})" for value, low, high in estimates)
            print(f"| {model} | {seed} | {cells} |", flush=True)


COMMANDS = {
    "epoch": (epoch, 300, 4),
    "plain": (plain, 600, 20),
    "memory": (memory, 5000, 2),
    "quality": (quality, 0, 40),
    "loop": (loop, 0, 1),
}
"""Function of each command, and its numbers of pictures and of epochs by default; ``loop`` is a part of ``plain``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--folder", type=Path, default=Path("feeding"), help="for pictures and results (./feeding)")
    parser.add_argument("--pictures", type=int, help="training pictures")
    parser.add_argument("--epochs", type=int, help="epochs that are trained, or measured")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in every process (1)")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings laid over all others")
    parser.add_argument("--case", nargs="*", help="epoch: words of the cases that are measured; without any, all")
    parser.add_argument("--repeats", type=int, default=3, help="plain: turns (3)")
    parser.add_argument("--size", type=int, default=128, help="memory, quality: side of images in pixels (128)")
    parser.add_argument("--data", type=Path, default=ROOT / "configs/data/phantom.yaml", help="quality: configuration")
    parser.add_argument("--root", type=Path, help="quality: folder of the data set, if not the configuration's")
    parser.add_argument("--models", nargs="*", default=QUALITY, help="quality: names of configurations")
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1], help="quality: seeds of the models")
    parser.add_argument("--table", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    function, pictures, epochs = COMMANDS[arguments.command]
    arguments.pictures, arguments.epochs = arguments.pictures or pictures, arguments.epochs or epochs
    pairs = (item.split("=", 1) for item in arguments.set)
    arguments.set = {name: value_of(value) for name, value in pairs}
    arguments.folder = arguments.folder.absolute()
    with reported():
        function(arguments)


if __name__ == "__main__":
    main()
