"""Who is in a phantom set: patients, studies, labels and kinds, before anything is drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from anomalib_xray.errors import XrayError
from anomalib_xray.phantom.anomalies import ANOMALY_KINDS

BODY_PART = "XR_HAND"

# Roberts' R3 sequence: its first N points fill the cube evenly for every N, so the shares hold in small sets too and
# patient 7 is the same one in a set of 10 and of 1000.
_STEPS = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What determines a phantom set.

    Attributes:
        patients: Number of patients, at least 1.
        seed: Seed of everything random, at least 0.
        prepared: Whether the background is 0; otherwise the pictures are as raw as an archive's.
        positive_share: Share of patients whose first study is positive, 0 to 1.
        kinds: Kinds of anomalies, used equally often.
        valid_share: Share of patients in the official valid part, 0 to 1.
    """

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
class PlannedImage:
    """One image to draw.

    Attributes:
        path: ``train/XR_HAND/patient00001/study1_positive/image1.png``.
        patient: Patient number from 1.
        study: Study number from 1.
        image: Image number from 1.
        kind: The anomaly it shows; None in a negative study.
        side: ``"L"`` or ``"R"``.
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


def plan(arguments: Arguments) -> list[PlannedImage]:
    """All images of a set, by patient, study and image.

    Args:
        arguments: What determines the set.

    Returns:
        The images; those of the first patients are the same for any number of patients.
    """
    images: list[PlannedImage] = []
    for patient in range(1, arguments.patients + 1):
        images += _patient(patient, arguments)
    return images


def _patient(patient: int, arguments: Arguments) -> Iterator[PlannedImage]:
    start = np.random.default_rng(arguments.seed).random(3)
    valid, positive, kind = (start + patient * np.array(_STEPS)) % 1
    rng = np.random.default_rng([arguments.seed, patient, 0, 1])
    part = "valid" if valid < arguments.valid_share else "train"
    for study in range(1, 3 if rng.random() < 0.15 else 2):
        if study == 2:  # a second visit has its own finding, so that a few patients have both labels
            positive, kind = rng.random(2)
        shown = _pick(arguments.kinds, kind) if positive < arguments.positive_share else None
        label = "negative" if shown is None else "positive"
        side = str(rng.choice(["L", "R"]))
        for image in range(1, 1 + int(rng.integers(1, 4))):
            path = f"{part}/{BODY_PART}/patient{patient:05d}/study{study}_{label}/image{image}.png"
            yield PlannedImage(path, patient, study, image, shown, side, int(rng.choice([1, 3])))


def _pick(kinds: Sequence[str], position: float) -> str:
    return kinds[int(position * len(kinds))]
