"""One training loop for the networks of the preparation: by Lightning, with steps that a stopped run goes on from."""

from __future__ import annotations

import io
import logging
import math
import signal
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from anomalib_xray.errors import XrayError
from anomalib_xray.io.progress import track
from anomalib_xray.io.write import write_atomically
from anomalib_xray.openvino_runtime import silence_telemetry

LossAt = Callable[[int], torch.Tensor]

CHECKPOINT = "checkpoint.pt"
"""File beside a trained network that says where its training stands."""


def warm_schedule(optimizer: torch.optim.Optimizer, steps: int) -> LambdaLR:
    """The learning rate rises for a twentieth of the steps, then falls to 0 by half a cosine."""

    def share(step: int) -> float:
        progress = step / steps
        return min((progress + 1e-3) / 0.05, 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, share)


def export_network(network: torch.nn.Module, shape: tuple[int, ...], path: Path) -> None:
    """Write a network in eval mode, with one input of a fixed shape, as OpenVINO IR in half precision."""
    import openvino  # type: ignore[import-untyped]  # openvino ships no types

    silence_telemetry()
    model = openvino.convert_model(torch.export.export(network, (torch.zeros(shape),)))
    model.reshape(shape)  # a traced program leaves its sizes open
    openvino.save_model(model, path, compress_to_fp16=True)


def train_network(
    network: torch.nn.Module,
    losses: Callable[[], LossAt],
    schedule: LRScheduler,
    *,
    steps: int,
    checkpoint: Path,
    every: int,
    settings: Mapping[str, Any],
) -> None:
    """Train a network, or go on where an earlier run stopped; the network is in eval mode afterwards.

    Args:
        network: The network.
        losses: Gives, if steps are left to do, the function from a step, counted from 0, to the loss there on a batch
            that depends on the step alone.
        schedule: Learning rates, step by step, of the optimiser that holds the network's parameters.
        steps: Number of optimiser steps, those of an earlier run included.
        checkpoint: The file that an earlier run left, and that this one writes.
        every: Number of steps from one writing to the next.
        settings: All that the training depends on, JSON values.

    Raises:
        XrayError: The checkpoint is damaged or of other settings, or cannot be written.
    """
    module = _Training(network, schedule, steps, checkpoint, every, dict(settings))
    module.resume()
    if module.done < steps:
        module.loss_at = losses()
        _fit(module)
    network.eval()


class _Training(LightningModule):
    """A network, its optimiser and its learning rates, at a step of the training."""

    loss_at: LossAt

    def __init__(
        self,
        network: torch.nn.Module,
        schedule: LRScheduler,
        steps: int,
        checkpoint: Path,
        every: int,
        settings: dict[str, Any],
    ) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule
        self.steps, self.checkpoint, self.every, self.settings = steps, checkpoint, every, settings
        self.done = 0
        self.parts: dict[str, Any] = {"network": network, "optimizer": schedule.optimizer, "schedule": schedule}

    def configure_optimizers(self) -> Any:
        return {"optimizer": self.schedule.optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def training_step(self, step: int) -> torch.Tensor:
        return self.loss_at(step)

    def on_train_batch_end(self, outputs: Any, batch: int, batch_idx: int) -> None:
        del batch_idx
        self.done = batch + 1
        if self.done % self.every == 0 or self.done == self.steps:
            print(f"step {self.done} of {self.steps}: loss {outputs['loss'].item():.4f}", flush=True)
            states = {name: part.state_dict() for name, part in self.parts.items()}
            content = io.BytesIO()
            torch.save({"settings": self.settings, "step": self.done, **states}, content)
            write_atomically(self.checkpoint, content.getvalue())

    def resume(self) -> None:
        """Go back to the step of an earlier run, if there was one."""
        path = self.checkpoint
        if not path.exists():
            return
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            if content["settings"] != self.settings:
                raise XrayError(
                    f"{path} belongs to a training with other settings: choose another folder or delete it."
                )
            for name, part in self.parts.items():
                part.load_state_dict(content[name])
            self.done = int(content["step"])
        except XrayError:
            raise
        except Exception as error:  # torch raises about anything for damaged files
            raise XrayError(f"{path} is no checkpoint of this training: delete it to start anew.") from error


def _fit(module: _Training) -> None:
    """Do the steps that are left."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    steps = track(range(module.done, module.steps), "Training", module.steps, done=module.done)
    try:
        with warnings.catch_warnings(action="ignore"):  # about data loaders and loggers, which are not wanted here
            trainer = Trainer(
                accelerator="cpu",
                devices=1,
                max_steps=module.steps - module.done,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
            )
            trainer.fit(module, train_dataloaders=steps)
    except SystemExit as end:
        # Lightning turns Ctrl-C into the end of the process, and ignores the next one.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        raise KeyboardInterrupt from end
