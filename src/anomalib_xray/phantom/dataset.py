"""Phantom sets on disk: their patients, MURA's layout with its four tables, and the ground truth beside them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anomalib_xray import __version__
from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.io.text import read_json, read_text, write_json
from anomalib_xray.io.write import locked, write_atomically, write_png
from anomalib_xray.jobs import results
from anomalib_xray.phantom.anatomy import sample_anatomy
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS
from anomalib_xray.phantom.exposure import PREPARED, RAW
from anomalib_xray.phantom.scene import Phantom, render_phantom

FINISHED = "phantoms.json"
"""File of a finished set: its arguments and the version that drew it."""
TRUTH = "ground_truth/ground_truth.json"
_UNFINISHED = "ground_truth/unfinished.jsonl"  # first line: the arguments; then a line for each image on disk

MANY = 100
"""Images from which on a process per core draws them: 100 take about five seconds, and the processes one to start."""

BODY_PART = "XR_HAND"
Entry = dict[str, Any]

# Roberts' R3 sequence: its first N points fill the cube evenly for every N, so the shares hold in small sets too and
# patient 7 is the same one in a set of 10 and of 1000.
_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments that determine a phantom set, as of :func:`write_phantoms`."""

    patients: int = 60
    seed: int = 42
    prepared: bool = True
    positive_share: float = 0.4
    kinds: tuple[str, ...] = ANOMALY_KINDS
    valid_share: float = 0.15

    def __post_init__(self) -> None:
        if self.patients < 1:
            raise XrayError(f"A phantom set needs at least 1 patient, not {self.patients}.")
        if self.seed < 0:
            raise XrayError(f"The seed must be 0 or larger, not {self.seed}.")
        for name in ("positive_share", "valid_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise XrayError(f"{name} is a share from 0 to 1, not {getattr(self, name)}.")
        unknown = [kind for kind in self.kinds if kind not in ANOMALY_KINDS]
        if unknown or not self.kinds:
            raise XrayError(f"Unknown kinds of anomalies {unknown}: choose at least one of {', '.join(ANOMALY_KINDS)}.")


@dataclasses.dataclass(frozen=True)
class PhantomImage:
    """One image of a set; patient, study and image count from 1, and ``side`` is ``"L"`` or ``"R"``.

    Attributes:
        path: ``train/XR_HAND/patient00001/study1_positive/image1.png``.
        kind: Its anomaly; None in a negative study.
        channels: 1 or 3 equal channels in the file, as in MURA.
    """

    path: str
    patient: int
    study: int
    image: int
    kind: str | None
    side: str
    channels: int

    @property
    def part(self) -> str:
        """``train`` or ``valid``."""
        return self.path.split("/", 1)[0]

    @property
    def study_path(self) -> str:
        """Folder of the study, without a slash at its end."""
        return self.path.rsplit("/", 1)[0]

    @property
    def positive(self) -> bool:
        """Label of the study."""
        return self.kind is not None


def list_images(arguments: Arguments) -> list[PhantomImage]:
    """All images of a set, by patient, study and image; those of the first patients are the same for any number."""
    return [image for patient in range(1, arguments.patients + 1) for image in _patient(patient, arguments)]


def _patient(patient: int, arguments: Arguments) -> Iterator[PhantomImage]:
    start = np.random.default_rng(arguments.seed).random(3)
    valid, positive, kind = (start + patient * np.array(_STEPS)) % 1
    rng = np.random.default_rng([arguments.seed, patient, 0, 1])
    part = "valid" if valid < arguments.valid_share else "train"
    for study in range(1, 3 if rng.random() < 0.15 else 2):
        if study == 2:  # a second visit has its own finding, so that a few patients have both labels
            positive, kind = rng.random(2)
        kinds = arguments.kinds
        shown = kinds[int(kind * len(kinds))] if positive < arguments.positive_share else None
        label = "negative" if shown is None else "positive"
        side = str(rng.choice(["L", "R"]))
        for image in range(1, 1 + int(rng.integers(1, 4))):
            path = f"{part}/{BODY_PART}/patient{patient:05d}/study{study}_{label}/image{image}.png"
            yield PhantomImage(path, patient, study, image, shown, side, int(rng.choice([1, 3])))


def write_phantoms(
    out: Path,
    *,
    patients: int = 60,
    seed: int = 42,
    prepared: bool = True,
    positive_share: float = 0.4,
    kinds: Sequence[str] = ANOMALY_KINDS,
    valid_share: float = 0.15,
    progress: bool = True,
) -> Path:
    """Write a phantom set in the layout of MURA v1.1.

    The images lie in ``OUT/{train,valid}/XR_HAND/patient00001/study1_{positive|negative}/image1.png``, the four tables
    without header in ``OUT``, their paths beginning with the name of that folder. ``OUT/ground_truth`` holds
    ``foreground/`` and ``anomaly/`` masks (0 and 255) under the images' own relative paths and ``ground_truth.json``,
    an entry for each image path. All images of a positive study show its anomaly, unlike in MURA.

    The same arguments give the same bytes (in a folder of the same name), and more patients leave the first ones as
    they are. A finished set is left alone, an interrupted or damaged one is completed.

    Args:
        out: Folder of the set.
        patients: Number of patients, at least 1.
        seed: Seed of everything random, at least 0.
        prepared: Background exactly 0, foreground at least 1, nothing but one hand; otherwise raw pictures with
            background, carriers, markers, two hands and inverted contrast.
        positive_share: Share of patients whose first study is positive, 0 to 1.
        kinds: Kinds of anomalies in positive studies, used equally often.
        valid_share: Share of patients in the official ``valid`` part, 0 to 1.
        progress: Whether to show progress.

    Returns:
        ``out``.

    Raises:
        XrayError: If an argument is out of range, or the folder holds something else or a set of other arguments.
    """
    arguments = Arguments(patients, seed, prepared, positive_share, tuple(kinds), valid_share)
    with suppress(OSError):  # what follows has the sentence for it
        out.mkdir(parents=True, exist_ok=True)
    with locked(out, wait=True):  # cells of a grid begin at the same time
        _complete(out, arguments, progress=progress)
    return out


def _complete(out: Path, arguments: Arguments, *, progress: bool) -> None:
    """Draw what is missing of a set."""
    images = list_images(arguments)
    entries = _entries(out, arguments)
    missing = [image for image in images if image.path not in entries or not _on_disk(out, image)]
    if not missing and (out / FINISHED).is_file():
        return
    journal = out / _UNFINISHED
    lines = [_line(_identity(arguments)), *(_line({"path": path, **entry}) for path, entry in entries.items())]
    write_atomically(journal, "".join(lines))
    (out / FINISHED).unlink(missing_ok=True)
    drawn = _drawn(out, missing, arguments)
    for path, entry in track(drawn, "Drawing phantoms", len(missing)) if progress else drawn:
        entries[path] = entry
        with journal.open("a", encoding="utf-8") as file:
            file.write(_line({"path": path, **entry}))
    _write_tables(out, images)
    write_json(out / TRUTH, {image.path: entries[image.path] for image in images})
    write_json(out / FINISHED, _identity(arguments))
    journal.unlink()


def _entries(out: Path, arguments: Arguments) -> dict[str, Entry]:
    """The ground truth of the images that are drawn already, by path."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return {}
    if not out.is_dir():
        raise XrayError(f"{out} is a file, so no phantoms can be written there: choose another folder.")
    journal, finished = out / _UNFINISHED, out / FINISHED
    if journal.is_file():
        first, *lines = read_text(journal).split("\n")
        _check_identity(out, json.loads(first), arguments)
        # What follows the last line break was cut off by the interruption.
        found: list[Entry] = [json.loads(line) for line in lines[:-1]]
        return {entry.pop("path"): entry for entry in found}
    if not finished.is_file():
        raise XrayError(f"{out} is not empty and holds no phantoms: choose a new or an empty folder.")
    _check_identity(out, read_json(finished), arguments)
    truth: dict[str, Entry] = read_json(out / TRUTH) if (out / TRUTH).is_file() else {}
    return truth


def _check_identity(out: Path, found: Entry, arguments: Arguments) -> None:
    wanted = _identity(arguments)
    different = sorted(name for name in wanted if found.get(name) != wanted[name])
    if different:
        changes = ", ".join(f"{name}={found.get(name)!r} instead of {wanted[name]!r}" for name in different)
        raise XrayError(f"{out} holds phantoms with {changes}: choose another folder, or delete this one to draw anew.")


def _identity(arguments: Arguments) -> Entry:
    return {**dataclasses.asdict(arguments), "kinds": list(arguments.kinds), "version": __version__}


def _on_disk(out: Path, image: PhantomImage) -> bool:
    files = [out / image.path, _mask_file(out, "foreground", image)]
    if image.positive:
        files.append(_mask_file(out, "anomaly", image))
    return all(file.is_file() for file in files)


def _mask_file(out: Path, name: str, image: PhantomImage) -> Path:
    return out / "ground_truth" / name / image.path


def _drawn(out: Path, images: Sequence[PhantomImage], arguments: Arguments) -> Iterable[tuple[str, Entry]]:
    """Draw and write images, in any order; yields the path of each and its ground truth."""
    from joblib import cpu_count  # which takes a moment

    draw, cores = partial(_draw, out, arguments), cpu_count()
    return map(draw, images) if len(images) < MANY or cores == 1 else results(draw, images, workers=cores)


def _draw(out: Path, arguments: Arguments, image: PhantomImage) -> tuple[str, Entry]:
    """Draw and write one image with its masks; returns its path and its ground truth."""
    phantom, seed = _render(image, arguments)
    write_png(_mask_file(out, "foreground", image), phantom.foreground.astype(np.uint8) * np.uint8(255))
    if phantom.anomaly is not None:
        write_png(_mask_file(out, "anomaly", image), phantom.anomaly.astype(np.uint8) * np.uint8(255))
    picture = phantom.image if image.channels == 1 else cv2.merge([phantom.image] * 3)
    write_atomically(out / image.path, cv2.imencode(".png", picture)[1].tobytes())
    return image.path, {
        "label": int(image.positive),
        "kind": phantom.kind,
        "sides": list(phantom.sides),
        "hand_boxes_xyxy": [list(box) for box in phantom.hand_boxes],
        "marker_boxes_xyxy": [list(box) for box in phantom.marker_boxes],
        "carrier_corners_xy": None if phantom.carrier_corners is None else [list(xy) for xy in phantom.carrier_corners],
        "inverted": phantom.inverted,
        "seed": seed,
    }


def _render(image: PhantomImage, arguments: Arguments) -> tuple[Phantom, list[int]]:
    """The picture, and the seed that drew it; another seed is tried if the anomaly finds no place on the hand."""
    person = sample_anatomy(np.random.default_rng([arguments.seed, image.patient]))
    options = PREPARED if arguments.prepared else RAW
    seed = [arguments.seed, image.patient, image.study, image.image]
    for attempt in range(10):
        try:
            rng = np.random.default_rng(seed)
            return render_phantom(rng, options, kind=image.kind, anatomy=person, side=image.side), seed
        except XrayError:
            seed = [*seed[:4], attempt + 1]
    raise XrayError(f"No hand of patient {image.patient} has room for the anomaly {image.kind!r}: choose another seed.")


def _write_tables(out: Path, images: Sequence[PhantomImage]) -> None:
    root = out.resolve().name
    for part in ("train", "valid"):
        of_part = [image for image in images if image.part == part]
        studies = {image.study_path: int(image.positive) for image in of_part}
        paths = "".join(f"{root}/{image.path}\n" for image in of_part)
        labels = "".join(f"{root}/{study}/,{label}\n" for study, label in studies.items())
        write_atomically(out / f"{part}_image_paths.csv", paths)
        write_atomically(out / f"{part}_labeled_studies.csv", labels)


def _line(entry: Entry) -> str:
    return json.dumps(entry) + "\n"
