from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from anomalib_xray.evaluation.shortcuts import SHORTCUTS as NUMBERS
from anomalib_xray.evaluation.shortcuts import direction_of, shortcut_numbers
from anomalib_xray.experiments import cell_task as module
from anomalib_xray.experiments.grid import SHORTCUTS, Cell


def test_numbers_follow_their_definitions() -> None:
    image = np.zeros((100, 200), np.uint8)
    image[20:60, 50:150] = 51
    image[20:60, 100:150] = 153
    numbers = shortcut_numbers(image)
    assert tuple(numbers) == NUMBERS
    assert numbers["pixels"] == 20000
    assert numbers["aspect"] == 2
    assert numbers["mean_grey"] == pytest.approx(0.4)
    assert numbers["contrast"] == pytest.approx(0.2)
    assert numbers["foreground_area"] == pytest.approx(0.2)


def test_depth_does_not_matter() -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 60), dtype=np.uint8)
    deep = shortcut_numbers(image.astype(np.uint16) * 257)
    assert deep == pytest.approx(shortcut_numbers(image), rel=1e-4)


def test_blurring_lowers_the_sharpness_and_size_does_not_change_it() -> None:
    image = np.random.default_rng(0).integers(50, 200, (64, 64), dtype=np.uint8)
    image = cv2.resize(image, (512, 512), interpolation=cv2.INTER_CUBIC)
    sharp = shortcut_numbers(image)["sharpness"]
    assert shortcut_numbers(cv2.GaussianBlur(image, (0, 0), 8))["sharpness"] < 0.5 * sharp
    larger = cv2.resize(image, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    assert shortcut_numbers(larger)["sharpness"] == pytest.approx(sharp, rel=0.05)


def test_a_black_picture_has_numbers_too() -> None:
    numbers = shortcut_numbers(np.zeros((30, 30), np.uint8))
    assert all(np.isfinite(value) for value in numbers.values())
    assert numbers["foreground_area"] == 0


def test_a_marker_beside_the_body_is_counted() -> None:
    image = np.zeros((512, 400), np.uint8)
    cv2.ellipse(image, (200, 280), (110, 180), 0, 0, 360, 120, -1)
    without = shortcut_numbers(image)["markers"]
    cv2.putText(image, "L", (330, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.4, 255, 6)
    assert (without, shortcut_numbers(image)["markers"]) == (0, 1)


def test_directions_are_found_on_validation_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Abnormal validation images are the bright ones, abnormal test images the dark ones."""
    bright = {("val", 1): 200, ("val", 0): 90, ("test", 1): 80, ("test", 0): 220}
    rows = []
    for (split, label), grey in bright.items():
        for number in range(3):
            path = tmp_path / f"{split}{label}{number}.png"
            cv2.imwrite(str(path), np.full((40, 30 + number), grey + number, np.uint8))
            ids = {"image_path": str(path), "patient": path.stem, "study": "1"}
            rows.append({**ids, "split": split, "label_index": label})
    samples = pd.DataFrame(rows)
    monkeypatch.setattr(module, "build_data", lambda _: SimpleNamespace(samples=samples))
    cell = Cell(SHORTCUTS, "hands", "raw", False, 0)
    found = module._measure(cell, tmp_path)
    assert found["images"] == 6
    assert found["directions"]["mean_grey"] == 1
    assert set(found["directions"]) == set(NUMBERS)
    assert len(pd.read_csv(tmp_path / module.SCORES)) == 6
    samples = samples[(samples["split"] == "test") | (samples["label_index"] == 0)]
    assert module._measure(cell, tmp_path)["directions"] == {}


def test_a_number_that_tells_nothing_stays_as_it_is() -> None:
    assert [direction_of([0, 0, 1, 1], numbers) for numbers in ([1, 2, 3, 4], [4, 3, 2, 1], [1, 1, 1, 1])] == [1, -1, 1]
