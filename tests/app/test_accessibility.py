"""The page for everybody: contrast, names for screen readers, the order of the keyboard, small screens."""

from __future__ import annotations

import pytest

from anomalib_xray import NOTICE

from .browsing import IN_A_BROWSER, Page, add, expect
from .running import picture, png

pytestmark = IN_A_BROWSER


def test_a_keyboard_alone_reaches_everything_in_order(page: Page) -> None:
    add(page, a_png=png(picture()))
    page.locator(".skip").focus()
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("() => document.activeElement.id || document.activeElement.className"))
        if seen[-1] == "save-dicom":
            break
    order = [seen.index(name) for name in ("open", "zoom-out", "heat", "score-0", "threshold-0", "save-dicom")]
    assert order == sorted(order)


@pytest.mark.parametrize("size", [(1400, 900), (820, 1180), (390, 800)])
def test_it_is_readable(page: Page, size: tuple[int, int]) -> None:
    page.set_viewport_size({"width": size[0], "height": size[1]})
    add(page, a_png=png(picture(bright=0.5)), notes_txt=b"nothing")
    expect(page.get_by_text(NOTICE).first).to_be_in_viewport()
    for view in ("picture", "study"):
        expect(page.locator(f"#{view}")).to_be_visible()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate(UNREADABLE) == []
        assert page.evaluate(UNNAMED) == []
        page.locator("#study-toggle").click()


UNNAMED = """() => [...document.querySelectorAll("button, input, select, canvas[role], dialog, svg[role]")]
    .filter((element) => element.checkVisibility())
    .filter((element) => !(element.ariaLabel || element.labels?.[0]?.textContent.trim() || element.textContent.trim()
        || element.getAttribute("aria-labelledby")))
    .map((element) => element.outerHTML)"""
"""Controls that a screen reader could not name."""

UNREADABLE = """() => {
    const channels = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([red, green, blue]) => [red, green, blue].map((value) => value / 255)
        .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
        .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3 || colour[3] > 0.5) return colour;
        }
        return [0, 0, 0];
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const bad = [];
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.textContent.trim() || !element.checkVisibility()) continue;
        if (element.closest(":disabled, svg, script")) continue;
        const [one, other] = [light(channels(getComputedStyle(element).color)), light(ground(element))];
        const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (contrast < 4.5) bad.push(`${texts.currentNode.textContent.trim()}: ${contrast.toFixed(2)}`);
    }
    return bad;
}"""
"""Texts whose contrast with their ground is below 4.5 (WCAG 2.2, success criterion 1.4.3)."""
