"""The command that draws a phantom set."""

from __future__ import annotations

from pathlib import Path


def phantom(
    out: Path = Path("phantoms"),
    patients: int = 60,
    seed: int = 42,
    prepared: bool = True,
    positive_share: float = 0.4,
) -> None:
    """Draws computed radiographs of hands, with and without anomalies, in the layout of MURA.

    Args:
        out: Folder to write to; new, empty, or an earlier phantom set with the same arguments.
        patients: Number of patients; each has one or two studies of one to three images.
        seed: Seed of everything random.
        prepared: Background exactly 0 and nothing but one hand; false for raw films with carriers, markers, two hands
            and inverted contrast.
        positive_share: Share of positive studies.
    """
    from anomalib_xray.io.text import read_json
    from anomalib_xray.phantom.dataset import TRUTH, write_phantoms

    write_phantoms(out, patients=patients, seed=seed, prepared=prepared, positive_share=positive_share)
    truth = read_json(out / TRUTH)
    positives = sum(entry["label"] for entry in truth.values())
    print(f"{out}: {len(truth)} phantom radiographs of {patients} patients, {positives} of them with an anomaly.")
    settings = {"root": out, "patients": patients, "seed": seed, "prepared": prepared, "positive_share": positive_share}
    data = " ".join(
        f"--data.{name} {str(value).lower() if name == 'prepared' else value}" for name, value in settings.items()
    )
    print(f"Train on it: anomalib train --config configs/cae.yaml --config configs/data/phantom.yaml {data}")
