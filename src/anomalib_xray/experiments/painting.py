"""Images for a search: none of the test, and painted faults in place of abnormal ones for a label-free rule."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch
from anomalib.data import AnomalibDataModule, AnomalibDataset
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import Objective
from anomalib_xray.io.read import Radiograph, read_radiograph
from anomalib_xray.io.write import write_png

BLEND = (0.5, 1.0)
"""Shares of the painted texture. Hardly any model told fainter patches, from 0.1, from normal images."""

SHARE = (0.003, 0.05)
"""Smallest and largest share of the foreground that a fault covers."""

ATTEMPTS = 200


def for_selection(data: AnomalibDataModule, objective: Objective, painted: Path) -> AnomalibDataModule:
    """Removes from a datamodule the images that the rule of selection forbids, and returns it.

    The test split is emptied. A label-free rule also loses the abnormal validation images; for ``painted_AUROC`` a
    painted copy of each normal one takes their place, which is made in the folder ``painted`` at first use.
    """
    samples = _samples(data, "val")
    shared = set(samples["image_path"]) & set(_samples(data, "test")["image_path"])
    if shared:
        raise XrayError(
            f"{len(shared)} validation images of {data.name} are test images too, {min(shared)} for one, and settings "
            "are not chosen on test images; give the data set a validation split of its own."
        )
    _keep(data.test_data, _samples(data, "test").iloc[:0])
    if objective.selection == "label-free":
        normal = samples[samples["label_index"] != 1]
        if normal.empty:
            raise XrayError(f"{data.name} has no normal validation image, which a label-free search measures.")
        if objective.measure == "painted_AUROC":
            normal = pd.concat([normal, painted_copies(normal, painted)], ignore_index=True)
        _keep(data.val_data, normal)
    elif set(samples["label_index"]) < {0, 1}:
        raise XrayError(f"The validation images of {data.name} have one label only; choose selection: label-free.")
    return data


def _samples(data: AnomalibDataModule, split: str) -> pd.DataFrame:
    dataset: AnomalibDataset | None = getattr(data, f"{split}_data", None)
    if dataset is None:
        raise XrayError(f"{data.name} has no {split} split; a search measures on validation and leaves test alone.")
    samples: pd.DataFrame = dataset.samples
    return samples


def _keep(dataset: AnomalibDataset, samples: pd.DataFrame) -> None:
    """Replaces the samples of a dataset and keeps the attributes of its table."""
    samples.attrs.update(dataset.samples.attrs)
    dataset.samples = samples


def painted_copies(normal: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Paints a fault into a copy of each normal image, unless the folder has it; returns the table of the copies."""
    copies = normal.copy()
    files = [_painted_files(Path(path), folder) for path in normal["image_path"]]
    copies["image_path"] = [str(picture) for picture, _ in files]
    copies["mask_path"] = [str(mask) for _, mask in files]
    if "source" in copies:
        copies["source"] = copies["image_path"]
    return copies.assign(label="abnormal", label_index=1)


def _painted_files(path: Path, folder: Path) -> tuple[Path, Path]:
    """The painted copy of an image and its mask; name and fault follow from the image's content alone."""
    image = read_radiograph(path)
    digest = sha256(np.ascontiguousarray(image).tobytes()).hexdigest()
    picture, mask = folder / f"{digest[:16]}.png", folder / "masks" / f"{digest[:16]}.png"
    if not (picture.is_file() and mask.is_file()):
        painted = paint_fault(image, int(digest[:8], 16))
        if painted is None:
            raise XrayError(f"No fault could be painted into {path}; choose another measure than painted_AUROC.")
        write_png(mask, painted[1].astype(np.uint8) * np.uint8(255))
        write_png(picture, painted[0])
    return picture, mask


def paint_fault(image: Radiograph, seed: int) -> tuple[Radiograph, NDArray[np.bool_]] | None:
    """Blends one patch of a random texture into the foreground of a radiograph, by anomalib's Perlin noise.

    Source of the noise: Zavrtanik et al. 2021 (DRAEM, 2108.07610), section 3.1.

    Returns:
        The picture in the depth of the image, background as it was, foreground at least 1 of 255, and the mask of the
        fault, ``(H, W)`` both; ``None`` if no fault of fitting size was drawn.
    """
    from anomalib.data.utils.generators.perlin import PerlinAnomalyGenerator

    top = float(np.iinfo(image.dtype).max)
    foreground = image > 0
    least, most = (share * foreground.sum() for share in SHARE)
    grey = torch.from_numpy(image.astype(np.float32) / top).expand(3, -1, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generate = PerlinAnomalyGenerator(probability=1.0, blend_factor=BLEND)
        for _ in range(ATTEMPTS):
            drawn, mask = generate(grey)
            fault = _largest_patch((mask.squeeze().numpy() > 0) & foreground)
            if max(least, 1) <= fault.sum() <= most:
                painted = image.copy()
                painted[fault] = np.rint(drawn.mean(0).clamp(1 / 255, 1).numpy()[fault] * top)
                return painted, fault
    return None


def _largest_patch(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected patch: the noise is often hundreds of specks, which no model misses."""
    count, patches, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return mask
    return np.asarray(patches == 1 + statistics[1:, cv2.CC_STAT_AREA].argmax())
