"""A small data set in MURA's layout, and small models to feed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.io.write import write_png

WritePicture = Callable[..., Path]
Prepare = Callable[..., Path]


@pytest.fixture
def write_picture() -> WritePicture:
    def write(path: Path, height: int = 12, width: int = 8, depth: type = np.uint8) -> Path:
        seed = sum(path.as_posix().encode())
        levels = np.random.default_rng(seed).integers(1, np.iinfo(depth).max, (height, width), dtype=depth)
        levels[0] = 0
        write_png(path, levels)
        return path

    return write


@pytest.fixture
def prepare(tmp_path: Path, write_picture: WritePicture) -> Prepare:
    """Writes what a preparation of a folder leaves behind: other pictures, and the manifest."""

    def write(
        root: Path,
        two_hands: Collection[str] = (),
        failed: Collection[str] = (),
        masks: Mapping[str, str] | None = None,
        flags: Mapping[str, str] | None = None,
    ) -> Path:
        out = tmp_path / "prepared"
        with_mask = masks or {}
        columns = ["image_path", "source_path", "part", "parts", "mask_path", "flags", "parameters", "error"]
        (out).mkdir(exist_ok=True)
        with (out / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
            manifest = csv.DictWriter(file, columns, restval="")
            manifest.writeheader()
            for path in sorted(root.rglob("*.png")):
                source = path.relative_to(root).as_posix()
                if source in with_mask.values() or path.name.startswith("._"):
                    continue
                row = {"source_path": source, "flags": (flags or {}).get(source, ""), "parameters": "{}"}
                if source in failed:
                    manifest.writerow(row | {"part": 1, "parts": 0, "error": f"{source} is damaged."})
                    continue
                parts = 2 if source in two_hands else 1
                for part in range(1, parts + 1):
                    image = source if parts == 1 else source.replace(".png", f"_{part}.png")
                    write_picture(out / image)
                    mask = f"masks/{image}" if part == 1 and source in with_mask else ""
                    if mask:
                        write_picture(out / mask)
                    manifest.writerow(row | {"image_path": image, "part": part, "parts": parts, "mask_path": mask})
        return out

    return write


@pytest.fixture
def mura_root(tmp_path: Path, write_picture: WritePicture) -> Path:
    """Hands of 6 abnormal and 9 normal patients, 1 to 3 images each; 2 more patients are in the valid part.

    Patient 1 has a normal study too, patient 2 also a wrist, patient 14 a broken wrist beside a healthy hand.
    """
    root = tmp_path / "MURA-v1.1"
    studies = {
        f"train/XR_HAND/patient{n:05}/study1_{'positive' if n <= 6 else 'negative'}": n % 3 + 1 for n in range(1, 16)
    }
    studies["train/XR_HAND/patient00001/study2_negative"] = 2
    studies["train/XR_WRIST/patient00002/study1_negative"] = 1
    studies["train/XR_WRIST/patient00014/study1_positive"] = 1
    studies["valid/XR_HAND/patient11185/study1_positive"] = 2
    studies["valid/XR_HAND/patient11186/study1_negative"] = 1
    for study, images in studies.items():
        for image in range(1, images + 1):
            write_picture(root / study / f"image{image}.png", height=8 + image, width=6)
    (root / "train/XR_HAND/patient00001/study1_positive/._image1.png").write_bytes(b"Mac OS X")
    for official in ("train", "valid"):
        own = {study: images for study, images in studies.items() if study.startswith(official)}
        paths = [f"{study}/image{image}.png" for study, images in own.items() for image in range(1, images + 1)]
        (root / f"{official}_image_paths.csv").write_text("".join(f"MURA-v1.1/{path}\n" for path in paths))
        (root / f"{official}_labeled_studies.csv").write_text(
            "".join(f"MURA-v1.1/{study}/,{int(study.endswith('positive'))}\n" for study in own)
        )
    return root
