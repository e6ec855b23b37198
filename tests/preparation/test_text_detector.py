from __future__ import annotations

import socket
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from anomalib_xray.errors import XrayError
from anomalib_xray.preparation import networks, text_detector
from anomalib_xray.preparation.markers import rectangle
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
    networks._compiled.cache_clear()
    assert TextDetector().detect(written("LEFT"), NO_BODY)
    assert capfd.readouterr() == ("", "")


def test_the_model_is_loaded_once_a_process() -> None:
    TextDetector().detect(written("A"), NO_BODY)
    loaded = networks._compiled.cache_info().misses
    TextDetector().detect(written("B"), NO_BODY)
    assert networks._compiled.cache_info().misses == loaded


def test_the_identity_follows_the_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = TextDetector().identity
    other = tmp_path / "other.onnx"
    other.write_bytes(b"another model")
    monkeypatch.setattr(text_detector, "_model", lambda: networks.ModelFile(other, (), "text detector"))
    assert TextDetector().identity != before


@pytest.mark.parametrize("degrees", [0, 30])
def test_boxes_are_those_of_rapidocr(degrees: float) -> None:
    """RapidOCR's own way from picture to boxes, at the same size and with the same thresholds."""
    from rapidocr import EngineType, RapidOCR

    engines = {f"{part}.engine_type": EngineType.OPENVINO for part in ("Det", "Cls", "Rec")}
    sizes = {"Det.limit_type": "max", "Det.limit_side_len": 288, "Det.thresh": 0.2, "Det.box_thresh": 0.25}
    reader = RapidOCR(params=engines | sizes | {"Global.log_level": "critical", "Global.use_rec": False})
    turn = cv2.getRotationMatrix2D((144, 144), degrees, 1)
    view = np.full((288, 288), 20, np.uint8)
    cv2.putText(view, "RJM", (95, 155), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 230, 4)
    view = np.asarray(cv2.warpAffine(view, turn, (288, 288), borderValue=20), np.uint8)
    (ours,) = TextDetector().detect(view, np.zeros(view.shape, np.bool_))
    (theirs,) = reader(view, use_cls=False).boxes
    np.testing.assert_allclose(rectangle(ours)[:, None], rectangle(theirs)[:, None], atol=4)


def test_the_network_is_not_asked_where_nothing_could_be_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: NDArray[np.uint8]) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(text_detector, "_writing", refuse)
    view = written("")
    view[:, :9] = 255  # a strip
    view[100:, 100:300] = 90
    view[100:, 180:220] = 160
    assert TextDetector().detect(view, (view == 90) | (view == 160)) == []
    with pytest.raises(AssertionError, match="asked"):
        TextDetector().detect(written("L"), NO_BODY)


def test_a_box_without_contrast_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    writing = np.zeros((240, 320), np.float32)
    writing[60:80, 100:160] = 1
    monkeypatch.setattr(text_detector, "_writing", lambda _: writing)
    monkeypatch.setattr(text_detector, "may_hold_letters", lambda *_: True)
    plate = np.random.default_rng(0).integers(20, 24, (300, 400), np.uint8)
    assert TextDetector().detect(plate, NO_BODY) == []
    assert len(TextDetector().detect(written("RJM")[75:, 25:].copy(), NO_BODY[75:, 25:])) == 1


def test_a_wheel_without_the_model_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector, "_MODEL", "models/missing.onnx")
    with pytest.raises(XrayError, match=r"missing\.onnx is missing"):
        TextDetector().detect(written("A"), NO_BODY)


def test_without_rapidocr_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_detector.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(XrayError, match=r"pip install 'anomalib-xray\[text\]'"):
        TextDetector()
