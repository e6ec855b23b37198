from __future__ import annotations

import re

import pytest

from anomalib_xray.report.svg import Axis, Chart, interval_mark


def make_chart() -> Chart:
    return Chart(Axis("x", 0, 10), Axis("y", 0, 1), "a chart", (400, 300))


def test_values_lie_on_their_axis() -> None:
    assert Axis("", 2, 4).share(3) == 0.5
    assert Axis("", 1, 100, log=True).share(10) == pytest.approx(0.5)
    chart = make_chart()
    assert chart.at(0, 0) == (chart.left, 300 - chart.bottom)
    assert chart.at(10, 1) == (400 - chart.right, chart.top)


@pytest.mark.parametrize(
    ("axis", "ticks"),
    [
        (Axis("", 0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (Axis("", 0, 1, sparse=True), [0, 0.5, 1]),
        (Axis("", 0.5, 2000, log=True), [1, 10, 100, 1000]),
        (Axis("", 9, 60, log=True), [10, 20, 50]),
    ],
)
def test_ticks_are_round_and_inside(axis: Axis, ticks: list[float]) -> None:
    assert axis.ticks() == pytest.approx(ticks)


def test_names_become_text() -> None:
    chart = make_chart()
    chart.line([1, 2], [0.1, 0.2], "s1", "<b>&</b>")
    chart.write(1, 0.1, "<i>", "name")
    svg = chart.svg()
    assert "<b>" not in svg
    assert "<i>" not in svg
    assert "<title>&lt;b&gt;&amp;&lt;/b&gt;</title>" in svg


def test_a_single_point_is_a_dot() -> None:
    chart = make_chart()
    chart.line([1], [0.5], "s1", "one")
    assert 'class="dot s1"' in chart.svg()
    assert 'class="line s1"' not in chart.svg()


def test_names_are_not_written_over_each_other() -> None:
    chart = make_chart()
    for place in range(12):
        chart.write(5, 0.5, f"name {place}", "name")
    boxes = [
        (float(x) - (len("name 0") * 6.2 if anchor == "end" else 0), float(y))
        for x, y, anchor in re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)" text-anchor="(\w+)"', chart.svg())
    ]
    assert 2 <= len(boxes) < 12
    for place, (x, y) in enumerate(boxes):
        assert all(abs(x - other) > 36 or abs(y - row) >= 12 for other, row in boxes[:place])


def test_a_mark_shows_the_figure_its_interval_and_its_seeds() -> None:
    mark = interval_mark(0.75, 0.5, 1.0, [0.7, 0.8], "AUROC 0.75")
    assert 'd="M60.0,8H120.0"' in mark
    assert 'class="value" cx="90.0"' in mark
    assert mark.count('class="seed"') == 2
    assert 'aria-label="AUROC 0.75"' in mark
