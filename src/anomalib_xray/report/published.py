"""Published figures of the same models on data of the same kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from anomalib_xray.experiments.grid import Cell
from anomalib_xray.io.text import read_json
from anomalib_xray.report.parts import score_name
from anomalib_xray.report.rows import Row

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

_PUBLISHED_POOL = {"size": 4000, "anomaly_rate": 0.6}
"""Unlabelled images of the published dual-distribution ensembles."""

_LOSSES = {"perceptual": "AE, perceptual loss", "ssim": "AE, SSIM loss"}


@dataclass(frozen=True)
class Published:
    """A published AUROC.

    Attributes:
        source: Publication.
        data: Data set of the test.
        protocol: Protocol, as far as stated.
        verified: Whether the source itself was read and states a protocol.
        model: Name of the model in the source.
        score: Name of the score in this project; empty for the model's own.
        preparation: ``raw``, ``crop`` or ``full``; ``None`` if not stated.
        equalize: Whether pictures were equalised; ``None`` if not stated.
        auroc: The figure; ``None`` if the source's table has a dash.
        std: Standard deviation over runs, if stated.
        body_part: Body part, if the data set has several.
    """

    source: str
    data: str
    protocol: str
    verified: bool
    model: str
    score: str
    auroc: float | None
    preparation: str | None = None
    equalize: bool | None = None
    std: float | None = None
    body_part: str | None = None

    @property
    def figure(self) -> str:
        """The figure as text."""
        return "–" if self.auroc is None else f"{self.auroc:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


@lru_cache(maxsize=1)
def published_figures() -> list[Published]:
    """All published figures, in the order of their sources."""
    content = read_json(Path(__file__).with_name("reported_results.json"))
    found = []
    for entry in content["figures"]:
        source = content["sources"][entry["source"]]
        known = {key: entry[key] for key in entry if key not in ("source", "runs")}
        known |= {"source": source["text"], **{key: source[key] for key in ("data", "protocol", "verified")}}
        found.append(Published(**known))
    return found


def family_of(cell: Cell) -> list[Published]:
    """Published figures of a cell's data set, of any model."""
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
    """Published figures to compare with a row: of its data set, model and score, prepared and equalised alike.

    Unstated conditions count as alike. Figures of an unnamed score belong to a model's first score only.
    """
    names = {name for name in _names(cell, score_name(row, cell)) if is_first or name[1]}
    return [
        figure
        for figure in family_of(cell)
        if (figure.model, figure.score) in names
        and figure.preparation in (None, row.preparation)
        and figure.equalize in (None, row.equalize)
    ]


def _names(cell: Cell, score: str) -> set[tuple[str, str]]:
    """Published names of a model and of one of its scores; an empty score is the model's own."""
    name = str(cell.model_config.get("class_path", "")).rpartition(".")[2]
    settings = cell.model_config.get("init_args", {})
    if name == "DualDistribution":
        backbone = _BACKBONES.get(str(settings.get("backbone", "ae")), "")
        ensemble = f"Dual distribution, {backbone}"
        # The published figures are of one size of pool. "rec" is a single network on normal images.
        pool = cell.data_config.get("init_args", {}).get("pool", _PUBLISHED_POOL) or {}
        has_pool = all(pool.get(key) == value for key, value in _PUBLISHED_POOL.items())
        return ({(ensemble, score), (ensemble, "")} if has_pool else set()) | (
            {(backbone, "rec")} & {(backbone, score)}
        )
    published = _LOSSES.get(settings.get("reconstruction_loss"), _MODELS.get(name, name))
    found = {(published, score), (published, "")}
    # Of networks without a variance the squared error is what the publication calls "rec".
    return found | {(published, "rec")} if published in ("AE", "MemAE") and score == "mse" else found
