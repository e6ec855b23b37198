"""Writes the example data set of real hands with painted anomalies, for ``configs/data/hands_example.yaml``.

    python benchmarks/hands_example.py --images PATH/TO/hands/images
    anomalib train --config configs/cae.yaml --config configs/data/hands_example.yaml

Takes a folder of healthy hand radiographs, one image a patient (docs/results/hands_example.md used 320 of the RSNA
Pediatric Bone Age Challenge 2017), keeps 70 for the test, paints an anomaly into half of these, and leaves the others
for training (225) and validation (25). The pictures are written as they are; to prepare them as well and train on them:

    anomalib-xray prepare --config configs/preparation/full.yaml --root hands_example --table hands_example/table.csv
        --out hands_prepared
    anomalib train ... --data.prepared_root hands_prepared

The same seed gives the same set.
Nothing of it may be passed on but under the terms of the pictures it was made from.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.progress import track

from anomalib_xray.errors import XrayError
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.io.write import write_atomically, write_png
from anomalib_xray.phantom import PAINTED_KINDS, paint_anomaly, rough_foreground

HELD_OUT = 70
VALIDATION = 25
COLUMNS = ("image_path", "label", "patient", "study", "split", "mask_path", "kind")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of healthy hand radiographs (PNG)")
    parser.add_argument("--out", type=Path, default=Path("hands_example"), help="folder to write")
    parser.add_argument("--seed", type=int, default=42, help="seed of the split and of the anomalies")
    arguments = parser.parse_args()
    try:
        rows = list(write_example(arguments.images, arguments.out, arguments.seed))
    except XrayError as error:
        sys.exit(f"error: {error}")
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS)
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: row["image_path"]))
    write_atomically(arguments.out / "table.csv", table.getvalue())
    painted = sum(int(row["label"]) for row in rows)
    print(f"{arguments.out / 'table.csv'}: {len(rows)} hands, {painted} of them with a painted anomaly.")


def write_example(images: Path, out: Path, seed: int) -> Iterator[dict[str, str]]:
    """Copies and paints the pictures and yields a table row for each."""
    files = sorted(path for path in images.glob("*.png") if not path.name.startswith("._"))
    if len(files) <= HELD_OUT + VALIDATION:
        msg = f"{images} holds {len(files)} PNG files, but the example needs more than {HELD_OUT + VALIDATION}."
        raise XrayError(msg)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(files))
    painted = 0
    for position, index in enumerate(track(order, "Writing hands")):
        split = "test" if position < HELD_OUT else "val" if position < HELD_OUT + VALIDATION else "train"
        path = files[index]
        image = read_radiograph(path)
        row = dict.fromkeys(COLUMNS, "") | {"label": "0", "patient": path.stem, "study": "1", "split": split}
        row["image_path"] = f"images/{path.stem}.png"
        if split == "test" and painted < HELD_OUT // 2:
            anomaly = paint(image, painted, np.random.default_rng([seed, int(index)]))
            if anomaly is None:
                print(f"{path.name}: no anomaly finds a place; it stays healthy.")
            else:
                image, mask, row["kind"] = anomaly
                row |= {"label": "1", "mask_path": f"masks/{path.stem}.png"}
                write_png(out / row["mask_path"], mask)
                painted += 1
        write_png(out / row["image_path"], image)
        yield row


def paint(image: np.ndarray, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str] | None:
    """Paints the kinds in turn; where one finds no place, the next one; nothing where none does."""
    foreground = rough_foreground(image)
    for offset in range(len(PAINTED_KINDS)):
        kind = PAINTED_KINDS[(number + offset) % len(PAINTED_KINDS)]
        try:
            changed, mask = paint_anomaly(image, foreground, kind, rng)
        except XrayError:
            continue
        return changed, mask.astype(np.uint8) * 255, kind
    return None


if __name__ == "__main__":
    main()
