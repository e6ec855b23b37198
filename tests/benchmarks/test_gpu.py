"""The benchmark of training steps on a GPU, on the CPU."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

CONFIG = """\
model:
  class_path: anomalib_xray.models.{model}
  init_args: {{image_size: 64, width: 4{more}}}
data:
  init_args: {{train_batch_size: 2}}
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu  # type: ignore[import-not-found]  # a script, which is on no path of mypy's

    return gpu


@pytest.fixture
def configs(tmp_path: Path) -> list[Path]:
    """A recommended and a published configuration, and one that builds no model."""
    (tmp_path / "paper").mkdir()
    files = {"paper/bae": ("Bae", ""), "cae": ("Cae", ""), "wrong": ("Cae", ", unknown: 1")}
    for name, (model, more) in files.items():
        (tmp_path / f"{name}.yaml").write_text(CONFIG.format(model=model, more=more))
    return [tmp_path / f"{name}.yaml" for name in files]


def run(gpu: Any, monkeypatch: pytest.MonkeyPatch, configs: list[Path], *more: str) -> list[dict[str, Any]]:
    """Runs the command on the CPU and returns the rows."""
    out = configs[0].parent / "rows.json"
    words = ["--device", "cpu", "--threads", "1", "--steps", "1", "--out", out, "--configs", *configs, *more]
    monkeypatch.setattr(sys, "argv", ["gpu.py", *map(str, words)])
    gpu.main()
    return json.loads(out.read_text()) if out.exists() else []


class Instead:
    """Stands in for a child: answers by the name of a configuration, at once."""

    answers: ClassVar[dict[str, dict[str, Any] | None]] = {}
    asked: ClassVar[list[tuple[str, str]]] = []
    started: ClassVar[list[Path]] = []

    def __init__(self, log: Path) -> None:
        self.lost = False
        self.started.append(log)

    def measure(self, case: dict[str, Any], limit: float) -> dict[str, Any] | None:
        assert limit > 0
        self.asked.append((case["config"], case["variant"]))
        answer = self.answers.get(case["config"], {"seconds": 0.5, "memory": 2**30})
        self.lost = bool(answer and answer.get("failed", "").startswith("its process"))
        return answer

    def end(self, wait: float = 0.0) -> None:
        """Nothing to end."""


@pytest.fixture
def child(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> type[Instead]:
    monkeypatch.setattr(gpu, "Child", Instead)
    for kept in (Instead.answers, Instead.asked, Instead.started):
        kept.clear()  # type: ignore[attr-defined]  # each has it
    return Instead


def test_recommended_sizes_come_before_published_ones_and_compilation_last(
    gpu: Any, child: type[Instead], configs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(gpu, monkeypatch, configs[:2], "--variants", "compiled", "bf16", "f32")
    assert child.asked == [
        ("cae", "bf16"), ("cae", "f32"), ("paper/bae", "bf16"), ("paper/bae", "f32"),
        ("cae", "compiled"), ("paper/bae", "compiled"),
    ]  # fmt: skip


def test_a_second_run_measures_what_is_not_there(
    gpu: Any, child: type[Instead], configs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    child.answers["cae"] = {"failed": "out of memory"}
    rows = run(gpu, monkeypatch, configs[:2], "--variants", "f32")
    assert run(gpu, monkeypatch, configs[:2], "--variants", "f32", "bf16")[:2] == rows
    assert child.asked == [("cae", "f32"), ("paper/bae", "f32"), ("cae", "bf16"), ("paper/bae", "bf16")]
    child.answers.clear()
    capsys.readouterr()
    run(gpu, monkeypatch, configs[:2], "--variants", "f32", "bf16", "--retry")
    assert child.asked[4:] == [("cae", "f32"), ("cae", "bf16")]
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "| cae | 64 | 2 | 500.0, 4 /s, 1.00 ×, 1.00 GiB | 500.0, 4 /s, 1.00 ×, 1.00 GiB |",
        "| paper/bae | 64 | 2 | 500.0, 4 /s, 1.00 ×, 1.00 GiB | 500.0, 4 /s, 1.00 ×, 1.00 GiB |",
    ]
    configs[1].write_text(configs[1].read_text().replace("width: 4", "width: 8"))
    run(gpu, monkeypatch, configs[:2], "--variants", "f32")
    assert child.asked[6:] == [("cae", "f32")]


@pytest.mark.parametrize("answer", [None, {"failed": "its process ended with status -9"}])
def test_a_lost_child_is_a_row_and_the_next_case_has_a_new_one(
    gpu: Any, child: type[Instead], configs: list[Path], monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    child.answers["cae"] = answer
    first, second = run(gpu, monkeypatch, configs[:2], "--variants", "f32")
    assert first["failed"] == (answer or {"failed": "it took longer than 90 s"})["failed"]
    assert second["seconds"] == 0.5
    assert len(child.started) == 2


def test_what_is_left_out_is_said(
    gpu: Any, child: type[Instead], configs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    child.answers["paper/bae"] = None
    rows = run(gpu, monkeypatch, configs[:2], "--variants", "f32", "--minutes", "1")
    assert [row["case"]["config"] for row in rows] == ["cae"]
    assert capsys.readouterr().out.endswith("the same command goes on with them: paper/bae (f32).\n")


def test_without_a_gpu_it_says_so(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    with pytest.raises(SystemExit, match="finds no CUDA device; run this where there is one, or give --device cpu"):
        gpu.main()


def test_a_killed_child_is_noticed(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "serve", os.abort)
    with pytest.raises(SystemExit, match="does not start"):
        gpu.Child(tmp_path / "log")


@pytest.mark.slow
def test_steps_are_measured_in_a_child(
    gpu: Any, configs: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    cae, wrong = run(gpu, monkeypatch, configs[1:], "--variants", "bf16")
    assert cae["seconds"] > 0
    assert cae["operations"] > 0
    assert cae["memory"] is None
    assert sorted(wrong) == ["case", "failed"]
    assert "unknown" in wrong["failed"]
    assert [line.count(" /s") for line in capsys.readouterr().out.splitlines()[-2:]] == [1, 0]
