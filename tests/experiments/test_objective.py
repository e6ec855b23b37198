from __future__ import annotations

from typing import Any

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.experiments.objective import read_objective


@pytest.mark.parametrize(
    ("content", "metric", "direction"),
    [
        ({"selection": "label-free"}, "val_image_AUROC", "maximize"),
        ({"selection": "label-free", "measure": "normal_mean", "score": "mse"}, "val_normal_mean_mse", "minimize"),
        ({"selection": "label-free", "measure": "AUCp", "score": "mse"}, "val_AUCp_mse", "maximize"),
        ({"selection": "as published"}, "val_image_AUROC", "maximize"),
        (
            {"selection": "as published", "measure": "AP", "score": "l1", "level": "patient"},
            "val_patient_AP_l1",
            "maximize",
        ),
    ],
)
def test_a_measure_is_what_the_score_table_logs(content: dict[str, Any], metric: str, direction: str) -> None:
    objective = read_objective(content, [], "search.yaml")
    assert (objective.metric, objective.direction) == (metric, direction)


def test_the_rule_says_whether_labels_were_used() -> None:
    assert "no abnormal image was used, and no test image" in read_objective({"selection": "label-free"}, [], "s").rule
    by_pool = read_objective({"selection": "label-free", "measure": "AUCp"}, [], "s").rule
    assert "no label of a pool's image was used, and no test image" in by_pool
    published = read_objective({"selection": "as published", "level": "study", "score": "mse"}, [], "s").rule
    assert published.startswith(
        "as published: highest AUROC of the score mse over labelled validation images, by study"
    )
    assert "labels were used, and no test image" in published


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "s.yaml states no rule of selection"),
        ({"measure": "AUROC"}, "s.yaml states no rule of selection"),
        ({"selection": "best"}, "selects by 'best'; choose one of label-free, as published"),
        ({"selection": "label-free", "measure": "AUROC"}, "label-free measures painted_AUROC or normal_mean or AUCp"),
        ({"selection": "as published", "measure": "normal_mean"}, "as published measures AUROC or AP"),
        ({"selection": "as published", "level": "pixel"}, "measures by 'pixel'"),
        ({"selection": "label-free", "level": "patient"}, "say level: image"),
        ({"selection": "label-free", "metric": "AUROC"}, "unknown setting metric"),
    ],
)
def test_an_objective_that_says_something_else_is_refused(content: Any, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        read_objective(content, [], "s.yaml")


def test_means_of_scores_are_not_compared_across_scales() -> None:
    names = ["model.init_args.learning_rate", "model.init_args.top_k"]
    with pytest.raises(XrayError, match=r"searches model\.init_args\.top_k, which changes the scale of scores"):
        read_objective({"selection": "label-free", "measure": "normal_mean"}, names, "s.yaml")
    assert read_objective({"selection": "label-free"}, names, "s.yaml").measure == "painted_AUROC"
