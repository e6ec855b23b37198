"""Accuracy of the preparation: on phantoms, whose truth is known, and on real hands, for visual inspection.

    python benchmarks/preparation.py
    python benchmarks/preparation.py --hands PATH/TO/hands/images --out hands_prepared
    python benchmarks/preparation.py --arms PATH/TO/fracatlas_arms

Each row runs configs/preparation/full.yaml up to the step that it measures, markers and inverted pictures included.
With --arms only FracAtlas is measured: a folder with table.csv (image_path, mask_path, multiscan, hand_seen), its
images and its lesions' masks. The figures stand in docs/results/preparation.md; speed and scale are measured by
benchmarks/preparation_scale.py.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.progress import track

from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.phantom import RAW, Phantom, SceneOptions, render_phantom
from anomalib_xray.preparation.mapping import to_original, to_prepared
from anomalib_xray.preparation.pipeline import Pipeline, Prepared
from anomalib_xray.preparation.report import print_summary
from anomalib_xray.preparation.runner import run
from anomalib_xray.preparation.sources import find_sources
from anomalib_xray.preparation.step import Mask

CONFIGS = Path(__file__).parents[1] / "configs" / "preparation"
CROSSED = 10  # pixels by which a corner of the crop may miss the carrier's

WITH_CARRIER = dataclasses.replace(RAW, carrier=1.0)
WITHOUT_CARRIER = dataclasses.replace(RAW, carrier=0.0)
WITH_MARKER = dataclasses.replace(RAW, marker=1.0)
ONE_HAND = SceneOptions(prepared=False, marker=0.8, inverted=0.1)
TWO_HANDS = dataclasses.replace(ONE_HAND, second_hand=1.0)
TOUCHING = dataclasses.replace(TWO_HANDS, touching=1.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=42, help="seed of the phantoms")
    parser.add_argument("--workers", type=int, default=2, help="processes that work at once")
    parser.add_argument("--hands", type=Path, help="folder of real hands, one hand a picture, to prepare as well")
    parser.add_argument("--out", type=Path, default=Path("hands_prepared"), help="where to put the prepared real hands")
    parser.add_argument("--arms", type=Path, help="folder of FracAtlas with table.csv; the phantoms are left out then")
    arguments = parser.parse_args()
    console = Console(markup=False, highlight=False)
    if arguments.arms is not None:
        for line in arms(arguments.arms, arguments.workers):
            console.print(f"arms: {line}", soft_wrap=True)
        return
    for title, lines in (
        ("carrier", carriers(arguments.seed, arguments.workers)),
        ("marker", markers(arguments.seed, arguments.workers)),
        ("foreground", foregrounds(arguments.seed, arguments.workers)),
        ("hands", hands(arguments.seed, arguments.workers)),
    ):
        for line in lines:
            console.print(f"{title}: {line}", soft_wrap=True)
    if arguments.hands is not None:
        real_hands(arguments.hands, arguments.out, arguments.workers)


def carriers(seed: int, workers: int) -> Iterator[str]:
    found = list(measured(partial(carrier, WITH_CARRIER), seed, 80, workers))
    errors = [error for _, error in found if error is not None]
    hits = sum(error <= CROSSED for error in errors)
    yield f"{hits} of 80 found, corners off by {np.median(errors):.1f} px (median), {max(errors):.1f} px (largest)"
    missed = [number for number, (_, error) in enumerate(found) if error is None or error > CROSSED]
    yield f"missed or off: {missed}"
    without = list(measured(partial(carrier, WITHOUT_CARRIER), seed + 1, 80, workers))
    yield f"{sum(cropped for cropped, _ in without)} false crops of 80 pictures without a carrier"


def carrier(options: SceneOptions, seed: list[int]) -> tuple[bool, float | None]:
    """Whether a phantom was cropped, and by how many pixels the crop's worst corner misses the carrier's."""
    phantom = drawn(options, seed)
    (prepared,) = up_to("carrier_crop").prepare(phantom.image)
    cropped = bool(prepared.history[-1].plan.parameters)
    if not cropped or phantom.carrier_corners is None:
        return cropped, None
    height, width = prepared.image.shape
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)[None]
    back = cv2.perspectiveTransform(corners, np.linalg.inv(prepared.matrix))[0]
    distances = np.linalg.norm(back[:, None] - np.array(phantom.carrier_corners)[None], axis=2)
    return cropped, float(distances.min(axis=0).max())


def markers(seed: int, workers: int) -> Iterator[str]:
    found = list(measured(partial(marker, WITH_MARKER), seed + 2, 120, workers))
    removed = [gone for row in found for gone in row[0]]
    touched = [row[1] for row in found]
    yield f"{sum(removed)} of {len(removed)} removed ({np.mean(removed):.3f})"
    yield f"{np.mean(touched):.5f} of the hands' pixels touched (worst picture {max(touched):.4f})"
    yield f"pictures with a marker left: {[number for number, row in enumerate(found) if not all(row[0])]}"


def marker(options: SceneOptions, seed: list[int]) -> tuple[list[bool], float]:
    """For each marker of a phantom whether it is gone, and the share of the hands' pixels that changed."""
    phantom = drawn(options, seed)
    (before,) = up_to("marker_removal", before=True).prepare(phantom.image)
    (after,) = up_to("marker_removal").prepare(phantom.image)
    changed = before.image != after.image
    hand = moved(phantom.foreground, before)
    gone = []
    for box in phantom.marker_boxes:
        lead = moved(lead_pixels(phantom, box), before) & ~hand
        if lead.any():  # else it was cropped away with the carrier's surroundings, or lies behind the hand
            gone.append(bool(changed[lead].mean() >= 0.8))
    return gone, float(changed[hand].mean())


def lead_pixels(phantom: Phantom, box: tuple[int, int, int, int]) -> Mask:
    """The bright pixels in a marker's box, (H, W)."""
    x0, y0, x1, y1 = box
    image = 255 - phantom.image if phantom.inverted else phantom.image
    threshold, _ = cv2.threshold(np.ascontiguousarray(image[y0:y1, x0:x1]), 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    lead = np.zeros(image.shape, np.bool_)
    lead[y0:y1, x0:x1] = image[y0:y1, x0:x1] > threshold
    return lead


def foregrounds(seed: int, workers: int) -> Iterator[str]:
    found = np.array(list(measured(partial(foreground, RAW), seed + 3, 120, workers)))
    yield f"IoU {found.mean():.4f} (mean), {np.quantile(found, 0.1):.4f} (tenth percentile), {found.min():.4f} (worst)"
    yield f"below .95: {[f'{number}: {value:.3f}' for number, value in enumerate(found) if value < 0.95]}"


def foreground(options: SceneOptions, seed: list[int]) -> float:
    """Intersection over union of a phantom's foreground and the one found."""
    phantom = drawn(options, seed)
    (prepared,) = up_to("foreground").prepare(phantom.image)
    true, found = moved(phantom.foreground, prepared), prepared.image > 0
    return float((true & found).sum() / (true | found).sum())


def hands(seed: int, workers: int) -> Iterator[str]:
    apart = list(measured(partial(split, TWO_HANDS), seed + 4, 80, workers))
    touching = list(measured(partial(split, TOUCHING), seed + 5, 20, workers))
    single = list(measured(partial(split, ONE_HAND), seed + 6, 100, workers))
    yield f"two: {sum(apart)} of 80 right, {sum(touching)} of 20 that touch"
    yield f"one: {sum(single)} of 100 right"
    wrong = {
        "apart": [number for number, right in enumerate(apart) if not right],
        "touching": [number for number, right in enumerate(touching) if not right],
        "one": [number for number, right in enumerate(single) if not right],
    }
    yield f"wrong: {wrong}"


def split(options: SceneOptions, seed: list[int]) -> bool:
    """Whether each hand of a phantom became one picture that shows it and little else."""
    phantom = drawn(options, seed)
    found = up_to("hands").prepare(phantom.image)
    return len(found) == len(phantom.hand_boxes) and all(
        overlap(extent(prepared), box) >= 0.85 for prepared, box in zip(found, sorted(phantom.hand_boxes), strict=True)
    )


def extent(prepared: Prepared) -> tuple[float, ...]:
    """Box x0, y0, x1, y1 of a prepared picture's foreground, in the original's pixels."""
    x, y, width, height = cv2.boundingRect((prepared.image > 0).astype(np.uint8))
    corners = np.array([[[x, y], [x + width, y + height]]], np.float64)
    return tuple(cv2.perspectiveTransform(corners, np.linalg.inv(prepared.matrix)).ravel().tolist())


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    return both / ((one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - both)


def real_hands(images: Path, out: Path, workers: int) -> None:
    """Prepares real pictures of one hand each, and names those that did not come out as one."""
    pipeline = Pipeline.load(CONFIGS / "full.yaml")
    sources = find_sources(images, out)
    summary = run(pipeline, images, out, sources, workers=workers)
    print_summary(summary, out)
    print(f"{out}: look at the pages of anomalib-xray prepare --preview {len(sources)} with the same arguments.")


@dataclasses.dataclass(frozen=True)
class Arm:
    """What became of a radiograph: its pieces, their flags, and of each lesion its pixels and those that are left."""

    name: str
    kinds: tuple[str, ...]
    pieces: int
    flags: tuple[str, ...]
    lesions: tuple[tuple[int, int], ...]


def arms(folder: Path, workers: int) -> Iterator[str]:
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with ProcessPoolExecutor(workers) as pool:
        found = list(track(pool.map(partial(arm, folder), rows, chunksize=4), "arms", total=len(rows), transient=True))
    for kind, right in (("single exposures", 1), ("plain frontal hands", 1), ("two exposures", 2)):
        of_kind = [one for one in found if kind in one.kinds]
        wrong = [f"{one.name}: {one.pieces}" for one in of_kind if one.pieces != right]
        yield f"{kind}: {len(of_kind) - len(wrong)} of {len(of_kind)} in {right} ({1 - len(wrong) / len(of_kind):.3f})"
        yield f"{kind}, others: {wrong}"
    lesions = [(one.name, *lesion) for one in found for lesion in one.lesions]
    kept, pixels = sum(left for _, _, left in lesions), sum(size for _, size, _ in lesions)
    halved = [f"{name}: {left / size:.2f}" for name, size, left in lesions if left < size / 2]
    yield f"{kept / pixels:.4f} of the pixels of {len(lesions)} lesions kept"
    yield f"{len(halved)} lesions lose more than half: {halved}"
    counted = Counter(flag for one in found for flag in one.flags)
    yield f"flags: {', '.join(f'{flag} {count}' for flag, count in counted.most_common())}"
    small = [image for row in rows[:60] if (image := read_radiograph(folder / row["image_path"])).shape == (454, 373)]
    large = [np.asarray(cv2.resize(image, (2304, 2880)), np.uint8) for image in small[:10]]
    yield f"{speed(small):.1f} pictures per second and core of {small[0].shape}, {speed(large):.1f} of {large[0].shape}"


def arm(folder: Path, row: dict[str, str]) -> Arm:
    """Prepare a radiograph of the table and lay what is left of it over its lesions."""
    image = read_radiograph(folder / row["image_path"])
    found = up_to("resize").prepare(image)
    left = np.zeros(image.shape, np.bool_)
    for prepared in found:
        shown = (prepared.image > 0).astype(np.float32)
        left |= to_original(shown, prepared.matrix, (image.shape[0], image.shape[1])) > 0.5
    lesions: list[tuple[int, int]] = []
    if row["mask_path"]:
        drawn = (read_radiograph(folder / row["mask_path"]) > 0).astype(np.uint8)
        count, labels = cv2.connectedComponents(drawn)
        lesions = [(int((labels == n).sum()), int((left & (labels == n)).sum())) for n in range(1, count)]
    single = row["multiscan"] != "1"
    kinds = ("single exposures" if single else "two exposures", *["plain frontal hands"] * (row["hand_seen"] == "1"))
    flags = {flag for prepared in found for flag in prepared.flags}
    return Arm(Path(row["image_path"]).stem, kinds, len(found), tuple(sorted(flags)), tuple(lesions))


def speed(images: Sequence[Radiograph]) -> float:
    """Pictures that one process prepares per second; networks are loaded before."""
    pipeline = up_to("resize")
    pipeline.prepare(images[0])
    start = time.perf_counter()
    for image in images:
        pipeline.prepare(image)
    return len(images) / (time.perf_counter() - start)


def measured(measure: partial, seed: int, count: int, workers: int) -> Iterator:
    """Measures phantoms with consecutive seeds, in order."""
    with ProcessPoolExecutor(workers) as pool:
        seeds = [[seed, number] for number in range(count)]
        yield from track(pool.map(measure, seeds, chunksize=4), measure.func.__name__, total=count, transient=True)


def up_to(step: str, *, before: bool = False) -> Pipeline:
    """The pipeline of full.yaml with its steps up to one, which is left out with ``before``."""
    key = (step, before)
    if key not in _PIPELINES:
        cv2.setNumThreads(1)
        whole = Pipeline.load(CONFIGS / "full.yaml")
        end = [named.name for named in whole.steps].index(step) + (0 if before else 1)
        _PIPELINES[key] = Pipeline(whole.settings[:end], whole.folder)
    return _PIPELINES[key]


_PIPELINES: dict[tuple[str, bool], Pipeline] = {}


def drawn(options: SceneOptions, seed: list[int]) -> Phantom:
    return render_phantom(np.random.default_rng(seed), options)


def moved(mask: Mask, prepared: Prepared) -> Mask:
    """A mask of the original in the geometry of a prepared picture."""
    return to_prepared(mask, prepared.matrix, (prepared.image.shape[0], prepared.image.shape[1]))


if __name__ == "__main__":
    main()
