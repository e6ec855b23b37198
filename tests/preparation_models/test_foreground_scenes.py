from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.io.write import write_png
from anomalib_xray.preparation_models.foreground_scenes import (
    SIDE,
    Scene,
    cropped,
    draw_example,
    read_scenes,
    render_scenes,
)


def test_scenes_depend_on_seed_and_index_alone() -> None:
    (first, second), (again,), (other,) = (
        list(render_scenes(indices, seed)) for indices, seed in ((range(3, 5), 1), (range(4, 5), 1), (range(4, 5), 2))
    )
    np.testing.assert_array_equal(second.image, again.image)
    assert first.image.shape != second.image.shape or (first.image != second.image).any()
    assert other.image.shape != again.image.shape or (other.image != again.image).any()


def test_scenes_are_small_and_hold_a_hand() -> None:
    for scene in render_scenes(range(3), 0, longest_side=128):
        assert max(scene.image.shape) == 128
        assert scene.image.shape == scene.foreground.shape
        assert 0.01 < scene.foreground.mean() < 0.7
        assert scene.image[scene.foreground].mean() > scene.image[~scene.foreground].mean()  # not inverted


def test_a_scene_is_cropped_to_its_carrier() -> None:
    image = np.zeros((40, 60), np.uint8)
    image[10:31, 20:51] = np.arange(1, 32)
    corners = np.array([[20, 10], [50, 10], [50, 30], [20, 30]], np.float32)
    result = cropped(Scene(image, image > 10, corners))
    np.testing.assert_array_equal(result.image, image[10:31, 20:51])
    np.testing.assert_array_equal(result.foreground, image[10:31, 20:51] > 10)
    assert result.carrier_corners is None


def test_a_scene_without_a_carrier_is_not_cropped() -> None:
    scene = Scene(np.zeros((4, 5), np.uint8), np.zeros((4, 5), bool), None)
    assert cropped(scene) is scene


def test_examples_are_in_range_and_repeat_with_their_seed() -> None:
    scenes = list(render_scenes(range(4), 0))
    for seed in range(40):
        image, foreground = draw_example(scenes[seed % 4], np.random.default_rng(seed))
        assert image.shape == foreground.shape == (SIDE, SIDE)
        assert image.dtype == foreground.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        assert set(np.unique(foreground)) <= {0, 1}
        again = draw_example(scenes[seed % 4], np.random.default_rng(seed))
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(foreground, again[1])


def test_picture_and_foreground_move_together() -> None:
    foreground = np.zeros((256, 180), np.uint8)
    foreground[40:200, 60:130] = 1
    scene = Scene(foreground * 180 + 20, foreground > 0, None)
    for seed in range(20):
        image, mask = draw_example(scene, np.random.default_rng(seed))
        if mask.any():
            assert image[mask > 0].mean() > image[(mask == 0) & (image > 0) & (image < 0.99)].mean() - 0.05


def test_radiographs_with_a_mask_are_read_with_bright_bones(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = render_scenes(range(0, 4, 2), 0, longest_side=400)
    write_png(tmp_path / "images" / "a" / "1.png", first.image)
    write_png(tmp_path / "images" / "a" / "2.png", 255 - second.image)
    write_png(tmp_path / "images" / "b.png", first.image)
    for name, scene in (("1", first), ("2", second), ("3", first)):
        write_png(tmp_path / "masks" / "a" / f"{name}.png", scene.foreground.astype(np.uint8) * 255)
    scenes = read_scenes(tmp_path / "images", tmp_path / "masks")
    assert len(scenes) == 2
    assert f"masks without a radiograph: 1 (first {tmp_path / 'masks' / 'a' / '3.png'})" in caplog.text
    for scene in scenes:
        assert max(scene.image.shape) == 256
        assert scene.image.shape == scene.foreground.shape
        assert scene.image[scene.foreground].mean() > scene.image[~scene.foreground].mean()


def test_folders_without_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(XrayError, match="There is no folder"):
        read_scenes(tmp_path, tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    with pytest.raises(XrayError, match="No radiograph"):
        read_scenes(tmp_path, tmp_path / "masks")
