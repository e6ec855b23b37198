"""Generated hand radiographs in MURA's layout, with the truth for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from anomalib_xray.data.mura import Mura
from anomalib_xray.phantom import ANOMALY_KINDS, write_phantoms


class Phantom(Mura):
    """Phantom hands: generated at first use, already prepared unless told otherwise, and split as :class:`Mura`.

    They need no download and show whether a whole pipeline works. They say nothing about how well a model finds
    anomalies in patients. Research use only, not a medical device.

    Args:
        root: Folder to generate the set in; a complete set there is used as it is.
        patients: Number of patients to generate.
        positive_share: Share of studies with an anomaly.
        kinds: Kinds of anomalies; all of :data:`anomalib_xray.phantom.ANOMALY_KINDS` when not given.
        seed: Seed of the generator.
        prepared: Draw pictures as a preparation would leave them; otherwise raw films with carriers, markers, two hands
            and inverted contrast.
        settings: Further settings of :class:`Mura`, whose pictures and masks ``prepared_root`` replaces alike.

    Raises:
        XrayError: At setup, when the folder cannot be written or holds something else.

    Example:
        >>> Phantom(root="generated", patients=20, kinds=["fracture"]).name
        'XR_HAND'
    """

    def __init__(
        self,
        root: str | Path = "phantoms",
        patients: int = 60,
        positive_share: float = 0.4,
        kinds: list[str] | None = None,
        seed: int = 42,
        prepared: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(root=root, body_parts="XR_HAND", index="folders", **settings)
        self.patients = patients
        self.positive_share = positive_share
        self.kinds = kinds
        self.generator_seed = seed
        self.prepared = prepared

    def prepare_data(self) -> None:
        """Generates the set, or its missing files.

        Raises:
            XrayError: The folder holds something else, or phantoms of other arguments.
        """
        write_phantoms(
            self.root,
            patients=self.patients,
            seed=self.generator_seed,
            prepared=self.prepared,
            positive_share=self.positive_share,
            kinds=ANOMALY_KINDS if self.kinds is None else self.kinds,
        )

    def build_samples(self) -> pd.DataFrame:
        """Generates the set where it is missing, and lists it with splits and masks."""
        self.prepare_data()
        return super().build_samples()

    def mask_path(self, relative: str, label_index: int) -> str:
        """Absolute path of an abnormal image's anomaly mask."""
        return str(self.root / "ground_truth" / "anomaly" / relative) if label_index == 1 else ""
