"""Findings of a benchmark in sentences.

A difference is called clear if an interval shows it that holds together with all others of the report
(:func:`anomalib_xray.evaluation.bootstrap.simultaneous`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from anomalib_xray.evaluation.bootstrap import Estimate, over_seeds
from anomalib_xray.experiments.grid import SHORTCUTS
from anomalib_xray.report.parts import Part
from anomalib_xray.report.results import UNVALIDATED
from anomalib_xray.report.rows import Row


class Sentence(NamedTuple):
    """A finding, of tone ``plain`` or ``warning``."""

    text: str
    tone: str = "plain"


def findings_of(part: Part) -> list[Sentence]:
    """Findings on one part, the most important first."""
    if not part.models:
        return [Sentence("No model has figures yet.", "warning"), *_failures(part)]
    best = part.models[0]
    return [_best(part, best), *_against(part, best), *_shortcuts(part), *_below_chance(part), *_failures(part)]


def caution(parts: Sequence[Part]) -> str:
    """Warning that the highest of several figures is flattered by being chosen."""
    count = max((len(part.models) for part in parts), default=0)
    if count < 2:
        return ""
    return (
        f"The highest of {count} figures on the same test images is a little flattered, and its interval does not know "
        "that it was chosen. What is called clear stays so when all comparisons of the report are counted; read the "
        "differences, not the order."
    )


def _best(part: Part, best: Row) -> Sentence:
    estimate = best.estimates["AUROC"]
    seeds = best.seeds["AUROC"]
    spread = f" ± {over_seeds(seeds)[1]:.3f} over {len(seeds)} seeds" if len(seeds) > 1 else " (one seed)"
    score = part.score(best)
    name = best.model if score == "own" else f"{best.model} by {score}"
    text = (
        f"{name}{' is highest' if len(part.models) > 1 else ''}: AUROC {estimate.value:.3f}{spread}, "
        "95 % interval of this figure alone "
        f"{range_of(estimate)}."
    )
    if best.side("AUROC", 0.5) <= 0:
        return Sentence(f"{text} {_unclear(best)}", "warning")
    return Sentence(text)


def _unclear(best: Row) -> str:
    """Reason why the highest figure is not clear."""
    joint = best.joint.get("AUROC")
    if joint is None:
        return "Whether it differs from chance is not known."
    if joint.high < 0.5:
        return "It is below chance."
    return (
        f"Chance alone may explain it: the interval that counts all comparisons of this report, {range_of(joint)}, "
        "holds 0.5."
    )


def _against(part: Part, best: Row) -> list[Sentence]:
    if part.baseline is None:
        return []
    if part.baseline_row is None:
        return [
            Sentence(f"The baseline {part.baseline} has no figures, so that nothing is compared with it.", "warning")
        ]
    compared = [row for row in part.models if "AUROC" in row.against]
    better = [part.label(row) for row in compared if row.side("against") > 0]
    worse = [part.label(row) for row in compared if row.side("against") < 0]
    what = "model" if len(part.models) == len(part.leaders) else "score"
    tally = (
        f"Of {len(compared)} other {what}{'' if len(compared) == 1 else 's'}, {len(better)} {_verb(better)} clearly "
        "better than it, "
        f"{len(worse)} clearly worse."
    )
    if best.model == part.baseline:
        return [Sentence(f"It is the baseline. {tally}" if compared else "It is the baseline.")]
    if best not in compared:
        return [Sentence(f"It was not tested on the same images as the baseline {part.baseline}.", "warning")]
    difference = best.joint["against"]
    clear = best.side("against") > 0
    text = (
        f"It {'beats' if clear else 'is not clearly better than'} the baseline {part.baseline} "
        f"({part.baseline_row.estimates['AUROC'].value:.3f}): difference {difference.value:+.3f}, "
        f"interval with all comparisons counted {range_of(difference, '+')}{'' if clear else ', which holds 0'}."
    )
    return [Sentence(f"{text} {tally}" if len(compared) > 1 else text)]


def _shortcuts(part: Part) -> list[Sentence]:
    best = part.best_shortcut
    if best is None:
        return []
    where = ""
    if UNVALIDATED in best.notes:
        where = " No validation images of both classes told its direction, which was chosen on the test images."
    leaks = sorted((row for row in part.shortcuts if row.leaks), key=lambda row: -row.estimates["AUROC"].value)
    if not leaks:
        reach = f", interval with all comparisons counted {range_of(best.joint['AUROC'])}" if best.joint else ""
        text = f"No number that needs no model is clearly better than chance; {_number(best)} is highest{reach}."
        return [Sentence(text + where)]
    better = [part.label(row) for row in part.models if all(row.side(leak.score) > 0 for leak in leaks)]
    it, tells = ("it", "tells") if len(leaks) == 1 else ("them", "tell")
    if not better:
        models = "No model is clearly better, so that no figure here shows that illness is seen."
    elif len(better) == len(part.models):
        models = f"Every model is clearly better than {it}."
    else:
        models = f"Clearly better than {it} {_verb(better)} {listed(better)}, and no other model."
    numbers = listed([_number(row) for row in leaks])
    text = f"{numbers} {tells} the classes apart without any model: the data leak their label. {models}"
    return [Sentence(text[0].upper() + text[1:] + where, "warning")]


def _number(row: Row) -> str:
    return f"{row.score} ({row.estimates['AUROC'].value:.3f})"


def _below_chance(part: Part) -> list[Sentence]:
    below = [part.label(row) for row in part.models if row.side("AUROC", 0.5) < 0]
    if not below:
        return []
    them = "its scores rank" if len(below) == 1 else "their scores rank"
    return [Sentence(f"Clearly below chance: {listed(below)}; {them} normal above abnormal.", "warning")]


def _failures(part: Part) -> list[Sentence]:
    rows = [row for row in part.rows if row.model != SHORTCUTS]
    failed = list(dict.fromkeys(row.model for row in rows if row.failures))
    waiting = list(dict.fromkeys(row.model for row in rows if not (row.failures or row.estimates or row.notes)))
    noted = {row.model: row.notes[0] for row in rows if row.notes and not row.estimates}
    sentences = [Sentence(f"{model} has no figures: {note}.", "warning") for model, note in noted.items()]
    if failed:
        sentences.append(Sentence(f"Failed with at least one seed: {listed(failed)}.", "warning"))
    if waiting:
        sentences.append(Sentence(f"No figures yet: {listed(waiting)}.", "warning"))
    return sentences


def range_of(estimate: Estimate, sign: str = "") -> str:
    """An interval as text; ``sign`` is ``+`` for a sign before numbers above 0 too.

    >>> range_of(Estimate(0.75, 0.701, 0.812))
    '0.701 to 0.812'
    """
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"


def listed(names: Sequence[str]) -> str:
    """Joins names for a sentence.

    >>> listed(["A", "B", "C"])
    'A, B and C'
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _verb(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
