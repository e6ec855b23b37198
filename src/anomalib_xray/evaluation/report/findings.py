"""What a benchmark found, in sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from anomalib_xray.evaluation.bootstrap import Estimate, over_seeds
from anomalib_xray.evaluation.plan import SHORTCUTS
from anomalib_xray.evaluation.report.material import Part
from anomalib_xray.evaluation.tables import BELOW_CHANCE, Row, best_way


class Sentence(NamedTuple):
    """A finding.

    Attributes:
        text: The sentence.
        tone: ``plain``, or ``warning`` for what a reader must not miss.
    """

    text: str
    tone: str = "plain"


def findings_of(part: Part) -> list[Sentence]:
    """Says what was found on one part.

    Args:
        part: The part.

    Returns:
        Sentences, the most important first.
    """
    if not part.models:
        return [Sentence("No model has figures yet.", "warning"), *_failures(part)]
    best = part.models[0]
    return [_best(part, best), *_against(part, best), *_shortcuts(part, best), *_below_chance(part), *_failures(part)]


def caution(parts: Sequence[Part]) -> str:
    """What choosing the highest figure does to it, in as many words as there are models."""
    count = max((len(part.models) for part in parts), default=0)
    if count < 2:
        return ""
    return (
        f"The highest of {count} figures on the same test images is a little flattered, and its interval does not know "
        "that it was chosen. Read the differences, not the order."
    )


def _best(part: Part, best: Row) -> Sentence:
    estimate = best.estimates["AUROC"]
    seeds = best.seeds["AUROC"]
    spread = f" ± {over_seeds(seeds)[1]:.3f} over {len(seeds)} seeds" if len(seeds) > 1 else " (one seed)"
    text = f"{_full(part, best)} is highest: AUROC {estimate.value:.3f}{spread}, 95 % interval {range_of(estimate)}."
    if estimate.low <= 0.5 <= estimate.high:
        return Sentence(f"{text} The interval holds 0.5, so that chance alone may explain it.", "warning")
    return Sentence(text)


def _against(part: Part, best: Row) -> list[Sentence]:
    if part.baseline is None:
        return []
    if part.baseline_row is None:
        return [
            Sentence(f"The baseline {part.baseline} has no figures, so that nothing is compared with it.", "warning")
        ]
    compared = [row for row in part.models if "AUROC" in row.against]
    better = [part.label(row) for row in compared if row.against["AUROC"].low > 0]
    worse = [part.label(row) for row in compared if row.against["AUROC"].high < 0]
    what = "other model" if len(part.models) == len(part.leaders) else "other score"
    tally = (
        f"Of {_counted(len(compared), what)}, {len(better)} {_verb(better)} clearly better than it, "
        f"{len(worse)} clearly worse."
    )
    if best.model == part.baseline:
        return [Sentence(f"It is the baseline. {tally}" if compared else "It is the baseline.")]
    if best not in compared:
        return [Sentence(f"It was not tested on the same images as the baseline {part.baseline}.", "warning")]
    difference = best.against["AUROC"]
    clear = difference.low > 0
    text = (
        f"It {'beats' if clear else 'is not clearly better than'} the baseline {part.baseline} "
        f"({part.baseline_row.estimates['AUROC'].value:.3f}): difference {difference.value:+.3f}, "
        f"interval {range_of(difference, '+')}{'' if clear else ', which holds 0'}."
    )
    return [Sentence(f"{text} {tally}" if len(compared) > 1 else text)]


def _shortcuts(part: Part, best: Row) -> list[Sentence]:
    shortcut = part.best_shortcut
    if shortcut is None:
        return []
    value, highest = best_way(shortcut), best.estimates["AUROC"].value
    beaten = [part.label(row) for row in part.models if row.estimates["AUROC"].value <= value]
    number = f"{shortcut.score} ({value:.3f})"
    if value >= highest:
        ends = shortcut.estimates["AUROC"]
        meaning = "The data leak their label, and no figure here shows that illness is seen."
        if ends.low <= 0.5 <= ends.high:
            meaning = (
                "Its interval holds 0.5, so that neither it nor a model that it beats is surely better than chance."
            )
        return [Sentence(f"A number that needs no model does as well as every model: {number}. {meaning}", "warning")]
    if beaten:
        return [Sentence(f"The shortcut {number} needs no model and does as well as {listed(beaten)}.", "warning")]
    return [Sentence(f"No shortcut does as well as any model; the best one is {number}.")]


def _below_chance(part: Part) -> list[Sentence]:
    below = [part.label(row) for row in part.models if row.estimates["AUROC"].value < BELOW_CHANCE]
    if not below:
        return []
    them = "its scores rank" if len(below) == 1 else "their scores rank"
    return [
        Sentence(f"Below chance (AUROC < {BELOW_CHANCE}): {listed(below)}; {them} normal above abnormal.", "warning")
    ]


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


def _full(part: Part, row: Row) -> str:
    score = part.score(row)
    return row.model if score == "own" else f"{row.model} by {score}"


def range_of(estimate: Estimate, sign: str = "") -> str:
    """An interval as it is written.

    Args:
        estimate: The figure with its interval.
        sign: ``+`` for a sign before numbers above 0 too.

    Returns:
        Such as "0.701 to 0.812".
    """
    return f"{estimate.low:{sign}.3f} to {estimate.high:{sign}.3f}"


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    Args:
        names: At least one.

    Returns:
        Such as "A, B and C".
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _verb(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
