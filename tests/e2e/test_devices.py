"""Training with the stock flags for precision and for several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from anomalib.engine import Engine
from torch import nn

from anomalib_xray import models
from anomalib_xray.data import Phantom

pytestmark = pytest.mark.slow

ON_TWO_PROCESSES = """
import torch
from anomalib.engine import Engine
from lightning.pytorch import Callback

from anomalib_xray.data import Phantom
from anomalib_xray.models import AlphaGan

torch.set_num_threads(1)


class Compare(Callback):
    def on_train_end(self, trainer, module):
        assert trainer.world_size == 2
        for name, weight in module.named_parameters():
            of_all = module.all_gather(weight.detach())
            assert torch.equal(of_all[0], of_all[1]), name


engine = Engine(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp_find_unused_parameters_true", logger=False,
    callbacks=[Compare()], enable_progress_bar=False, default_root_dir="results",
)
data = Phantom(root="phantoms", patients=12, num_workers=0, train_batch_size=4, eval_batch_size=2)
model = AlphaGan(image_size=64, width=8, latent_size=16, ema_decay=0.5, schedule="cosine")
start = {name: weight.clone() for name, weight in model.named_parameters()}
engine.fit(model, datamodule=data)
learnt = [name for name, weight in model.named_parameters() if not torch.equal(weight, start[name])]
for player in ("encoder", "generator", "discriminator", "code_discriminator"):
    assert any(name.startswith(f"model.{player}") for name in learnt), player
engine.test(model, datamodule=data)
"""


def test_players_learn_together_on_two_processes_and_every_image_is_scored_once(tmp_path: Path) -> None:
    data = Phantom(root=tmp_path / "phantoms", patients=12, num_workers=0)
    data.prepare_data()
    data.setup()
    (tmp_path / "train.py").write_text(ON_TWO_PROCESSES)
    process = subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stdout
    (table,) = (tmp_path / "results").rglob("scores.csv")
    expected = sorted(Path(path).relative_to(tmp_path).as_posix() for path in data.test_data.samples.image_path)
    found = [Path(path).resolve().relative_to(tmp_path.resolve()).as_posix() for path in pd.read_csv(table).image_path]
    assert sorted(found) == expected


@pytest.mark.parametrize("name", ["Cae", "AlphaGan"])
def test_mixed_precision_trains_in_half_and_scores_in_single(name: str, tmp_path: Path) -> None:
    model: Any = getattr(models, name)(image_size=64, width=8)
    seen: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def note(_network: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        # Not by the network's mode: the encoder learns through a generator in evaluation.
        seen[torch.is_grad_enabled()].add(output.dtype)

    for module in model.model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(note)
    data = Phantom(root=tmp_path / "phantoms", patients=12, num_workers=0, train_batch_size=8)
    engine = Engine(
        max_epochs=1, precision="bf16-mixed", accelerator="cpu", logger=False, default_root_dir=tmp_path,
        enable_progress_bar=False,
    )  # fmt: skip
    engine.fit(model, datamodule=data)
    assert seen == {True: {torch.bfloat16}, False: {torch.float32}}
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in model.parameters())
