"""The command that makes a bundle for the device."""

from __future__ import annotations

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from anomalib_xray import NOTICE
from anomalib_xray.errors import XrayError


def bundle(
    checkpoint: Path,
    out: Path,
    images: Path | None = None,
    validation: Path | None = None,
    preparation: Path | None = None,
    int8: bool = True,
    note: str | None = None,
    licence: str = "not stated",
    model: str | None = None,
    recompute: bool = False,
    body_part: list[str] | None = None,
    view: list[str] | None = None,
    false_alarms: float | None = None,
    card: bool = False,
) -> None:
    """Makes a folder that holds all a device needs to judge radiographs with a trained model.

    In it are the model for OpenVINO in 32, 16 and, where it is good enough, 8 bits, the preparation, thresholds, what
    normal images score, the measured agreement with torch, a model card, and checksums. Radiographs to measure on are
    those that the checkpoint's run was validated on, unless others are given.

    Args:
        checkpoint: Checkpoint (.ckpt) that training wrote.
        out: Folder to write; it must not exist.
        images: Folder or CSV table (image_path, label) of normal radiographs for thresholds, percentiles and 8 bits; by
            default those that the run was validated on.
        validation: CSV table of labelled radiographs, normal and abnormal, that the 8-bit model must tell apart as well
            as the 32-bit one; by default the labelled ones among IMAGES.
        preparation: YAML file of the preparation, which must be that of the training; radiographs are then given raw.
            By default the one that the checkpoint remembers. The word none lets radiographs go in as they are.
        int8: Whether to try 8-bit integers.
        note: What the radiographs are, for the model card.
        licence: Licence of the radiographs, for the model card.
        model: Name of the checkpoint's model, such as AlphaGan; needed for old checkpoints, which do not hold it.
        recompute: Whether to take thresholds anew from IMAGES, as all other numbers, so that another preparation than
            that of the training may be given.
        body_part: Body part that the model was made for, in DICOM's words such as HAND, instead of what the tags and
            MURA's folders of IMAGES say; give --body_part once for each.
        view: The same of views, such as PA or LAT.
        false_alarms: Largest share of new normal patients that may alarm, such as 0.05: thresholds that keep this
            promise are taken from the normal patients among IMAGES (column patient of a table; else each image counts
            as a patient) instead of the checkpoint's.
        card: Whether to make the folder ready for a hub: the model card begins with the front matter of Hugging Face,
            and the weights are there for torch too (model.safetensors). A NOTE without spaces, such as owner/name, is
            taken as the data's name there. Nothing is uploaded.

    Raises:
        XrayError: An argument cannot be used, or the model cannot be exported.
    """
    from anomalib_xray.bundling.images import given_samples, merged, validation_samples, validation_table
    from anomalib_xray.bundling.preparation import choose_preparation
    from anomalib_xray.edge.scope import BODY_PART, VIEW
    from anomalib_xray.evaluation.conformal import check_promise
    from anomalib_xray.io.paths import check_checkpoint
    from anomalib_xray.io.write import check_free

    if find_spec("torch") is None or find_spec("anomalib") is None:
        raise XrayError("Making a bundle needs torch and anomalib: pip install 'anomalib-xray[train]'.")
    check_checkpoint(checkpoint)
    check_free(out)
    if false_alarms is not None:
        check_promise(false_alarms)
    words = _words(body_part, BODY_PART, "body part"), _words(view, VIEW, "view")
    given = [given_samples(path) for path in (images, validation) if path is not None]

    with warnings.catch_warnings(action="ignore"):  # of packages that anomalib imports
        from anomalib_xray.bundling.card import figures
        from anomalib_xray.bundling.writer import Request, write_bundle
    from anomalib_xray.training.checkpoint import load_model

    loaded = load_model(checkpoint, model)
    table = validation_table(checkpoint) if images is None else images
    memory = getattr(loaded, "training_preparation", None)
    choice = choose_preparation(checkpoint, memory, preparation, recompute=recompute)
    if choice.warning:
        print(f"Warning: {choice.warning}", file=sys.stderr)
    if images is None:
        given = [validation_samples(table, originals=choice.pipeline is not None), *given]
        source = "images that the training run was validated on"
    else:
        source = f"images given as {images.name}"
    request = Request(
        merged(*given),
        choice.pipeline,
        int8,
        note or source,
        licence,
        choice.trained_on,
        choice.warning,
        recompute,
        *words,
        false_alarms,
        shared=card,
    )
    made = write_bundle(loaded, request, out)
    print("\n".join([NOTICE, *figures(made)]))
    print(f"The bundle is in {out}; its README.md is the model card.")


def _words(given: list[str] | None, keyword: str, what: str) -> tuple[str, ...]:
    """Body parts or views that the user names, in DICOM's words."""
    from anomalib_xray.edge.scope import normalised

    words = {text: normalised(text, keyword) for text in given or ()}
    if unknown := [text for text, word in words.items() if not word]:
        raise XrayError(f"{unknown[0]!r} is no {what} of DICOM's: use its words, such as HAND, CHEST, PA or LAT.")
    return tuple(sorted(set(words.values())))
