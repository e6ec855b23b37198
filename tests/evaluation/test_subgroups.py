from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from anomalib_xray.evaluation.subgroups import MOST_VALUES, OTHERS, UNKNOWN, grouped, summary_of


def test_names_are_groups_the_most_frequent_first_and_the_unknown_last() -> None:
    groups = grouped(pd.Series(["", "lateral", "frontal", "frontal", None]))
    assert groups.tolist() == [UNKNOWN, "lateral", "frontal", "frontal", UNKNOWN]
    assert groups.cat.categories.tolist() == ["frontal", "lateral", UNKNOWN]


def test_rare_names_are_one_group() -> None:
    names = [name for place, name in enumerate("abcdefghij") for _ in range(10 - place)]
    groups = grouped(pd.Series(names))
    assert groups.cat.categories.tolist() == ["a", "b", "c", "d", "e", OTHERS]
    assert (groups == OTHERS).sum() == 5 + 4 + 3 + 2 + 1


@pytest.mark.parametrize("as_text", [True, False])
def test_many_numbers_are_thirds_that_do_not_overlap(as_text: bool) -> None:
    ages = np.random.default_rng(0).integers(1, 90, 300)
    values = pd.Series([*(map(str, ages) if as_text else ages.tolist()), "" if as_text else None])
    groups = grouped(values)
    *bands, last = groups.cat.categories
    assert last == UNKNOWN
    assert len(bands) == 3
    ends = [tuple(map(float, band.split(" to "))) for band in bands]
    assert all(first[1] < second[0] for first, second in pairwise(ends))
    for band, (low, high) in zip(bands, ends, strict=True):
        assert (groups == band).sum() == ((ages >= low) & (ages <= high)).sum()
        assert abs((groups == band).sum() - 100) <= 6


def test_few_numbers_are_names() -> None:
    assert grouped(pd.Series([0, 1] * MOST_VALUES)).cat.categories.tolist() == ["0", "1"]


def test_equal_numbers_make_fewer_bands() -> None:
    groups = grouped(pd.Series([0.0] * 90 + [float(number) for number in range(1, 11)]))
    assert groups.cat.categories.tolist() == ["0 to 0", "1 to 10"]


def test_a_summary_counts_by_split() -> None:
    samples = pd.DataFrame(
        {
            "split": ["train", "train", "train", "test", "test"],
            "source": ["a", "a", "b", "c", "d"],
            "patient": ["1", "1", "1", "2", "3"],
            "label_index": [0, 0, -1, 1, 0],
            "age": ["3", "3", "", "40", "50"],
        }
    )
    found = summary_of(samples, ["age"])
    assert found["train"] == {
        "pictures": 3, "originals": 2, "patients": 1, "normal": 2, "abnormal": 0,
        "characteristics": {"age": "3 2, unknown 1"},
    }  # fmt: skip
    assert found["test"]["patients"] == 2
    ages = summary_of(samples.iloc[[3] * 9].assign(age=range(10, 19)), ["age"])
    assert ages["test"]["characteristics"] == {"age": "median 14, 10 to 18"}
