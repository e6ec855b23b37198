"""Cost of 2K networks beside one: `DualDistribution` against `ReconstructionAe`, in CPU seconds on one thread.

    python benchmarks/ensemble.py --root phantoms --patients 600 --epochs 5

Both train through anomalib's engine on the same generated hands at 64 pixels, without validation, in one process and in
interleaved rounds; the ratio is that of the medians. Then come the parts: reading the images once, and the pure step on
one batch in memory, where the networks of the ensembles are also tried side by side in one stack (grouped convolutions
and products of batches of matrices, as ``torch.func.vmap`` makes of them).
"""

from __future__ import annotations

import argparse
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("phantoms"), help="folder of the phantoms, made if missing")
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--members", type=int, default=3, help="K: networks of each of the two ensembles")
    parser.add_argument("--backbone", default="ae", choices=["ae", "mem_ae", "ae_u"])
    parser.add_argument("--steps", type=int, default=7, help="rounds of the pure step; 0 leaves it out")
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    networks = 2 * arguments.members
    if arguments.rounds:
        compare_trainings(arguments, networks)
    if arguments.steps:
        compare_steps(arguments, networks)


def compare_trainings(arguments: argparse.Namespace, networks: int) -> None:
    """Prints what whole trainings cost."""
    import anomalib_xray.models as models

    make = {
        "one network": lambda: _one(models, arguments.backbone),
        f"{networks} networks": lambda: models.DualDistribution(backbone=arguments.backbone, members=arguments.members),
    }
    images, seconds = 0, {name: [] for name in make}  # type: dict[str, list[float]]
    train(make["one network"](), arguments, 1)  # warms up: libraries, and the files into the system's memory
    for _ in range(arguments.rounds):
        for name, make_model in make.items():
            images, taken = train(make_model(), arguments, arguments.epochs)
            seconds[name].append(taken)
    print(f"\n{images} images, {arguments.epochs} epochs, batches of {BATCH}, CPU seconds of whole trainings:")
    _print(seconds)
    reading = read_all(arguments)
    print(f"reading all images once: {reading:.1f} s, in every epoch: {reading * arguments.epochs:.1f} s")


def train(model: Any, arguments: argparse.Namespace, epochs: int) -> tuple[int, float]:
    """Trains as ``anomalib train`` does; returns the number of images and the CPU seconds."""
    from anomalib.engine import Engine

    data = _data(arguments)
    data.prepare_data()
    with tempfile.TemporaryDirectory() as folder:
        engine = Engine(
            max_epochs=epochs,
            accelerator="cpu",
            limit_val_batches=0,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        start = time.process_time()
        engine.fit(model, datamodule=data)
        return len(data.train_data), time.process_time() - start


def read_all(arguments: argparse.Namespace) -> float:
    """CPU seconds of reading all training images once, at the model's size."""
    from anomalib_xray.transforms import PadResize

    data = _data(arguments)
    data.setup("fit")
    data.train_data.augmentations = PadResize(64)
    start = time.process_time()
    for index in range(len(data.train_data)):
        data.train_data[index]
    return time.process_time() - start


def compare_steps(arguments: argparse.Namespace, networks: int) -> None:
    """Prints what one update costs without reading and without a trainer."""
    import torch

    torch.manual_seed(0)
    image = torch.rand(networks, BATCH, 1, 64, 64) * 2 - 1
    ways = {
        "one network": _one_after_the_other(image[:1]),
        f"{networks} networks, one after the other": _one_after_the_other(image),
        f"{networks} networks, in one stack": _in_one_stack(image),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(arguments.steps + 1):
        for name, step in ways.items():
            start = time.process_time()
            step()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    print(f"\none update on {BATCH} images a network, CPU seconds:")
    _print(seconds)


def _one_after_the_other(image: Tensor) -> Callable[[], None]:
    """A step of as many networks as there are batches, as the model makes it."""
    import torch

    from anomalib_xray.networks.fc_autoencoder import FcAutoencoder, fc_autoencoder_loss

    members = torch.nn.ModuleList([FcAutoencoder() for _ in image])
    optimizer, mask = torch.optim.Adam(members.parameters(), lr=5e-4, fused=True), torch.ones_like(image[0])

    def step() -> None:
        optimizer.zero_grad()
        for network, own in zip(members, image, strict=True):
            fc_autoencoder_loss(network(own), own, mask).backward()
        optimizer.step()

    return step


def _in_one_stack(image: Tensor) -> Callable[[], None]:
    """The same of networks whose weights lie in one tensor."""
    import torch
    from torch.func import functional_call, stack_module_state, vmap

    from anomalib_xray.networks.fc_autoencoder import FcAutoencoder, fc_autoencoder_loss

    weights, buffers = stack_module_state([FcAutoencoder() for _ in image])
    network = FcAutoencoder().to("meta")
    optimizer, mask = torch.optim.Adam(weights.values(), lr=5e-4, fused=True), torch.ones_like(image[0])

    def loss(weights: Any, buffers: Any, own: Tensor) -> Tensor:
        return fc_autoencoder_loss(functional_call(network, (weights, buffers), (own,)), own, mask)

    def step() -> None:
        optimizer.zero_grad()
        vmap(loss)(weights, buffers, image).sum().backward()
        optimizer.step()

    return step


def _one(models: Any, backbone: str) -> Any:
    return {"ae": models.ReconstructionAe, "mem_ae": models.MemAe, "ae_u": models.AeU}[backbone]()


def _data(arguments: argparse.Namespace) -> Any:
    from anomalib_xray.data import Phantom

    # Read in this process, so that its CPU seconds count.
    return Phantom(
        root=arguments.root,
        patients=arguments.patients,
        positive_share=0.15,
        kinds=["plate", "screw", "ring", "lysis", "mass", "extra_phalanx"],
        train_batch_size=BATCH,
        num_workers=0,
    )


def _print(seconds: dict[str, list[float]]) -> None:
    """Prints medians, and the ratio to the first."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    first = next(iter(medians.values()))
    print("| | CPU-s, median | least | times one network |\n|---|---|---|---|")
    for name, median in medians.items():
        print(f"| {name} | {median:.3g} | {min(seconds[name]):.3g} | {median / first:.2f} |")


if __name__ == "__main__":
    main()
