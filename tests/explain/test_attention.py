from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from anomalib_xray.cli import main
from anomalib_xray.explain.attention import draw_attention
from anomalib_xray.io.write import write_png
from anomalib_xray.models import AlphaGan, Cae
from anomalib_xray.networks.attention_maps import AttentionMap
from anomalib_xray.phantom import render_phantom
from anomalib_xray.training.checkpoint import load_model

LAYERS = (
    "encoder.trunk.levels.2.2",
    "encoder.trunk.levels.3.2",
    "generator.layers.9",
    "generator.layers.13",
    "discriminator.trunk.levels.2.2",
    "discriminator.trunk.levels.3.2",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, save: Callable[..., Path]) -> Path:
    """Checkpoints of untrained models and two radiographs."""
    folder = tmp_path_factory.mktemp("attention")
    settings: dict[str, Any] = {"image_size": 64, "width": 8, "latent_size": 16}
    save(AlphaGan(**settings), folder / "model.ckpt")
    save(AlphaGan(**settings), folder / "old.ckpt", remove="model_name")
    save(AlphaGan(**settings, attention=False), folder / "plain.ckpt")
    save(Cae(image_size=64, width=4, latent_channels=8), folder / "cae.ckpt")
    (folder / "broken.ckpt").write_bytes(b"no checkpoint")
    torch.save({"state_dict": {}, "hyper_parameters": {}, "object": Path()}, folder / "pickled.ckpt")
    (folder / "pickle.ckpt").write_bytes(pickle.dumps({"state_dict": {}, "hyper_parameters": {}}))
    torch.save({"weight": torch.zeros(1)}, folder / "weights.ckpt")
    image = render_phantom(np.random.default_rng(0), kind="screw").image
    write_png(folder / "images" / "a.png", image)
    write_png(folder / "images" / "b.png", np.ascontiguousarray(image.T))
    return folder


def test_draws_one_picture_an_image_and_layer(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--checkpoint", str(folder / "model.ckpt"), str(folder / "images"), "--out", str(tmp_path)]
    assert main(["attention", *arguments]) == 0
    assert {file.name for file in tmp_path.iterdir()} == {f"{name}_{layer}.png" for name in "ab" for layer in LAYERS}
    for file in tmp_path.iterdir():
        picture = cv2.imread(str(file))
        assert picture is not None
        assert picture.shape[1] > picture.shape[0]
        # Grey has three equal channels, the map has colours.
        assert int(np.ptp(picture.astype(int), axis=2).max()) > 50
    printed = capsys.readouterr().out.splitlines()
    assert f"{folder / 'images' / 'a.png'}: {', '.join(LAYERS)}" in printed
    assert printed[-1] == f"2 of 2 images drawn; the pictures are in {tmp_path}."


def test_a_broken_image_is_told_and_the_rest_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = [str(tmp_path / "broken.png"), str(folder / "images" / "a.png")]
    out = tmp_path / "out"
    options = ["--checkpoint", str(folder / "old.ckpt"), "--model", "AlphaGan", "--query", "centre", "--out", str(out)]
    assert main(["attention", *images, *options]) == 1
    assert capsys.readouterr().err.count("error: ") == 1
    assert len(list(out.rglob("*.png"))) == len(LAYERS)


@pytest.mark.parametrize(
    ("checkpoint", "options", "sentence"),
    [
        ("missing.ckpt", [], "missing.ckpt is no file"),
        ("broken.ckpt", [], "broken.ckpt is no checkpoint of a model"),
        ("weights.ckpt", [], "weights.ckpt is no checkpoint of a model"),
        ("old.ckpt", [], "old.ckpt does not say which model it holds: name it with --model"),
        ("old.ckpt", ["--model", "Cae"], "old.ckpt is no checkpoint of Cae"),
        ("old.ckpt", ["--model", "Nothing"], "'Nothing' is no model that works here"),
        ("pickled.ckpt", ["--model", "AlphaGan"], "holds Python objects beside its weights, which could run code"),
        ("pickled.ckpt", [], "pickled.ckpt is no checkpoint that can be loaded: it holds Python objects"),
        ("pickle.ckpt", ["--model", "AlphaGan"], "pickle.ckpt is no checkpoint of a model"),
        ("cae.ckpt", ["--model", "AlphaGan"], "cae.ckpt is no checkpoint of AlphaGan but of Cae: leave out --model"),
        ("plain.ckpt", [], "AlphaGan was trained without self-attention"),
        ("cae.ckpt", [], "Cae was trained without self-attention"),
    ],
)
def test_mistakes_are_one_sentence(
    checkpoint: str, options: list[str], sentence: str, folder: Path, refused: Callable[..., None]
) -> None:
    refused("attention", folder, checkpoint, options, sentence)


def test_no_images_are_refused(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["attention", "--checkpoint", str(folder / "model.ckpt"), str(tmp_path / "empty")]) == 2
    assert "holds no PNG, JPEG or DICOM file" in capsys.readouterr().err


def test_a_missing_file_is_told_before_anything_heavy_is_imported(
    folder: Path, tells_of_a_missing_file_at_once: Callable[[str, Path], None]
) -> None:
    tells_of_a_missing_file_at_once("attention", folder)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "harmed",))

    torch.save({"state_dict": {}, "hyper_parameters": {}, "model_name": Harmful()}, tmp_path / "model.ckpt")
    for name in (None, "AlphaGan"):
        with pytest.raises(Exception, match="is no checkpoint"):
            load_model(tmp_path / "model.ckpt", name)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("shape", [(60, 40), (40, 60), (900, 1100)])
@pytest.mark.parametrize("padding", ["centred", "uniform"])
def test_maps_lie_where_they_belong(shape: tuple[int, int], padding: str) -> None:
    """A hot spot of the padded square is drawn on the radiograph's own pixel, the cross at its position."""
    side = max(shape)
    heat = torch.zeros(1, 1, side, side)
    top, left = ((side - shape[0]) // 2, (side - shape[1]) // 2) if padding == "centred" else (0, 0)
    heat[:, :, top : top + side // 10, left : left + side // 10] = 1  # the radiograph's upper left corner
    layer = AttentionMap(torch.zeros_like(heat), heat)
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    picture = draw_attention(np.full(shape, 100, np.uint8), layer, middle, "image", padding).astype(int)
    height, width = (round(length * 560 / side) for length in shape)
    received_left = picture.shape[1] - 560 + (560 - width) // 2
    colourful = np.ptp(picture, axis=2) > 30
    assert colourful[10, received_left + 10]
    assert not colourful[height - 10, received_left + width - 10]
    cross_left = (560 - width) // 2
    rows, columns = np.nonzero(colourful[:height, :560])
    assert rows.mean() == pytest.approx(height / 2, abs=2)
    assert columns.mean() == pytest.approx(cross_left + width / 2, abs=2)
