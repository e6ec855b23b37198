from __future__ import annotations

import socket

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation import text_detector
from anomalib_xray.preparation.text_detector import TextDetector

pytest.importorskip("rapidocr")
NO_BODY = np.zeros((300, 400), np.bool_)


def written(text: str) -> NDArray[np.uint8]:
    view = np.full((300, 400), 20, np.uint8)
    cv2.putText(view, text, (150, 170), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 230, 4)
    return view


def test_writing_is_boxed() -> None:
    view = written("RJM")
    boxes = TextDetector().detect(view, NO_BODY)
    inside = np.zeros(view.shape, np.uint8)
    for box in boxes:
        assert box.shape == (4, 2)
        cv2.fillConvexPoly(inside, np.rint(box).astype(np.int32), 1)
    assert inside[view > 100].mean() > 0.95
    assert inside.mean() < 0.1


def test_an_empty_picture_has_no_boxes() -> None:
    assert TextDetector().detect(np.zeros((300, 400), np.uint8), NO_BODY) == []


def test_nothing_is_downloaded_and_nothing_is_printed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    text_detector._reader.cache_clear()
    assert TextDetector().detect(written("LEFT"), NO_BODY)
    assert capfd.readouterr() == ("", "")


def test_the_model_is_loaded_once_a_process() -> None:
    TextDetector().detect(written("A"), NO_BODY)
    loaded = text_detector._reader.cache_info().misses
    TextDetector().detect(written("B"), NO_BODY)
    assert text_detector._reader.cache_info().misses == loaded


def test_the_identity_follows_version_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = TextDetector().identity
    try:
        text_detector._identity.cache_clear()
        assert TextDetector().identity == before
        text_detector._identity.cache_clear()
        monkeypatch.setattr(text_detector, "version", lambda _: "99")
        assert "99" in TextDetector().identity
        assert TextDetector().identity != before
    finally:
        text_detector._identity.cache_clear()


def test_a_wheel_without_the_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector, "_MODEL", "models/missing.onnx")
    text_detector._reader.cache_clear()
    with pytest.raises(XrayError, match=r"missing\.onnx is missing"):
        TextDetector().detect(written("A"), NO_BODY)


def test_without_rapidocr_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(XrayError, match=r"pip install 'anomalib-xray\[text\]'"):
        TextDetector()
