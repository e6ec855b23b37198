"""The template is a plugin that works before anybody has changed a line of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEMPLATE = Path(__file__).parents[2] / "templates" / "plugin"


@pytest.mark.slow
def test_template_keeps_the_contract(install: Callable[[Path], Any]) -> None:
    printed = install(TEMPLATE).run(["pytest", "-p", "no:cacheprovider", "tests"])
    assert " passed" in printed
    assert "failed" not in printed
    assert "skipped" not in printed


@pytest.mark.slow
def test_config_of_the_template_trains_it(install: Callable[[Path], Any]) -> None:
    template = install(TEMPLATE)
    few = ["--trainer.max_epochs", "1", "--data.init_args.patients", "12", "--trainer.accelerator", "cpu"]
    template.run(["anomalib", "train", "--config", "config.yaml", *few])
    assert list(template.source.glob("results/MyModel/*/latest/scores.csv"))
