from __future__ import annotations

from anomalib_xray.evaluation.bootstrap import Estimate
from anomalib_xray.evaluation.plan import SHORTCUTS, Cell, Grid
from anomalib_xray.evaluation.report.findings import caution, findings_of, listed
from anomalib_xray.evaluation.report.material import Part, parts_of
from anomalib_xray.evaluation.tables import Row


def make_row(model: str, auroc: float, against: float | None = None, score: str = "pred_score") -> Row:
    row = Row("hands", "raw", False, model, score)
    row.seeds["AUROC"] = {1: auroc - 0.01, 2: auroc + 0.01}
    row.estimates["AUROC"] = Estimate(auroc, auroc - 0.05, auroc + 0.05)
    if against is not None:
        row.against["AUROC"] = Estimate(against, against - 0.05, against + 0.05)
    return row


def make_part(*rows: Row, baseline: str | None = "Base") -> Part:
    cells = {row.model: [Cell(row.model, "hands", "raw", False, 1)] for row in rows}
    return Part("hands", "raw", False, list(rows), cells, {}, baseline)


def texts(part: Part) -> str:
    return " ".join(sentence.text for sentence in findings_of(part))


def test_the_best_and_its_difference_from_the_baseline() -> None:
    part = make_part(make_row("Base", 0.7), make_row("Good", 0.8, 0.1), make_row("Bad", 0.6, -0.1))
    assert texts(part) == (
        "Good is highest: AUROC 0.800 ± 0.014 over 2 seeds, 95 % interval 0.750 to 0.850. It beats the baseline Base "
        "(0.700): difference +0.100, interval +0.050 to +0.150. Of 2 other models, 1 is clearly better than it, "
        "1 clearly worse."
    )
    assert not [sentence for sentence in findings_of(part) if sentence.tone == "warning"]


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    part = make_part(make_row("Base", 0.7), make_row("Good", 0.72, 0.02))
    assert "It is not clearly better than the baseline Base" in texts(part)
    assert "interval -0.030 to +0.070, which holds 0." in texts(part)


def test_a_baseline_that_wins_is_said_to_win() -> None:
    part = make_part(make_row("Base", 0.9), make_row("Ours", 0.7, -0.2))
    assert "Base is highest" in texts(part)
    assert "It is the baseline. Of 1 other model, 0 are clearly better than it, 1 clearly worse." in texts(part)


def test_a_shortcut_that_does_as_well_is_a_warning() -> None:
    shortcut = make_row(SHORTCUTS, 0.15, score="pixels")
    part = make_part(shortcut, make_row("Good", 0.8), baseline=None)
    (warning,) = [sentence.text for sentence in findings_of(part) if sentence.tone == "warning"]
    assert warning.startswith("A number that needs no model does as well as every model: pixels (0.850).")
    assert warning.endswith("The data leak their label, and no figure here shows that illness is seen.")
    part = make_part(make_row(SHORTCUTS, 0.52, score="pixels"), make_row("Good", 0.51))
    assert "Its interval holds 0.5, so that neither it" in texts(part)
    part = make_part(make_row(SHORTCUTS, 0.75, score="pixels"), make_row("Good", 0.8), make_row("Bad", 0.7))
    assert "The shortcut pixels (0.750) needs no model and does as well as Bad." in texts(part)
    part = make_part(make_row(SHORTCUTS, 0.55, score="pixels"), make_row("Good", 0.8))
    assert "No shortcut does as well as any model; the best one is pixels (0.550)." in texts(part)


def test_chance_and_less_than_chance_are_warnings() -> None:
    part = make_part(make_row("Guess", 0.53), make_row("Wrong", 0.3), baseline=None)
    warnings = [sentence.text for sentence in findings_of(part) if sentence.tone == "warning"]
    assert "The interval holds 0.5" in warnings[0]
    assert warnings[1].startswith("Below chance (AUROC < 0.45): Wrong;")


def test_scores_of_a_model_are_told_apart() -> None:
    part = make_part(make_row("Base", 0.6), make_row("Gan", 0.7, 0.1, "mse"), make_row("Gan", 0.8, 0.2, "l1"))
    assert "Gan by l1 is highest" in texts(part)
    assert [row.score for row in part.leaders] == ["l1", "pred_score"]
    assert part.styles == {"Gan": "s1", "Base": "base"}
    assert [part.label(row) for row in part.models] == ["Gan l1", "Gan mse", "Base"]


def test_what_has_no_figures_is_named(rows: list[Row], grid: Grid) -> None:
    part = parts_of(rows, grid)[0]
    assert "Failed with at least one seed: Broken. No figures yet: Late." in texts(part)
    assert part.baseline_row is not None


def test_more_figures_ask_for_more_caution() -> None:
    part = make_part(make_row("One", 0.7), make_row("Two", 0.6))
    assert caution([part]).startswith("The highest of 2 figures")
    assert caution([make_part(make_row("One", 0.7))]) == ""
    assert listed(["A", "B", "C"]) == "A, B and C"
