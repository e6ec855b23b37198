"""What a search may see of a data set: no test image, and no abnormal one where it is label-free."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anomalib.data import AnomalibDataModule, AnomalibDataset

from anomalib_xray.errors import XrayError
from anomalib_xray.tuning.objective import Objective
from anomalib_xray.tuning.painting import painted_copies


def for_selection(data: AnomalibDataModule, objective: Objective, painted: Path) -> AnomalibDataModule:
    """Takes from a datamodule what the rule of selection forbids.

    The test split is emptied. A label-free rule also loses the abnormal validation images; where it measures painted
    faults, a painted copy of each normal one takes their place.

    Args:
        data: A datamodule with its splits, as :func:`anomalib_xray.evaluation.build.build_data` makes it; it is
            changed.
        objective: The rule.
        painted: Folder of the painted copies, which are made at first use.

    Returns:
        The datamodule.

    Raises:
        XrayError: Validation shares images with test, or has no image that the measure needs.
    """
    samples = _samples(data, "val")
    shared = set(samples["image_path"]) & set(_samples(data, "test")["image_path"])
    if shared:
        msg = (
            f"{len(shared)} validation images of {data.name} are test images too, {min(shared)} for one, and settings "
            "are not chosen on test images; give the data set a validation split of its own."
        )
        raise XrayError(msg)
    _keep(data.test_data, _samples(data, "test").iloc[:0])
    if objective.selection == "label-free":
        normal = samples[samples["label_index"] != 1]
        if normal.empty:
            raise XrayError(f"{data.name} has no normal validation image, which a label-free search measures.")
        if objective.measure == "painted_AUROC":
            normal = pd.concat([normal, painted_copies(normal, painted)], ignore_index=True)
        _keep(data.val_data, normal)
    elif set(samples["label_index"]) < {0, 1}:
        msg = f"The validation images of {data.name} have one label only; choose selection: label-free."
        raise XrayError(msg)
    return data


def _samples(data: AnomalibDataModule, split: str) -> pd.DataFrame:
    dataset: AnomalibDataset | None = getattr(data, f"{split}_data", None)
    if dataset is None:
        raise XrayError(f"{data.name} has no {split} split; a search measures on validation and leaves test alone.")
    samples: pd.DataFrame = dataset.samples
    return samples


def _keep(dataset: AnomalibDataset, samples: pd.DataFrame) -> None:
    """Leaves these samples to a dataset, with what its table says of itself."""
    samples.attrs.update(dataset.samples.attrs)
    dataset.samples = samples
