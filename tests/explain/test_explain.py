from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.cli import main
from anomalib_xray.explain.drawing import draw_explanation
from anomalib_xray.explain.run import Masks
from anomalib_xray.io.write import write_png
from anomalib_xray.models import AlphaGan, Cae, Dcgan, FAnoGan
from anomalib_xray.networks.attention import SelfAttention
from anomalib_xray.phantom import render_phantom

SMALL: dict[str, Any] = {"image_size": 64, "width": 8, "latent_size": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, save: Callable[..., Path]) -> Path:
    """Checkpoints of untrained models, two radiographs with anomalies and one without."""
    folder = tmp_path_factory.mktemp("explain")
    gan = AlphaGan(**SMALL)
    for layer in gan.modules():
        if isinstance(layer, SelfAttention):
            layer.gamma.data.fill_(0.5)
    save(gan, folder / "model.ckpt")
    save(FAnoGan(**SMALL), folder / "critic.ckpt")
    save(Dcgan(**SMALL, discriminator_width=4, references=8), folder / "dcgan.ckpt")
    save(Cae(image_size=64, width=4, latent_channels=8), folder / "cae.ckpt")
    for number, kind in enumerate(("screw", "mass", None)):
        scene = render_phantom(np.random.default_rng(number), kind=kind)
        write_png(folder / "images" / "valid" / f"{number}.png", scene.image)
        if kind is not None:
            write_png(folder / "masks" / "valid" / f"{number}.png", np.asarray(scene.anomaly, np.uint8) * np.uint8(255))
    return folder


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def test_masks_of_files_named_by_uids_are_their_own(tmp_path: Path) -> None:
    for name in ("1.2.840.5", "1.2.840"):
        write_png(tmp_path / "masks" / "a" / f"{name}.png", np.ones((4, 4), np.uint8))
    masks = Masks(tmp_path / "masks")
    assert masks.of(tmp_path / "a" / "1.2.840.5") == tmp_path / "masks/a/1.2.840.5.png"
    assert masks.of(tmp_path / "a" / "1.2.840.6") is None
    assert masks.of(tmp_path / "a" / ("ö" * 127)) is None


@pytest.mark.parametrize(
    ("method", "layer"), [("grad_cam", "discriminator.trunk.levels.1"), ("lrp", ""), ("rollout", "")]
)
def test_writes_pictures_and_tables(
    method: str, layer: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--checkpoint", str(folder / "model.ckpt"), "--method", method, "--out", str(tmp_path)]
    arguments += ["--layer", layer] if layer else []
    arguments += ["--masks", str(folder / "masks"), "--sanity", "true", str(folder / "images")]
    assert main(["explain", *arguments]) == 0
    pictures = sorted(tmp_path.rglob("*.png"))
    assert [file.relative_to(tmp_path).as_posix() for file in pictures] == [
        f"valid/{number}_explained.png" for number in range(3)
    ]
    assert all(cv2.imread(str(file)) is not None for file in pictures)
    table = rows(tmp_path / "explain.csv")
    assert [Path(row["path"]).name for row in table] == ["0.png", "1.png", "2.png"]
    assert {(row["method"], row["layer"], row["error"]) for row in table} == {(method, layer, "")}
    assert all(row["logit"] for row in table)
    assert [bool(row["pixel_auroc"]) for row in table] == [True, True, False]
    assert all(bool(row["relevance_pixels"]) == (method == "lrp") for row in table)
    stages = rows(tmp_path / "sanity.csv")
    assert stages[0]["layer"] == "head"
    assert stages[-1]["layer"] == "trunk.levels.0.0"
    printed = capsys.readouterr().out
    assert printed.startswith(NOTICE)
    assert "3 of 3 images explained" in printed
    assert "2 images with an anomaly, means: pixel AUROC 0." in printed
    assert "Sanity check: " in printed


def test_a_broken_image_is_told_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    write_png(tmp_path / "masks" / "0.png", np.ones((3, 3), np.uint8))
    image = str(folder / "images" / "valid" / "2.png")
    other = str(folder / "images" / "valid" / "0.png")
    out = tmp_path / "out"
    options = ["--checkpoint", str(folder / "dcgan.ckpt"), "--out", str(out), "--masks", str(tmp_path / "masks")]
    assert main(["explain", str(tmp_path / "broken.png"), other, image, *options]) == 1
    printed = capsys.readouterr().err
    assert printed.count("error: ") == 2
    assert "0.png is (3, 3) pixels" in printed
    assert [bool(row["error"]) for row in rows(out / "explain.csv")] == [True, True, False]
    assert len(list(out.rglob("*.png"))) == 1


@pytest.mark.parametrize(
    ("checkpoint", "options", "sentence"),
    [
        ("missing.ckpt", [], "missing.ckpt is no file"),
        ("cae.ckpt", [], "Cae has no discriminator of images: name a checkpoint of a GAN"),
        ("critic.ckpt", ["--method", "lrp"], "LRP has no rule for GroupNorm"),
        ("dcgan.ckpt", ["--method", "rollout"], "no self-attention that could be rolled out"),
        (
            "model.ckpt",
            ["--layer", "discriminator.nothing"],
            "choose one of discriminator.trunk.levels.0.0 (8 x 32 x 32)",
        ),
        ("model.ckpt", ["--layer", "discriminator.trunk", "--method", "lrp"], "--layer belongs to --method grad_cam"),
        ("model.ckpt", ["--masks", "nowhere"], "nowhere is no folder"),
        ("model.ckpt", ["--masks", "EMPTY"], "has no mask of the images"),
        ("model.ckpt", ["--method", "magic"], "'magic' is no value for the argument method"),
    ],
)
def test_mistakes_are_one_sentence(
    checkpoint: str, options: list[str], sentence: str, folder: Path, tmp_path: Path, refused: Callable[..., None]
) -> None:
    (tmp_path / "empty").mkdir()
    options = [str(tmp_path / "empty") if option == "EMPTY" else option for option in options]
    refused("explain", folder, checkpoint, options, sentence)


def test_a_missing_file_is_told_before_anything_heavy_is_imported(
    folder: Path, tells_of_a_missing_file_at_once: Callable[[str, Path], None]
) -> None:
    tells_of_a_missing_file_at_once("explain", folder)


def test_heat_and_mask_lie_where_they_belong() -> None:
    radiograph = np.full((300, 200), 100, np.uint8)
    level = np.zeros((60, 60), np.float32)
    level[5:15, 12:22] = 2  # the padded square is 300 wide: rows 25 to 75, columns 60 to 110, 10 to 60 of the picture
    mask = np.zeros((300, 200), bool)
    mask[200:250, 50:100] = True
    picture = draw_explanation(radiograph, level, mask, "image", "heat").astype(int)
    factor, left = 560 / 300, 560 + 12 + (560 - round(200 * 560 / 300)) // 2
    red = (picture[:560, 572:, 2] - picture[:560, 572:, 0]) > 50
    rows_, columns = np.nonzero(red)
    assert rows_.mean() == pytest.approx(50 * factor, abs=4)
    assert columns.mean() + 572 == pytest.approx(left + 35 * factor, abs=4)
    line = (picture[:560, :560, 0] - picture[:560, :560, 2]) > 50
    rows_, columns = np.nonzero(line)
    assert rows_.mean() == pytest.approx(225 * factor, abs=4)
    assert columns.mean() == pytest.approx(left - 572 + 75 * factor, abs=4)
