"""Published figures of the same models on data of the same kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

from anomalib_xray.evaluation.plan import Cell
from anomalib_xray.evaluation.report.material import score_name
from anomalib_xray.evaluation.rows import Row

_FAMILIES = {"RsnaPneumonia": "RSNA", "VinBigData": "VinBigData"}

_MODELS = {
    "AeU": "AE-U",
    "AlphaGan": "α-GAN",
    "AnoGan": "AnoGAN",
    "Bae": "BAE",
    "Bigan": "BiGAN",
    "Cae": "CAE",
    "Cfa": "CFA",
    "Cflow": "CFLOW",
    "Csflow": "CS-Flow",
    "Dcgan": "DCGAN",
    "DeepSvdd": "Deep SVDD",
    "Draem": "DRAEM",
    "FAnoGan": "f-AnoGAN",
    "Ganomaly": "GANomaly",
    "MemAe": "MemAE",
    "Padim": "PaDiM",
    "Patchcore": "PatchCore",
    "ReconstructionAe": "AE",
    "ReverseDistillation": "Reverse distillation",
    "Stfpm": "STFPM",
    "Vae": "VAE",
}
"""Published name of each class."""

_BACKBONES = {"ae": "AE", "mem_ae": "MemAE", "ae_u": "AE-U"}

_LOSSES = {"perceptual": "AE, perceptual loss", "ssim": "AE, SSIM loss"}


@dataclass(frozen=True)
class Published:
    """A published AUROC.

    Attributes:
        source: Where it stands.
        data: Data set that it was measured on.
        protocol: How it was measured, as far as stated.
        verified: Whether the source itself was read and states a protocol.
        model: Name of the model there.
        score: Name of the score here; empty for the model's own.
        preparation: ``raw``, ``crop`` or ``full``; nothing where it is not stated.
        equalize: Whether pictures were equalised; nothing where it is not stated.
        auroc: The figure.
        std: Standard deviation over runs, where stated.
        body_part: Body part, where the data set has several.
    """

    source: str
    data: str
    protocol: str
    verified: bool
    model: str
    score: str
    auroc: float
    preparation: str | None = None
    equalize: bool | None = None
    std: float | None = None
    body_part: str | None = None

    @property
    def figure(self) -> str:
        """The figure as it is written."""
        return f"{self.auroc:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@lru_cache(maxsize=1)
def published_figures() -> list[Published]:
    """All published figures that are known here, in the order of their sources."""
    content = json.loads((files(__package__) / "reported_results.json").read_text(encoding="utf-8"))
    found = []
    for entry in content["figures"]:
        source = content["sources"][entry["source"]]
        known = {key: entry[key] for key in entry if key not in ("source", "runs")}
        known |= {"source": source["text"], **{key: source[key] for key in ("data", "protocol", "verified")}}
        found.append(Published(**known))
    return found


def family_of(cell: Cell) -> list[Published]:
    """Published figures of a cell's data set, whatever the model.

    Args:
        cell: Any cell of the data set.

    Returns:
        The figures; none for data sets that nothing was published on.
    """
    name = str(cell.data_config.get("class_path", "")).rpartition(".")[2]
    known = published_figures()
    if name in _FAMILIES:
        return [figure for figure in known if figure.data == _FAMILIES[name]]
    if name != "Mura":
        return []
    parts = cell.data_config.get("init_args", {}).get("body_parts", "XR_HAND")
    parts = {str(part).upper().removeprefix("XR_") for part in ([parts] if isinstance(parts, str) else parts)}
    return [figure for figure in known if figure.data.startswith("MURA") and parts == {figure.body_part or "HAND"}]


def published_for(row: Row, cell: Cell, *, is_first: bool = True) -> list[Published]:
    """Published figures that stand beside a row: of its data set, model and score, prepared and equalised alike.

    Args:
        row: Row of a model.
        cell: One of its cells.
        is_first: Whether figures of an unnamed score count; they would stand beside each score of a model otherwise.

    Returns:
        The figures; what a source does not state counts as alike.
    """
    names, score = _names(cell.model_config), score_name(row, cell)
    found = []
    for figure in family_of(cell):
        alike = (
            figure.model in names
            and figure.score in ([score, ""] if is_first else [score])
            and figure.preparation in (None, row.preparation)
            and figure.equalize in (None, row.equalize)
        )
        if alike:
            found.append(figure)
    return found


def _names(model: Mapping[str, Any]) -> set[str]:
    """Published names of a configured model."""
    name = str(model.get("class_path", "")).rpartition(".")[2]
    settings = model.get("init_args", {})
    if name == "DualDistribution":
        return {f"Dual distribution, {_BACKBONES.get(str(settings.get('backbone', 'ae')), '')}"}
    if settings.get("reconstruction_loss") in _LOSSES:
        return {_LOSSES[settings["reconstruction_loss"]]}
    return {_MODELS.get(name, name)}
