from __future__ import annotations

from typing import Any

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.space import Space, merged, read_space, with_values

RANGES = {
    "model.init_args.learning_rate": {"log_uniform": ["1e-5", 1e-3]},
    "model.init_args.noise": {"uniform": [0, 0.5]},
    "trainer.max_epochs": {"int": [5, 20]},
    "model.init_args.betas": {"choice": [[0.5, 0.999], [0.9, 0.999]]},
}
STORED = {
    "model.init_args.learning_rate": 1e-4,
    "model.init_args.noise": 0.25,
    "trainer.max_epochs": 7,
    "model.init_args.betas": "[0.9, 0.999]",
}


def space() -> Space:
    return read_space(RANGES, "search.yaml")


def test_a_trial_proposes_within_the_ranges() -> None:
    trial = FixedTrial(STORED)
    values = space().suggest(trial)
    assert values == {**STORED, "model.init_args.betas": [0.9, 0.999]}
    assert trial.distributions == {
        "model.init_args.learning_rate": FloatDistribution(1e-5, 1e-3, log=True),
        "model.init_args.noise": FloatDistribution(0.0, 0.5),
        "trainer.max_epochs": IntDistribution(5, 20),
        "model.init_args.betas": CategoricalDistribution(("[0.5, 0.999]", "[0.9, 0.999]")),
    }


def test_what_is_stored_decodes_to_what_was_proposed() -> None:
    assert space().decode(STORED) == space().suggest(FixedTrial(STORED))
    assert space().decode({"trainer.max_epochs": 7}) == {"trainer.max_epochs": 7}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "s.yaml has no ranges; name settings to search"),
        ({"seed": {"int": [1, 2]}}, "seed in s.yaml is in no searchable section; names begin with model.init_args."),
        ({"trainer.a": {"int": [1, 2], "choice": [1]}}, "give one of log_uniform, uniform, int, choice"),
        ({"trainer.a": {"loguniform": [1, 2]}}, "give one of log_uniform, uniform, int, choice"),
        ({"trainer.a": {"uniform": [1]}}, r"has the uniform \[1\]; it takes a list of two numbers"),
        ({"trainer.a": {"choice": []}}, r"has the choice \[\]; it takes a list of values"),
        ({"trainer.a": {"uniform": [2, 1]}}, "they are two numbers, the smaller one first"),
        ({"trainer.a": {"uniform": ["low", 1]}}, "they are two numbers"),
        ({"trainer.a": {"int": [1, 2.5]}}, "they are two whole numbers"),
        ({"trainer.a": {"log_uniform": [0, 1]}}, "they are two numbers above 0"),
    ],
)
def test_ranges_of_another_form_are_refused(content: Any, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        read_space(content, "s.yaml")


def test_values_are_filled_into_a_copy() -> None:
    config = {"model": {"class_path": "Cae", "init_args": {"width": 8}}, "data": {"class_path": "Hands"}}
    values = {"model.init_args.width": 4, "data.init_args.root": "there", "trainer.max_epochs": 3}
    assert with_values(config, values) == {
        "model": {"class_path": "Cae", "init_args": {"width": 4}},
        "data": {"class_path": "Hands", "init_args": {"root": "there"}},
        "trainer": {"max_epochs": 3},
    }
    assert config["model"]["init_args"] == {"width": 8}
    with pytest.raises(XrayError, match=r"no settings under data\.init_args\.pool"):
        with_values(config, {"data.init_args.pool.init_args.size": 3})


def test_settings_over_others_win_and_another_class_brings_its_own() -> None:
    under = {"model": {"class_path": "Cae", "init_args": {"width": 8, "levels": 3}}, "trainer": {"max_epochs": 1}}
    over = {"model": {"init_args": {"width": 4}}, "data": {"class_path": "Hands"}}
    assert merged(under, over) == {
        "model": {"class_path": "Cae", "init_args": {"width": 4, "levels": 3}},
        "trainer": {"max_epochs": 1},
        "data": {"class_path": "Hands"},
    }
    other = {"model": {"class_path": "Bae", "init_args": {"skip": True}}}
    assert merged(under, other)["model"] == other["model"]
