"""The page in a real browser: what a person sees and does. Waits are for what appears; the policy forbids eval."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from anomalib_xray import NOTICE
from anomalib_xray.app.answer import open_models
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.io.read import read_radiograph

from .browsing import IN_A_BROWSER, Page, add, expect
from .running import TESTS, Viewer, jpeg, module_from, picture, png

pytestmark = IN_A_BROWSER


def pixels(page: Page, pane: int) -> str:
    """Picture on a pane's canvas, once it is painted."""
    page.evaluate("() => new Promise((painted) => requestAnimationFrame(() => requestAnimationFrame(painted)))")
    return str(page.locator(".pane canvas").nth(pane).evaluate("(canvas) => canvas.toDataURL()"))


def verdict(page: Page, model: int) -> Any:
    return page.locator(".card.model").nth(model).locator(".verdict")


def test_every_format(page: Page, make_dicom: Callable[..., bytes]) -> None:
    deep = picture().astype(np.uint16) * 16
    contents = {
        "a_png": png(picture()),
        "b_png": png(deep),
        "c_jpg": jpeg(picture()),
        "IM000001": make_dicom(deep, bits=12, BodyPartExamined="HAND"),
    }
    add(page, **contents)
    expect(page.locator(".thumb.done")).to_have_count(4)
    for facts in ("8 bit · PNG", "16 bit · PNG", "8 bit · JPEG", "16 bit · DICOM · HAND"):
        expect(page.locator("#picture-facts")).to_have_text(f"40 × 50 · {facts}")
        page.keyboard.press("ArrowRight")
    expect(page.locator("#picture-name")).to_have_text("IM000001")
    expect(page.get_by_text("Doe")).to_have_count(0)


def test_wrong_files_say_why_and_the_others_go_on(page: Page) -> None:
    add(page, notes_txt=b"no picture at all", empty_png=b"", half_png=png(picture())[:150], good_png=png(picture()))
    expect(page.locator(".thumb.failed")).to_have_count(3)
    expect(page.locator(".thumb.done")).to_have_count(1)
    for sentence in ("neither a PNG nor a JPEG nor a DICOM", "is empty", "damaged or truncated"):
        expect(page.locator("#problem-text")).to_contain_text(sentence)
        page.get_by_role("button", name="Remove it from the list").click()
    expect(page.locator(".thumb")).to_have_count(1)
    expect(page.locator("#picture")).to_be_visible()


def test_a_name_is_text_and_nothing_else(page: Page) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    picked = [{"name": name, "mimeType": "image/png", "buffer": png(picture())}]
    page.locator("#files").set_input_files(picked)
    expect(page.locator("#picture-name")).to_have_text(name)
    expect(page.locator(".thumb-name")).to_have_text(name)
    page.get_by_role("button", name="Study").click()
    expect(page.locator("#study").get_by_role("button", name=name)).to_be_visible()
    expect(page.locator("img[src=x]")).to_have_count(0)


def test_two_bundles_side_by_side(page: Page, models: Ensemble) -> None:
    image = picture(bright=0.5)
    add(page, bright_png=png(image))
    expected = models.predictors["Cae"].predict(image)
    share = math.floor(10 * (expected.percentile or 0)) / 10
    expect(page.locator(".pane figcaption strong")).to_have_text(["Cae", "AlphaGan"])
    expect(verdict(page, 0)).to_contain_text("anomalous")
    expect(verdict(page, 1)).to_contain_text("no threshold")
    expect(page.locator("#fused")).to_be_hidden()  # the second knows no normal images
    first, second = (page.locator(".card.model").nth(index) for index in (0, 1))
    expect(first.locator(".value")).to_have_text(f"{expected.value:.4g}")
    expect(first.locator(".rank")).to_have_text(f"Higher than {share:g} % of 100 normal images")
    expect(second.locator(".rank")).to_have_text("No normal images to compare with")
    expect(first.get_by_role("img")).to_have_attribute("aria-label", re.compile("threshold 0.4"))
    expect(page.locator(".stage")).to_have_text(["1. inversion", "2. resize"])
    expect(page.locator("#stages h3")).to_have_text("Preparation · for Cae")
    page.get_by_role("checkbox", name="Original").check()
    expect(page.locator(".pane figcaption strong")).to_have_text(["Original", "Cae", "AlphaGan"])
    first.get_by_label("Score", exact=True).select_option("mean")
    expect(verdict(page, 0)).to_contain_text("no threshold")
    expect(page.locator(".thumb .dot").nth(0)).to_have_text("–")


def test_models_that_know_their_normal_images_are_fused(browser: Any, models: Ensemble) -> None:
    same = Ensemble([models.predictors["Cae"]] * 2, ["Cae", "Again"])
    image = picture(bright=0.5)
    percentile = models.predictors["Cae"].predict(image).percentiles["brightest"]
    assert percentile is not None
    with Viewer(same) as viewer:
        page = browser.new_page()
        page.goto(viewer.address)
        expect(page.locator("#open[data-ready]")).to_be_visible()
        add(page, a_png=png(image))
        shown = f"All models: mean percentile {math.floor(10 * percentile) / 10:g}"
        expect(page.locator("#fused")).to_have_text(shown)
        page.close()


def test_thresholds_and_opacity_work_in_the_browser(page: Page, models: Ensemble) -> None:
    add(page, spot_png=png(picture()))
    value = models.predictors["Cae"].predict(picture()).value
    asked = len(page.asked)
    expect(verdict(page, 0)).to_contain_text("not anomalous")
    page.get_by_label("Decision threshold, exact value").nth(0).fill(repr(value))
    page.keyboard.press("Enter")
    expect(verdict(page, 0)).to_have_text("▲ anomalous")  # a score that equals its threshold is
    page.get_by_label("Decision threshold, exact value").nth(0).fill(repr(value * 1.0001))
    page.keyboard.press("Enter")
    expect(verdict(page, 0)).to_contain_text("not anomalous")
    page.get_by_label("Decision threshold, exact value").nth(0).fill(repr(value * 0.9999))
    page.keyboard.press("Enter")
    expect(verdict(page, 0)).to_have_text("▲ anomalous")
    page.locator("#threshold-0").press("End")
    expect(verdict(page, 0)).to_contain_text("not anomalous")
    page.locator("#threshold-0").press("Home")
    expect(verdict(page, 0)).to_have_text("▲ anomalous")
    page.get_by_role("button", name="Decision threshold: back to the bundle's own").nth(0).click()
    expect(page.get_by_label("Decision threshold, exact value").nth(0)).to_have_value("0.4")
    page.get_by_role("checkbox", name="Original").check()
    original, shown = pixels(page, 0), pixels(page, 1)
    page.get_by_label("Heat map threshold, exact value").nth(0).fill("0.2")
    page.keyboard.press("Enter")
    lower = pixels(page, 1)
    page.get_by_label("Heat map opacity").fill("20")
    fainter = pixels(page, 1)
    page.get_by_role("checkbox", name="Outline").uncheck()
    plain = pixels(page, 1)
    page.get_by_role("checkbox", name="Heat map").uncheck()
    none = pixels(page, 1)
    assert len({shown, lower, fainter, plain, none}) == 5
    assert pixels(page, 0) == original == none
    page.get_by_label("Window, width").fill("60")
    assert pixels(page, 0) != original
    page.locator("#display-reset").click()
    assert pixels(page, 0) == original
    assert len(page.asked) == asked  # nothing of this needed the server


def test_the_keyboard(page: Page) -> None:
    add(page, a_png=png(picture()), b_png=png(picture(60, 40)), c_png=png(picture(40, 60)))
    name = page.locator("#picture-name")
    expect(name).to_have_text("a.png")
    for key, shown in (("ArrowRight", "b"), ("ArrowRight", "c"), ("ArrowRight", "c"), ("ArrowLeft", "b"), ("End", "c"),
                       ("Home", "a")):  # fmt: skip
        page.keyboard.press(key)
        expect(name).to_have_text(f"{shown}.png")
    page.keyboard.press("h")
    expect(page.locator("#heat")).not_to_be_checked()
    page.keyboard.press("]")
    expect(page.locator("#opacity-value")).to_have_text("70 %")
    page.keyboard.press("+")
    expect(page.locator("#zoom-value")).to_have_text("125 %")
    page.keyboard.press("0")
    expect(page.locator("#zoom-value")).to_have_text("100 %")
    page.keyboard.press("p")
    expect(page.locator("#stages")).to_be_hidden()
    page.keyboard.press("s")
    expect(page.get_by_role("heading", name="Study")).to_be_visible()
    page.keyboard.press("s")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard and meanings")).to_be_visible()
    page.get_by_label("Shortcuts of a single key").uncheck()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("h")
    expect(page.locator("#heat")).not_to_be_checked()
    page.locator("#threshold-0").press("ArrowRight")  # moves the slider, not to the next radiograph
    expect(name).to_have_text("a.png")
    page.locator("#viewer").focus()
    page.keyboard.press("Delete")
    expect(name).to_have_text("b.png")
    expect(page.locator(".thumb")).to_have_count(2)


def test_a_study(page: Page, models: Ensemble) -> None:
    images = picture(bright=0.34), picture(bright=0.51)
    low, high = (models.predictors["Cae"].predict(image).value for image in images)
    assert low < 0.4 < (low + high) / 2 < high
    add(page, a_png=png(images[0]), b_png=png(images[1]), bad_txt=b"nothing")
    page.get_by_role("button", name="Study").click()
    rows = page.locator("#study tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.nth(2)).to_contain_text("neither a PNG")
    total = page.locator("#study .total td").nth(1)
    expect(total).to_contain_text(f"{(low + high) / 2:.4g}")
    expect(total).to_contain_text("▲ anomalous")
    page.get_by_label("Study score").select_option("max")
    expect(total).to_contain_text(f"{high:.4g}")
    page.get_by_role("checkbox", name="b.png in the study").uncheck()
    expect(total).to_contain_text(f"{low:.4g}")
    expect(total).to_contain_text("not anomalous")
    page.get_by_role("checkbox", name="b.png in the study").check()
    page.get_by_label("Study score").select_option("mean")
    with page.expect_download() as download:
        page.get_by_role("button", name="Study JSON").click()
    report = json.loads(Path(download.value.path()).read_text())
    assert report["study"][0]["value"] == pytest.approx((low + high) / 2, rel=1e-6)
    assert [image["name"] for image in report["images"]] == ["a.png", "b.png"]
    page.locator("#study").get_by_role("button", name="b.png").click()
    expect(page.locator("#picture-name")).to_have_text("b.png")


def test_downloads(page: Page, make_dicom: Callable[..., bytes], tmp_path: Path, models: Ensemble) -> None:
    image = picture(bright=0.5)
    add(page, a_dcm=make_dicom(image, BodyPartExamined="HAND"))
    paths = {}
    for name, button in (("png", "Overlay PNG"), ("json", "Results JSON"), ("dcm", "DICOM")):
        with page.expect_download() as download:  # the first of a button
            page.get_by_role("button", name=button, exact=True).click()
        paths[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(paths[name])
        expect(page.locator("#save-status")).to_have_text("Saved.")
    assert [path.name for path in paths.values()] == ["a_overlay.png", "a_scores.json", "a_Cae_overlay.dcm"]
    overlay = cv2.imread(str(paths["png"]))
    assert overlay is not None
    height, width = overlay.shape[:2]
    assert width == 2 * 640
    assert height > 640 * 50 / 40
    spot = overlay[round(0.7 * 800), round(0.7 * 640)].astype(int)
    assert spot[2] > spot[0] + 40  # the spot is coloured
    report = json.loads(paths["json"].read_text())
    assert report["notice"] == NOTICE
    told, expected = report["image"]["models"][0], models.predictors["Cae"].predict(image)
    assert told["scores"] == pytest.approx(expected.scores)
    assert (told["is_anomalous"], told["threshold"], told["value"]) == (True, 0.4, pytest.approx(expected.value))
    assert read_radiograph(paths["dcm"]).shape == (height, width // 2)
    assert b"Doe" not in paths["dcm"].read_bytes()
    page.get_by_label("File the capture with the patient").check()
    with page.expect_download() as download:
        page.get_by_role("button", name="DICOM", exact=True).click()
    assert b"Doe^Jane" in Path(download.value.path()).read_bytes()
    expect(page.locator("#save-status")).to_have_text("Saved.")


def test_a_dicom_file_is_shown_through_its_own_windows(page: Page, make_dicom: Callable[..., bytes]) -> None:
    stored = np.linspace(100, 4000, 2000).astype(np.uint16).reshape(40, 50)
    windows = {"WindowCenter": [2000, 1500.5], "WindowWidth": [3500, 801]}
    add(page, a_dcm=make_dicom(stored, bits=12, RescaleSlope=1, RescaleIntercept=-100, **windows))
    width, level = page.locator("#width-value"), page.locator("#level-value")
    expect(width).to_have_text("3500")
    expect(level).to_have_text("2000")
    preset = page.get_by_label("Window of the file")
    expect(preset.locator("option:not([disabled])")).to_have_text(["1: W 3500 L 2000", "2: W 801 L 1501"])
    first = pixels(page, 0)
    preset.select_option("1")
    expect(width).to_have_text("801")
    assert pixels(page, 0) != first
    page.get_by_label("Level, centre").fill("900")
    expect(level).to_have_text("900")
    expect(preset).to_have_value("")
    page.locator("#display-reset").click()
    expect(width).to_have_text("3500")
    assert pixels(page, 0) == first
    page.locator(".pane canvas").nth(0).hover()
    shown = page.locator(".pane .readout").nth(0)
    expect(shown).to_contain_text("level 1")  # 1950 +- a row, in the file's own units
    add(page, b_png=png(stored))  # of another format, there is nothing to choose
    page.keyboard.press("End")
    expect(preset).to_be_hidden()


def test_what_no_model_looked_at_lies_outside_of_a_frame(browser: Any, bundles: list[Path], tmp_path: Path) -> None:
    write = module_from(TESTS / "edge" / "tiny_bundle.py").write_bundle
    carrier = np.zeros((400, 300), np.uint8)
    carrier[100:350, 50:250] = cv2.resize(picture(100, 80), (200, 250)) + 60
    crop = write(tmp_path / "crop", preparation="steps:\n  - carrier_crop\n  - resize: {longest_side: 40}\n")
    with Viewer(open_models([crop, bundles[0]], precision=None, device="CPU", threads=1)) as viewer:
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(viewer.address)
        expect(page.locator("#open[data-ready]")).to_be_visible()
        add(page, a_png=png(carrier))
        captions = page.locator("figcaption")
        expect(captions.nth(0)).to_contain_text("blue frame: what was looked at")
        expect(captions.nth(1)).not_to_contain_text("blue frame")
        page.get_by_role("checkbox", name="Heat map").uncheck()
        pixels(page, 0)  # waits for the paint
        framed, whole = (page.locator(".pane canvas").nth(pane).evaluate(BLUE) for pane in (0, 1))
        assert framed > 100
        assert whole == 0
        page.close()


def test_what_is_not_comparable_has_no_verdict(browser: Any, make_dicom: Callable[..., bytes], tmp_path: Path) -> None:
    write = module_from(TESTS / "edge" / "tiny_bundle.py").write_bundle
    hands = write(tmp_path / "hands", model="Hands", scope={"body_parts": ["HAND"], "views": [], "sides": None})
    with Viewer(open_models([hands], precision=None, device="CPU", threads=1)) as viewer:
        page = browser.new_page()
        page.goto(viewer.address)
        expect(page.locator("#open[data-ready]")).to_be_visible()
        add(page, a_dcm=make_dicom(picture(bright=0.5), BodyPartExamined="CHEST"))
        for place in (verdict(page, 0), page.locator("figcaption"), page.locator("#live")):
            expect(place.filter(has_text="not comparable: ")).to_have_count(1)
        expect(page.get_by_text("▲")).to_have_count(0)
        page.get_by_role("button", name="Study").click()
        expect(page.locator("#study .total")).to_contain_text("not comparable: ")
        with page.expect_download() as download:
            page.get_by_role("button", name="Study JSON").click()
        told = json.loads(Path(download.value.path()).read_text())
        for entry in (told["study"][0], told["images"][0]["models"][0]):
            assert entry["is_anomalous"] is None
            assert entry["not_comparable"]
        page.close()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_drop_and_paste(page: Page, way: str) -> None:
    script = """([way, numbers]) => {
        const transfer = new DataTransfer();
        for (const name of ["one.png", "two.png"]) transfer.items.add(new File([new Uint8Array(numbers)], name));
        const event = way === "drop"
            ? new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true })
            : new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    page.evaluate(script, [way, list(png(picture()))])
    expect(page.locator(".thumb.done")).to_have_count(2)
    expect(page.locator("#live")).to_contain_text("2 of 2 done")


BLUE = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let place = 0; place < data.length; place += 4) count += data[place + 2] > data[place] + 60;
    return count;
}"""
"""Number of blue pixels."""
