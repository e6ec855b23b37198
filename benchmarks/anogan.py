"""Speed of AnoGan and FAnoGan: images per second, and the gain of the encoder over the search.

    python benchmarks/anogan.py
    python benchmarks/anogan.py --models AnoGan --rounds 5

Both score the same random images with untrained networks of their recommended settings; the time does not depend on
their weights. The models take turns round by round, so that other work on the machine meets both, and the median of
the rounds counts.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from datetime import date
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parents[1] / "configs"

STEPS = 100
"""Steps of the search."""

LEAST_SECONDS = 1.0
"""Shortest round of a model: a single batch would be too short to be measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["AnoGan", "FAnoGan"], metavar="MODEL")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8, help="images scored at a time")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds after one that warms up")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    import torch

    torch.set_num_threads(arguments.threads)
    networks = {name: network_of(name, arguments.image_size) for name in arguments.models}
    images = torch.rand(arguments.batch, 1, arguments.image_size, arguments.image_size).expand(-1, 3, -1, -1)
    rates: dict[str, list[float]] = {name: [] for name in networks}
    for index in range(arguments.rounds + 1):
        for name, network in networks.items():
            rate = images_a_second(network, images)
            if index:
                rates[name].append(rate)

    machine = platform.processor() or platform.machine()
    print(f"{date.today()}, {machine}, {os.cpu_count()} cores, {arguments.threads} threads, {arguments.image_size} px,")
    print(f"batches of {arguments.batch}, {STEPS} steps of search, {arguments.rounds} rounds\n")
    print("| model | parameters | images/s (median, best) |")
    print("|---|---|---|")
    for name, found in rates.items():
        parameters = sum(weight.numel() for weight in networks[name].parameters())
        print(f"| {name} | {parameters:,} | {statistics.median(found):.1f}, {max(found):.1f} |")
    if len(rates) > 1:
        first, second = arguments.models[:2]
        ratio = statistics.median(b / a for a, b in zip(rates[first], rates[second], strict=True))
        print(f"\n{second} scores {ratio:.0f} times as many images a second as {first}.")


def network_of(name: str, image_size: int) -> Any:
    """The torch module of a model with its recommended settings and this size, untrained, in evaluation."""
    import yaml

    import anomalib_xray.models

    model = yaml.safe_load((CONFIGS / f"{name.lower()}.yaml").read_text(encoding="utf-8"))["model"]
    settings: dict[str, Any] = {**model["init_args"], "image_size": image_size}
    if name == "AnoGan":
        settings["search_steps"] = STEPS
    return getattr(anomalib_xray.models, name)(**settings, evaluator=False, visualizer=False).model.eval()


def images_a_second(network: Any, images: Any) -> float:
    """Scores images as evaluation does, again and again for at least a second."""
    import torch

    scored, start = 0, time.perf_counter()
    while time.perf_counter() < start + LEAST_SECONDS:
        with torch.inference_mode():
            network(images)
        scored += len(images)
    return scored / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
