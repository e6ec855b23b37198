"""One to eight models, from a telephone's width to a wide screen's: nothing is cut off, and two are compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from anomalib_xray.app.gate import Limits
from anomalib_xray.edge.ensemble import Ensemble
from anomalib_xray.io.read import read_radiograph

from .browsing import IN_A_BROWSER, Page, add, expect
from .running import Viewer, picture, png
from .test_accessibility import UNNAMED, UNREADABLE

pytestmark = IN_A_BROWSER

LABELS = ["Cae", "AlphaGan", "ReconstructionAe (all_parts)", "Vae", "DualDistribution", "MemAe 6", "FeatureAe", "Bae"]
NAMES = "figcaption strong"


@contextmanager
def opened(browser: Any, models: Ensemble, count: int, limits: Limits | None = None) -> Iterator[Page]:
    """A page with that many models, every second of which knows its normal images."""
    predictors = [*models.predictors.values()] * len(LABELS)
    with Viewer(Ensemble(predictors[:count], LABELS[:count]), limits) as viewer:
        page = browser.new_page()
        page.goto(viewer.address)
        expect(page.locator("#open[data-ready]")).to_be_visible()
        yield page
        page.close()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_nothing_is_cut_off_and_pictures_are_large(browser: Any, models: Ensemble, count: int) -> None:
    with opened(browser, models, count) as page:
        add(page, a_hand_with_a_long_name=png(picture(640, 512, 0.5)), b_png=png(picture(640, 512, 0.3)))
        for width in (390, 1024, 1600):
            page.set_viewport_size({"width": width, "height": 900})
            for original in (False, True):
                page.get_by_role("checkbox", name="Original").set_checked(original)
                expect(page.locator(".pane")).to_have_count(min(count, 2) + original)
                assert page.evaluate(CUT_OFF) == []
                sizes = page.locator(".pane canvas").evaluate_all(SIZES, 512 / 640)
                assert min(size[0] for size in sizes) >= 240, (width, sizes)
                assert min(size[1] for size in sizes) >= 300, (width, sizes)
            page.locator("#study-toggle").click()
            expect(page.locator("#study")).to_be_visible()
            assert page.evaluate(CUT_OFF) == []
            page.locator("#study-toggle").click()
        assert page.evaluate(UNREADABLE) == []
        assert page.evaluate(UNNAMED) == []


def test_the_keyboard_chooses_which_two_are_compared(browser: Any, models: Ensemble) -> None:
    with opened(browser, models, 5) as page:
        expect(page.locator("#choice")).to_be_hidden()
        add(page, a_png=png(picture()))
        choice = page.locator("#choice button")
        assert [text.split("0.")[0] for text in choice.all_inner_texts()] != []
        expect(choice.nth(0)).to_contain_text("not anomalous")
        expect(choice.nth(3)).to_contain_text("no threshold")
        expect(page.locator(NAMES)).to_have_text(LABELS[:2])
        choice.nth(1).focus()
        for _ in range(3):
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")  # the fifth takes the place of the first
        expect(page.locator(NAMES)).to_have_text([LABELS[1], LABELS[4]])
        expect(page.locator(".card.model:visible h2")).to_have_text([LABELS[1], LABELS[4]])
        expect(page.locator("#choice button[aria-pressed=true]")).to_have_count(2)
        expect(choice.nth(4)).to_be_focused()
        page.keyboard.press("Space")  # one alone is larger, and never none
        expect(page.locator(NAMES)).to_have_text([LABELS[1]])
        choice.nth(1).press("Enter")
        expect(page.locator(NAMES)).to_have_text([LABELS[1]])


def test_all_models_are_saved_one_after_the_other(browser: Any, models: Ensemble, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    # All eight together would have 14 megabytes.
    with opened(browser, models, 8, Limits(body=100_000, capture=3_000_000)) as page:
        add(page, a_png=png(picture()))
        saved: list[Any] = []
        page.on("download", lambda download: saved.append(download))
        page.get_by_role("button", name="DICOM", exact=True).click()
        expect(page.locator("#save-status")).to_have_text("Saved.")
        page.get_by_role("button", name="Overlay PNG").click()
        expect(page.locator("#save-status")).to_have_text("Saved.")
        while len(saved) < 9:
            page.wait_for_event("download")
        names = [download.suggested_filename for download in saved]
        assert names[:3] == [
            "a_Cae_overlay.dcm",
            "a_AlphaGan_overlay.dcm",
            "a_ReconstructionAe_(all_parts)_overlay.dcm",
        ]
        assert len(set(names)) == 9
        shapes = {}
        for download in saved:
            download.save_as(tmp_path / download.suggested_filename)
            shapes[download.suggested_filename] = read_radiograph(tmp_path / download.suggested_filename).shape
        height, width = shapes["a_Cae_overlay.dcm"]
        assert width == 640
        assert height > 800
        assert shapes["a_overlay.png"] == (2 * height, 4 * width)


SIZES = """(canvases, ratio) => canvases.map((canvas) => {
    const height = Math.min(canvas.clientHeight, canvas.clientWidth / ratio);
    return [height * ratio, height];
})"""
"""Width and height of the picture that is drawn into each canvas."""

CUT_OFF = """() => {
    const bad = document.documentElement.scrollWidth > innerWidth ? ["the page is wider than the window"] : [];
    const inside = (element, container, scrolls) => {
        const [one, other] = [element.getBoundingClientRect(), container.getBoundingClientRect()];
        const fits = one.left >= other.left - 1 && one.right <= other.right + 1;
        return fits && (scrolls || one.bottom <= other.bottom + 1);
    };
    const pairs = [[".thumb", "li"], [".thumb .dot", ".thumb"], [".thumb-picture", ".thumb"], ["#study .chip", "td"],
        ["figcaption *", "figcaption"], ["figcaption", ".pane"], ["#choice button *", "button"], [".card *", ".card"],
        ["#choice button", "#choice"], ["#study table", "#study"]];
    for (const [selector, around] of pairs) {
        for (const element of document.querySelectorAll(selector)) {
            const container = element.parentElement.closest(around);
            if (!container || !element.checkVisibility() || element.closest("svg")) continue;
            if (!inside(element, container, around === "#study")) bad.push(`${selector}: ${element.textContent}`);
        }
    }
    for (const element of document.querySelectorAll(".chip, .dot, .numbers, #choice strong, figcaption strong")) {
        const { scrollWidth, clientWidth, textContent } = element;
        if (element.checkVisibility() && clientWidth && scrollWidth > clientWidth + 1) bad.push(`cut: ${textContent}`);
    }
    return bad;
}"""
"""Elements that stand out of their parent, and so are cut off or lie over another."""
