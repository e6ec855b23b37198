"""Thresholds with a promise for new normal patients, by split-conformal prediction.

If the scores of n normal validation patients and of a new normal patient are exchangeable, the new one lies above the
k-th smallest of them with the probability ``1 - k / (n + 1)``, whatever the distribution of the scores (Vovk, Gammerman
and Shafer 2005, Algorithmic Learning in a Random World, chapter 2; Angelopoulos and Bates 2021, 2107.07511, section 1).
``k = ceil((n + 1) (1 - a))`` makes that at most ``a``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anomalib_xray.errors import XrayError

if TYPE_CHECKING:
    import pandas as pd

    from anomalib_xray.evaluation.bootstrap import Estimate

PROMISES = (0.05, 0.10)
"""Shares of false alarms that figures are given for."""

_EXACT = 1e-9
"""Products such as 100 * 0.07, which is a little more than 7, count as the whole number that they are meant to be."""


def check_promise(false_alarms: float) -> None:
    """Refuses a share of false alarms that cannot be promised.

    Raises:
        XrayError: It is not between 0 and 1.
    """
    if not 0 < false_alarms < 1:
        raise XrayError(f"false_alarms is {false_alarms}; it is a share between 0 and 1, for example 0.05.")


def promised_rank(patients: int, false_alarms: float) -> int:
    """The rank k of the normal patient, in rising order from 1, whose score new normal ones may reach without an alarm.

    Args:
        patients: Number n of normal validation patients.
        false_alarms: Largest probability of an alarm for a new normal patient, between 0 and 1.

    Raises:
        XrayError: The patients are too few for any threshold, fewer than ``1 / false_alarms - 1``.

    Example:
        >>> promised_rank(99, 0.05), promised_rank(19, 0.05)
        (95, 19)
    """
    check_promise(false_alarms)
    above = floor((patients + 1) * false_alarms + _EXACT)
    if not above:
        needed = ceil(1 / false_alarms - 1 - _EXACT)
        smallest = ceil(1000 / (patients + 1)) / 1000
        instead = f", or set false_alarms to {smallest:g} or more" if patients and smallest < 1 else ""
        raise XrayError(
            f"With {patients} normal validation patients no threshold can promise at most {100 * false_alarms:g} % "
            f"false alarms: validate on {needed} or more{instead}."
        )
    return patients + 1 - above


def expected_false_alarms(patients: int, false_alarms: float) -> float:
    """Probability of an alarm for a new normal patient, exactly, where no two scores are the same.

    It lies between ``false_alarms - 1 / (n + 1)`` and ``false_alarms``.

    >>> expected_false_alarms(62, 0.05)
    0.047619047619047616
    """
    return (patients + 1 - promised_rank(patients, false_alarms)) / (patients + 1)


def promised_threshold(scores: ArrayLike, false_alarms: float) -> float:
    """The threshold that at most a share of new normal patients reaches.

    An image that reaches a threshold is anomalous, so that this is the next number in single precision above the score
    of :func:`promised_rank`: patients who tie with that one give no alarm.

    Args:
        scores: Score of each normal validation patient, the highest over their images, (n,).
        false_alarms: As of :func:`promised_rank`.

    Raises:
        XrayError: The patients are too few.

    Example:
        >>> threshold = promised_threshold(range(1, 20), 0.1)
        >>> 18 < threshold < 18.00001
        True
    """
    rising = np.sort(np.asarray(scores, np.float64).reshape(-1))
    score = rising[promised_rank(len(rising), false_alarms) - 1]
    single = np.float32(score)
    return float(single if single > score else np.nextafter(single, np.float32(np.inf)))


def patients_of(sources: Iterable[str], patients: Iterable[str]) -> list[str]:
    """The patient of each image, or where unknown the original that it was made of, which then counts as one.

    >>> patients_of(["a.png", "b.png"], ["7", ""])
    ['7', 'b.png']
    """
    return [patient or source for source, patient in zip(sources, patients, strict=True)]


def normal_patients(scores: ArrayLike, patients: Iterable[str], abnormal: Iterable[bool]) -> NDArray[np.float64]:
    """The highest score of each patient none of whose images is abnormal.

    Args:
        scores: Score of each image, (N,), or several, (N, K).
        patients: Patient of each image.
        abnormal: Whether each image is known to be abnormal.

    Returns:
        (n,) or (n, K), in the order of the ids.

    Example:
        >>> normal_patients([1, 3, 2, 9], ["a", "a", "b", "b"], [False, False, False, True]).tolist()
        [3.0]
    """
    ids, values = np.asarray(list(patients)), np.asarray(scores, np.float64)
    kept = ~np.isin(ids, ids[np.asarray(list(abnormal), dtype=bool)])
    names, whose = np.unique(ids[kept], return_inverse=True)
    highest = np.full((len(names), *values.shape[1:]), -np.inf)
    np.maximum.at(highest, whose, values[kept])
    return highest


def normal_patients_of(table: pd.DataFrame, score: str) -> NDArray[np.float64]:
    """The highest score of each normal patient of a score table, see :mod:`.units`; unknown labels count as normal.

    >>> import pandas as pd
    >>> table = pd.DataFrame({"image_path": ["a", "b"], "patient": ["1", "2"], "label": [0, 1], "mse": [0.5, 1.5]})
    >>> normal_patients_of(table, "mse").tolist()
    [0.5]
    """
    sources = table["source_path" if "source_path" in table else "image_path"]
    patients = table["patient"].to_numpy(object) if "patient" in table else [""] * len(table)
    ids = patients_of(sources.to_numpy(object), patients)
    return normal_patients(table[score], ids, table["label"].eq(1).fillna(False))


class FalseAlarms(NamedTuple):
    """False alarms on normal patients who had no part in the threshold.

    Attributes:
        share: Share of these patients who alarm, with its exact interval of 95 % (Clopper and Pearson 1934).
        patients: Their number.
        calibrated: Number of normal validation patients, who gave the threshold.
        expected: Probability of an alarm that follows from that number.
    """

    share: Estimate
    patients: int
    calibrated: int
    expected: float


def measure_false_alarms(calibration: ArrayLike, held_out: ArrayLike, false_alarms: float) -> FalseAlarms:
    """Counts the alarms of held-out normal patients at the threshold of others.

    Args:
        calibration: Score of each normal validation patient, (n,).
        held_out: Score of each normal patient of another split, (m,).
        false_alarms: As of :func:`promised_rank`.

    Raises:
        XrayError: The validation patients are too few, or no patient is held out.

    Example:
        >>> found = measure_false_alarms(range(1, 20), [1, 5, 18.5, 30], 0.1)
        >>> found.share.value, found.expected
        (0.5, 0.1)
    """
    threshold = promised_threshold(calibration, false_alarms)
    scores = np.asarray(held_out, np.float64)
    if not len(scores):
        raise XrayError("There is no held-out normal patient to count false alarms on; test on normal patients too.")
    share, patients = float(np.mean(scores >= threshold)), np.size(calibration)
    return FalseAlarms(
        exact_interval(share, len(scores)), len(scores), patients, expected_false_alarms(patients, false_alarms)
    )


def false_alarms_of_runs(runs: Sequence[tuple[ArrayLike, ArrayLike]], false_alarms: float) -> FalseAlarms:
    """The mean share over the runs of several seeds, which have the same patients, with its interval over these.

    Args:
        runs: Scores of normal patients of the validation and of the test, (n,) and (m,), of each run.
        false_alarms: As of :func:`promised_rank`.
    """
    found = [measure_false_alarms(validation, test, false_alarms) for validation, test in runs]
    share = float(np.mean([one.share.value for one in found]))
    return found[0]._replace(share=exact_interval(share, found[0].patients))


def exact_interval(share: float, count: int, level: float = 0.95) -> Estimate:
    """The exact interval of a share of independent patients; a mean share over seeds may be no whole number of them.

    >>> round(exact_interval(0.0, 20).high, 3)
    0.168
    """
    from scipy.special import betaincinv  # type: ignore[import-untyped]  # scipy.stats takes 1 s to import

    from anomalib_xray.evaluation.bootstrap import Estimate

    tail, hits = (1 - level) / 2, share * count
    low = float(betaincinv(hits, count - hits + 1, tail)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, count - hits, 1 - tail)) if hits < count else 1.0
    return Estimate(share, low, high)
