from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.report.cases import LONGEST, read_cases, short_names

MAP = np.zeros((16, 16), np.uint16)
MAP[4:8, 4:8] = 65535


def write_cases(folder: Path, **changes: object) -> Path:
    """Two cases; the map of the second reaches a tenth of what that of the first one does."""
    (folder / "cases").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(str(folder / "cases" / f"{name}.png"), np.full((16, 16), 128, np.uint8))
        cv2.imwrite(str(folder / "cases" / f"{name}_map.png"), MAP)
    rows = pd.DataFrame({"kind": "most anomalous normal", "image": ["a.png", "b.png"], "score": [2.0, 1.0], "label": 0})
    rows = rows.assign(map=["a_map.png", "b_map.png"], low=0.0, high=[10.0, 1.0], mask="")
    rows = rows.assign(image_path=["/data/p1/s/1.png", "/data/p2/s/1.png"]).assign(**changes)
    rows.to_csv(folder / "cases" / "cases.csv", index=False)
    return folder


def decode(uri: str) -> np.ndarray:
    _, _, content = uri.partition(",")
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR).astype(int)


def colour(uri: str, row: int, column: int) -> tuple[int, int]:
    """Grey picture's and heat map's difference of red and blue at a pixel of the 16."""
    picture = decode(uri)
    y, x = (round((place + 0.5) * LONGEST / 16) for place in (row, column))
    return tuple(int(picture[y, at, 2] - picture[y, at, 0]) for at in (x, x + LONGEST))  # type: ignore[return-value]  # two of them


def test_colours_mean_the_same_on_all_pictures(tmp_path: Path) -> None:
    first, second = read_cases(write_cases(tmp_path))
    assert (first.width, first.height) == (2 * LONGEST, LONGEST)
    assert decode(first.uri).shape == (LONGEST, 2 * LONGEST, 3)
    grey, hot = colour(first.uri, 6, 6)
    assert abs(grey) < 12
    assert hot > 60
    assert abs(colour(first.uri, 14, 14)[1]) < 12
    assert abs(colour(second.uri, 6, 6)[1]) < 12  # a tenth of the scale, where no colour begins
    assert (first.score, first.has_map, first.has_mask) == (2.0, True, False)


def test_the_true_anomaly_is_outlined(tmp_path: Path) -> None:
    plain = decode(read_cases(write_cases(tmp_path))[0].uri)
    folder = tmp_path / "masked"
    folder.mkdir()
    write_cases(folder, mask=["mask.png", ""])
    cv2.imwrite(str(folder / "cases" / "mask.png"), (MAP > 0).astype(np.uint8) * 255)
    first, second = read_cases(folder)
    edge = round(4 * LONGEST / 16)
    changed = np.abs(decode(first.uri) - plain).sum(2) > 60
    assert changed[edge : edge + 3, edge + 10].any()
    assert not changed[: edge - 6].any()
    assert (first.has_mask, second.has_mask) == (True, False)


def test_pictures_without_a_map_and_missing_ones(tmp_path: Path) -> None:
    first, second = read_cases(write_cases(tmp_path, map="", low="", high="", image=["a.png", "gone.png"]))
    assert (first.width, first.has_map) == (LONGEST, False)
    assert second.uri == ""


def test_pictures_are_read_from_the_folder_only(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "secret.png"), np.full((16, 16), 200, np.uint8))
    first, _ = read_cases(write_cases(tmp_path, image=["../secret.png", "b.png"]))
    assert first.uri == ""


def test_a_cell_without_cases_has_none(tmp_path: Path) -> None:
    assert read_cases(tmp_path) == []
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "cases.csv").write_text(pd.DataFrame([]).to_csv(index=False))
    assert read_cases(tmp_path) == []


def test_another_list_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "cases.csv").write_text("kind,image\nx,y\n")
    with pytest.raises(
        XrayError, match=r"cases\.csv has no column map, image_path, low, high, score; run the cell again"
    ):
        read_cases(tmp_path)


def test_names_leave_out_what_all_share() -> None:
    assert short_names(["/data/p1/s/1.png", "/data/p2/s/1.png"]) == ["p1/s/1.png", "p2/s/1.png"]
    assert short_names(["/data/one.png"]) == ["one.png"]
    assert short_names(["C:\\x\\a\\1.png", "C:\\x\\b\\1.png"]) == ["a/1.png", "b/1.png"]
    assert short_names(["/a/b/c/d/e/1.png", "/z/1.png"]) == ["c/d/e/1.png", "z/1.png"]
