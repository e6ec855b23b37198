from __future__ import annotations

from anomalib_xray.evaluation.bootstrap import Estimate
from anomalib_xray.experiments.grid import SHORTCUTS, Cell, Grid
from anomalib_xray.report.findings import caution, findings_of, listed
from anomalib_xray.report.page_tables import main_table
from anomalib_xray.report.parts import Part, parts_of
from anomalib_xray.report.results import UNVALIDATED
from anomalib_xray.report.rows import Row


def make_row(
    model: str, auroc: float, against: float | None = None, score: str = "pred_score", **shortcuts: float
) -> Row:
    row = Row("hands", "raw", False, model, score)
    row.seeds["AUROC"] = {1: auroc - 0.01, 2: auroc + 0.01}
    row.estimates["AUROC"] = Estimate(auroc, auroc - 0.05, auroc + 0.05)
    row.estimates |= dict.fromkeys(("AP", "sensitivity_at_90"), Estimate(0.5, 0.4, 0.6))
    row.joint["AUROC"] = Estimate(auroc, auroc - 0.08, auroc + 0.08)
    if against is not None:
        row.against["AUROC"] = Estimate(against, against - 0.05, against + 0.05)
        row.joint["against"] = Estimate(against, against - 0.08, against + 0.08)
    row.joint |= {name: Estimate(value, value - 0.08, value + 0.08) for name, value in shortcuts.items()}
    return row


def make_part(*rows: Row, baseline: str | None = "Base") -> Part:
    cells = {row.model: [Cell(row.model, "hands", "raw", False, 1)] for row in rows}
    return Part("hands", "raw", False, list(rows), cells, {}, baseline)


def texts(part: Part) -> str:
    return " ".join(sentence.text for sentence in findings_of(part))


def test_the_best_and_its_difference_from_the_baseline() -> None:
    part = make_part(make_row("Base", 0.7), make_row("Good", 0.8, 0.1), make_row("Bad", 0.6, -0.1))
    assert texts(part) == (
        "Good is highest: AUROC 0.800 ± 0.014 over 2 seeds, 95 % interval of this figure alone 0.750 to 0.850. It "
        "beats the baseline Base (0.700): difference +0.100, interval with all comparisons counted +0.020 to +0.180. "
        "Of 2 other models, 1 is clearly better than it, 1 clearly worse."
    )
    assert not [sentence for sentence in findings_of(part) if sentence.tone == "warning"]


def test_a_difference_that_may_be_chance_is_called_so() -> None:
    # Clear by itself, and not among all others.
    part = make_part(make_row("Base", 0.7), make_row("Good", 0.77, 0.07), make_row("Bad", 0.63, -0.07))
    assert "It is not clearly better than the baseline Base" in texts(part)
    assert "interval with all comparisons counted -0.010 to +0.150, which holds 0." in texts(part)
    assert "0 are clearly better than it, 0 clearly worse." in texts(part)
    styles = [cell.style for row in main_table(part, {}).rows for cell in row]
    assert not {"better", "worse"} & set(styles)


def test_a_baseline_that_wins_is_said_to_win() -> None:
    part = make_part(make_row("Base", 0.9), make_row("Ours", 0.7, -0.2))
    assert "Base is highest" in texts(part)
    assert "It is the baseline. Of 1 other model, 0 are clearly better than it, 1 clearly worse." in texts(part)


def test_a_shortcut_that_clearly_tells_the_classes_apart_is_a_leak() -> None:
    leak = make_row(SHORTCUTS, 0.85, score="pixels")
    part = make_part(leak, make_row("Good", 0.8, pixels=-0.05), baseline=None)
    (warning,) = [sentence.text for sentence in findings_of(part) if sentence.tone == "warning"]
    assert warning == (
        "Pixels (0.850) tells the classes apart without any model: the data leak their label. No model is clearly "
        "better, so that no figure here shows that illness is seen."
    )
    part = make_part(leak, make_row("Good", 0.95, pixels=0.1), make_row("Bad", 0.9, pixels=0.05), baseline=None)
    assert texts(part).endswith("Clearly better than it is Good, and no other model.")
    other = make_row(SHORTCUTS, 0.7, score="markers")
    part = make_part(leak, other, make_row("Good", 0.95, pixels=0.1, markers=0.25), baseline=None)
    assert "Pixels (0.850) and markers (0.700) tell the classes apart" in texts(part)
    assert texts(part).endswith("Every model is clearly better than them.")


def test_a_shortcut_that_may_be_chance_is_no_leak() -> None:
    weak = make_row(SHORTCUTS, 0.57, score="pixels")
    part = make_part(weak, make_row("Good", 0.55), baseline=None)
    assert texts(part).endswith(
        "No number that needs no model is clearly better than chance; pixels (0.570) is highest, interval with all "
        "comparisons counted 0.490 to 0.650."
    )
    weak.notes.append(UNVALIDATED)
    assert texts(part).endswith("its direction, which was chosen on the test images.")


def test_chance_and_less_than_chance_are_warnings() -> None:
    part = make_part(make_row("Guess", 0.56), make_row("Low", 0.43), make_row("Wrong", 0.3), baseline=None)
    warnings = [sentence.text for sentence in findings_of(part) if sentence.tone == "warning"]
    # Its interval alone leaves out 0.5.
    assert (
        "Chance alone may explain it: the interval that counts all comparisons of this report, 0.480 to 0.640,"
        in (warnings[0])
    )
    assert warnings[1:] == ["Clearly below chance: Wrong; its scores rank normal above abnormal."]


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


def test_a_model_that_trained_with_labels_is_never_called_the_highest() -> None:
    labelled = make_row("Labelled", 0.9, 0.2)
    labelled.costs["labelled_images"] = 12
    part = make_part(labelled, make_row("Base", 0.7), make_row("Good", 0.8, 0.1))
    assert [row.model for row in part.models] == ["Good", "Base", "Labelled"]
    assert "Good is highest" in texts(part)
    assert [row[0].text for row in main_table(part, {}).rows] == ["Good", "Base (baseline)", "Labelled"]
