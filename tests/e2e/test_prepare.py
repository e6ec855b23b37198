"""Raw phantoms through the whole preparation, over the real command."""

from __future__ import annotations

from pathlib import Path

import cv2
import pandas as pd
import pytest

from anomalib_xray.cli import main
from anomalib_xray.io.read import read_radiograph
from anomalib_xray.phantom import write_phantoms

FULL = Path(__file__).parents[2] / "configs" / "preparation" / "full.yaml"


@pytest.mark.slow
def test_raw_phantoms_are_prepared(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "prepared"
    write_phantoms(raw, patients=8, seed=3, prepared=False, positive_share=0.5, progress=False)
    broken = next((raw / "train").rglob("image1.png"))
    broken.write_bytes(broken.read_bytes()[:1000])
    arguments = ["--config", str(FULL), "--root", str(raw), "--out", str(out), "--masks", "ground_truth/anomaly"]
    assert main(["prepare", *arguments, "--workers", "2", "--preview", "3"]) == 1
    manifest = pd.read_csv(out / "manifest.csv", keep_default_na=False)
    images = [path for part in ("train", "valid") for path in (raw / part).rglob("*.png")]
    assert set(manifest["source_path"]) == {path.relative_to(raw).as_posix() for path in images}
    assert manifest.loc[manifest["error"] != "", "source_path"].tolist() == [broken.relative_to(raw).as_posix()]
    assert manifest["patient"].str.fullmatch(r"patient\d{5}").all()
    for row in manifest[manifest["error"] == ""].itertuples():
        picture = read_radiograph(out / str(row.image_path))
        assert 0 < (picture == 0).mean() < 0.9
        if row.mask_path:
            assert read_radiograph(out / str(row.mask_path)).shape == picture.shape
    sheet = cv2.imread(str(out / "preview_1.png"), cv2.IMREAD_UNCHANGED)
    assert sheet is not None
    assert sheet.ndim == 2
