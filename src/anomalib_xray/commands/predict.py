"""The command that scores radiographs with exported models."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Literal

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError
from anomalib_xray.io.inputs import find_inputs, with_list
from anomalib_xray.io.progress import status
from anomalib_xray.shards import Shard


def predict(
    images: list[Path],
    bundle: list[Path] | None = None,
    out: Path = Path("predictions"),
    threshold: float | None = None,
    score: str | None = None,
    precision: Literal["fp32", "fp16", "int8", "bf16"] | None = None,
    device: str = "CPU",
    threads: int | None = None,
    dicom_sc: bool = False,
    keep_patient: bool = False,
    stream: bool = False,
    shard: str | None = None,
) -> int:
    """Scores radiographs with one or several exported models and draws their heat maps.

    Writes an overlay for every image, OUT/<name>_overlay.png, the table OUT/scores.csv, and OUT/scores.json with every
    named score and its percentile among normal images. An image that cannot be used becomes a row with the reason, and
    the others go on. Several bundles are fused: the mean of their percentiles stands beside what each says, and the
    overlays of each have a folder of their own.

    Args:
        images: PNG, JPEG or DICOM files, or folders, which are searched with all folders below them, or - for a list of
            files on standard input, one a line.
        bundle: Folder of a bundle, or that an export wrote, or the run folder around it; give --bundle once for each
            model.
        out: Folder to write to.
        threshold: Raw score from which on an image is anomalous, instead of the bundle's own; for a single bundle.
        score: Name of the score that decides, instead of the one that the bundle names.
        precision: Model to compute with where the bundle holds it; bf16 is the fp32 model in 16 bits. Only fp32 answers
            as training did.
        device: OpenVINO device, such as CPU or GPU.
        threads: CPU threads of a model; OpenVINO decides by default.
        dicom_sc: Whether to write each overlay as a DICOM secondary capture too, OUT/<name>_overlay.dcm. It names no
            patient.
        keep_patient: Whether the captures of DICOM files keep the patient and the study and refer to the file, so that
            an archive files them there.
        stream: Whether to print one line of JSON for each image at once instead, and to write no file.
        shard: Part I/N of the images, such as 0/8 for the first of eight; I counts from 0. The same command without
            --shard predicts what is left and writes the tables.

    Returns:
        Exit status: 0, 1 if an image could not be used, 130 if interrupted.

    Raises:
        XrayError: A bundle, the device, the threshold or the score cannot be used, no image is found, or ``out`` cannot
            be written.
    """
    if not bundle:
        raise XrayError("Give a bundle with --bundle FOLDER: the folder that an export or anomalib-xray bundle wrote.")
    _check_settings(bundle, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient, stream=stream)
    part = None if shard is None else Shard.parse(shard)
    if stream and part is not None:
        raise XrayError("A stream leaves no file for shards to share: leave out either --stream or --shard.")
    inputs = [] if stream else find_inputs(list(with_list(images)), out)

    from anomalib_xray.edge.batch import predict_all, predict_stream
    from anomalib_xray.edge.ensemble import Ensemble
    from anomalib_xray.edge.predictor import open_predictor

    with status("Loading the bundles"):
        ensemble = Ensemble([
            open_predictor(path, precision=precision, device=device, threads=threads, score=score) for path in bundle
        ])  # fmt: skip
    # In a stream, standard output holds nothing but JSON.
    about = sys.stderr if stream else sys.stdout
    print(NOTICE, file=about)
    if len(bundle) > 1 and ensemble.without_distribution:
        lacking = ", ".join(ensemble.without_distribution)
        print(f"There is no fused score: {lacking} knows no scores of normal images.", file=about)
    if stream:
        return predict_stream(ensemble, images, threshold)
    return predict_all(ensemble, inputs, out, threshold, dicom_sc=dicom_sc, keep_patient=keep_patient, shard=part)


def _check_settings(
    bundle: list[Path], threshold: float | None, *, dicom_sc: bool, keep_patient: bool, stream: bool
) -> None:
    """Refuses settings that mean nothing, before anything slow is done."""
    if threshold is not None and not math.isfinite(threshold):
        raise XrayError(f"The threshold {threshold} decides nothing: give a finite raw score.")
    if threshold is not None and len(bundle) > 1:
        raise XrayError("The scores of several bundles have units of their own: leave the threshold to each bundle.")
    if stream and dicom_sc:
        raise XrayError("A stream writes no file: leave out either --stream or --dicom_sc.")
    if keep_patient and not dicom_sc:
        raise XrayError("Only secondary captures can keep a patient: give --dicom_sc too, or leave out --keep_patient.")
    if dicom_sc:
        from anomalib_xray.io.dicom_dataset import reading_dicom

        with reading_dicom("A secondary capture"):
            pass  # says what to install
