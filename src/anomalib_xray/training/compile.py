"""``torch.compile`` through the stock trainer."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn


class CompileNetworks(Callback):
    """Compiles a model's networks while it trains; added under ``trainer.callbacks``.

    Weights keep their names, so that checkpoints do not differ; what is exported afterwards is not compiled.

    Args:
        backend: Backend of ``torch.compile``; ``inductor`` needs a C++ compiler, on a GPU Triton.
        mode: Its mode, for example ``reduce-overhead``.
    """

    def __init__(self, backend: str = "inductor", mode: str | None = None) -> None:
        super().__init__()
        self.backend = backend
        self.mode = mode

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Marks the networks to be compiled at their first call."""
        del trainer
        if stage == "fit":
            for network in _networks(pl_module):
                network.compile(backend=self.backend, mode=self.mode)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Goes back to the networks as they were."""
        del trainer, stage
        for network in _networks(pl_module):
            network._compiled_call_impl = None  # what Module.compile sets; there is no method that unsets it


def _networks(module: LightningModule) -> list[nn.Module]:
    """The parts of a model's torch module that learn."""
    model: Any = module.model
    return [network for network in model.children() if any(weight.requires_grad for weight in network.parameters())]
