"""The template is a plugin that works before anybody has changed a line of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = Path(__file__).parents[2] / "templates" / "plugin"


@pytest.fixture(scope="module")
def template(install: Callable[[Path], Any]) -> Any:
    return install(TEMPLATE)


@pytest.mark.slow
def test_template_keeps_the_contract(template: Any) -> None:
    # An export to OpenVINO goes through a file of ONNX.
    printed = template.run(["pytest", "-p", "no:cacheprovider", "-k", "not to_onnx", "tests"])
    assert " passed" in printed
    assert "failed" not in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_config_of_the_template_trains_it(template: Any) -> None:
    few = ["--trainer.max_epochs", "1", "--data.init_args.patients", "12", "--trainer.accelerator", "cpu"]
    template.run(["anomalib", "train", "--config", "config.yaml", *few])
    assert list(template.source.glob("results/MyModel/*/latest/scores.csv"))
