"""What the heads of the configurations say of the cost of a training."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CONFIGS = {
    str(path.relative_to(ROOT / "configs").with_suffix("")): path.read_text(encoding="utf-8")
    for path in (*ROOT.glob("configs/*.yaml"), *ROOT.glob("configs/paper/*.yaml"))
    if "class_path: anomalib_xray.models." in path.read_text(encoding="utf-8")
}
COST = re.compile(
    r"Cost of (one epoch|\d+ epochs) of (\d+) images(?:, without the fit at its end)?: about (.+) on two CPU cores "
    r"\(reckoned from a measured step\), about (.+) on a GPU \(reckoned from its operations, not measured\);"
)


def table() -> dict[str, list[str]]:
    """Rows of the page on speed by configuration."""
    page = (ROOT / "docs/results/training_speed.md").read_text(encoding="utf-8").partition("## Whole trainings")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"]
    return {row[0]: row for row in rows}


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_the_head_says_what_a_training_costs(name: str) -> None:
    head, _, _ = CONFIGS[name].partition("\nmodel:")
    assert all(line.startswith("#") for line in head.splitlines())
    found = COST.search(re.sub(r"\n# ", " ", head))
    assert found is not None, f"configs/{name}.yaml: benchmarks/training_step.py --configs has the figures."
    _, images, epochs, seconds, _, cores, gpu = table()[name]
    assert (found[2], found[3], found[4]) == (images, cores, gpu)
    assert found[1].removesuffix("s") == ("one epoch" if epochs == "1" else f"{epochs} epoch")
    trainer = yaml.safe_load(CONFIGS[name])["trainer"]
    assert trainer["max_epochs"] in (int(epochs), -1)
    minutes = float(seconds) * int(images) * int(epochs) / 2 / 60
    assert _minutes(cores) == pytest.approx(minutes, rel=0.1, abs=0.5)


def _minutes(words: str) -> float:
    units = {"s": 1 / 60, "min": 1, "h": 60, "d": 24 * 60}
    return sum(float(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h|d)\b", words))
