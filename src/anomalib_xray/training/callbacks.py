"""Callbacks: monitors that tell a failing training early, the time of its end, ``torch.compile``, foreground scores."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from math import ceil, sqrt
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer
from torch import Tensor, nn

from anomalib_xray.io.progress import duration
from anomalib_xray.scores import check_top_k, masked_top_k_mean

logger = logging.getLogger(__name__)

ALIKE = 0.1
"""Samples whose diversity is below this share of the real images' count as collapsed."""

SURE = 4.6
"""Logit from which on a discriminator is 99 % sure."""

BLIND = 0.01
"""Difference of the logits of real and generated images below which a discriminator tells nothing."""

ADVICE = {
    "collapsed": "The generator's samples are nearly alike (diversity {diversity:.3f} of the real images'); lower its "
    "learning rate, use minibatch discrimination or spectral normalisation, or take another adversarial loss.",
    "overwhelming": "The discriminator is sure of everything (logits {real:.1f} real, {fake:.1f} generated), so that "
    "the generator hardly learns; lower the discriminator's learning rate, or add instance noise or soft labels.",
    "blind": "The discriminator tells nothing apart (logits {real:.3f} real, {fake:.3f} generated), so that its scores "
    "mean nothing; raise its learning rate.",
}


class LossMeans(Callback):
    """Logs the losses that a model of this project has noted, after an epoch's last batch."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Logs them before the validation that may follow."""
        if trainer.is_last_batch:
            pl_module.log_noted_losses()

    def on_train_epoch_end(self, _trainer: Trainer, pl_module: Any) -> None:
        """Logs what is left of an epoch that ended early."""
        pl_module.log_noted_losses()


class GanMonitor(Callback):
    """Logs what tells a failing GAN, and warns once about each finding that lasts.

    Logged each epoch: ``train_sample_diversity``, the :func:`diversity` of samples from fixed codes, and
    ``train_discriminator_margin``, the mean logit of real images less that of generated ones.

    Reported after some epochs in a row: a collapsed generator, a discriminator that is sure of everything (with the log
    loss its generator's gradient then vanishes; a critic of ``wgan-gp`` has no logits and is left out), and one that
    tells nothing apart.

    Args:
        patience: Epochs in a row after which a finding is reported.
    """

    def __init__(self, patience: int = 5) -> None:
        super().__init__()
        self.patience = patience
        self.real: Tensor | None = None
        self.lasting: Counter[str] = Counter()

    def state_dict(self) -> dict[str, Any]:
        """The number of epochs that each finding has lasted."""
        return {"lasting": dict(self.lasting)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint was."""
        self.lasting = Counter(state_dict["lasting"])

    def on_train_batch_end(self, _trainer: Trainer, module: Any, _outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the epoch's first real images."""
        if batch_idx == 0:
            self.real = module.grey(batch).detach()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Logs and judges the epoch, if the players met in it."""
        images, self.real = self.real, None
        if not getattr(pl_module, "plays", lambda: True)():
            return
        logged = trainer.callback_metrics
        real, fake = float(logged["train_real_logit"]), float(logged["train_sample_logit"])
        share = diversity(pl_module.samples(), images)
        pl_module.log_dict({"train_sample_diversity": share, "train_discriminator_margin": real - fake})
        critic = pl_module.adversarial_loss == "wgan-gp"
        found = {
            "collapsed": share < ALIKE,
            "overwhelming": not critic and real > SURE and fake < -SURE,
            "blind": abs(real - fake) < BLIND,
        }
        for finding, holds in found.items():
            self.lasting[finding] = self.lasting[finding] + 1 if holds else 0
            if self.lasting[finding] == self.patience:
                advice = ADVICE[finding].format(diversity=share, real=real, fake=fake)
                logger.warning("Epoch %d, for %d epochs: %s", trainer.current_epoch, self.patience, advice)


def diversity(samples: Tensor, real: Tensor | None) -> float:
    """Relates how much samples ``(M, 1, S, S)`` differ among each other to how much real images do.

    The measure is the mean over pairs of the root mean squared difference of their pixels: 0 for samples that are all
    alike, about 1 for samples as different as the real images; 1 where there are fewer than two different real images.

    >>> real, sample = torch.rand(4, 1, 8, 8), torch.rand(1, 1, 8, 8)
    >>> diversity(sample.repeat(4, 1, 1, 1), real), diversity(real, real)
    (0.0, 1.0)
    """
    spread = 0.0 if real is None else _spread(real)
    return _spread(samples) / spread if spread > 0 else 1.0


def _spread(images: Tensor) -> float:
    """Mean distance of pairs of images, in units of their pixels; 0 for a single one."""
    if len(images) < 2:
        return 0.0
    flat = images.float().flatten(1)
    return float(torch.pdist(flat).mean() / sqrt(flat.shape[1]))


SAME_FEATURES = 1e-4
"""Spread below which all images have the same features, up to what noise in the network leaves."""


def feature_spread(features: Tensor) -> Tensor:
    """Divides the root mean squared distance from the mean feature by the root mean squared length.

    Args:
        features: ``(N, F)``.

    Returns:
        Scalar in [0, 1]: 0 where all images have the same features, 1 where these are 0 on average.

    >>> feature_spread(torch.tensor([[1.0, 2.0], [1.0, 2.0]])), feature_spread(torch.tensor([[1.0], [-1.0]]))
    (tensor(0.), tensor(1.))
    """
    features = features.detach().float()
    apart = (features - features.mean(0)).square().sum(1).mean()
    return (apart / features.square().sum(1).mean().clamp(min=torch.finfo(features.dtype).tiny)).sqrt()


class CollapseMonitor(Callback):
    """Warns once if the features of all images have become the same: every score is then noise.

    The model logs ``train_feature_spread``, see :func:`feature_spread`. Reported after some epochs in a row.

    Args:
        advice: The remedy: the end of a sentence.
        patience: Epochs in a row after which it is reported.
    """

    def __init__(self, advice: str, patience: int = 3) -> None:
        super().__init__()
        self.advice = advice
        self.patience = patience
        self.lasting = 0

    def state_dict(self) -> dict[str, Any]:
        """The number of epochs that it has lasted."""
        return {"lasting": self.lasting}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint was."""
        self.lasting = state_dict["lasting"]

    def on_train_epoch_end(self, trainer: Trainer, *_: Any) -> None:
        """Judges the epoch, if features were trained in it."""
        spread = trainer.callback_metrics.get("train_feature_spread")
        if spread is None:
            return
        self.lasting = self.lasting + 1 if float(spread) < SAME_FEATURES else 0
        if self.lasting == self.patience:
            logger.warning(
                "Epoch %d, for %d epochs: all images have the same features (spread %.1e of their length), so that the "
                "scores mean nothing; %s.", trainer.current_epoch, self.patience, float(spread), self.advice,
            )  # fmt: skip


class TrainingEnd(Callback):
    """Prints after the second epoch when the training will end.

    The first epoch is longer than the others, because everything is loaded in it. The second one may lack a validation,
    or be of the first of several networks that are trained one after another, so that the time is a rough one.

    Args:
        clock: Seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.clock = clock

    def on_train_start(self, *_: Any) -> None:
        """Counts from the first epoch, also in a training that goes on."""
        self.epochs = 0

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        """Starts the clock."""
        self.began, self.steps = self.clock(), trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints it after the second epoch, if more are to come."""
        self.epochs += 1
        if self.epochs != 2:
            return
        now = self.clock()
        epochs, seconds = _epochs_left(trainer, self.steps), now - self.began
        if epochs is None or epochs < 1 or trainer.should_stop:
            return
        left = min([epochs * seconds, *_time_left(trainer)])
        end = datetime.fromtimestamp(now + left).astimezone()
        # Through the module, which knows the progress bar and which process prints.
        pl_module.print(
            f"The second epoch took {_seconds(seconds)}: this training ends about {end:%Y-%m-%d %H:%M}, "
            f"in {duration(left)} (epochs left: {epochs})."
        )


def _epochs_left(trainer: Trainer, steps_before: int) -> int | None:
    """Epochs that are still to come, the last of them perhaps in part; None if there is no end."""
    limits = []
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(trainer.max_epochs - trainer.current_epoch - 1)
    in_an_epoch = trainer.global_step - steps_before
    if trainer.max_steps >= 0 and in_an_epoch > 0:
        limits.append(ceil((trainer.max_steps - trainer.global_step) / in_an_epoch))
    return min(limits, default=None)


def _time_left(trainer: Trainer) -> list[float]:
    """The seconds that ``trainer.max_time`` leaves."""
    timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]  # its stub lacks the list
    return [seconds for seconds in timers if seconds is not None]


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 10 else duration(seconds)


class ChannelsLast(Callback):
    """Lays a model's weights out with channels last while it trains; added under ``trainer.callbacks``.

    Convolutions are then faster in networks with many channels (docs/how-to/training.md has figures). Results differ by
    rounding; checkpoints and exports do not depend on it.
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Lays the weights out before a checkpoint is read, which fills them in place."""
        del trainer
        if stage == "fit":
            pl_module.to(memory_format=torch.channels_last)


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
        del trainer, stage  # Lightning gives the last one by its name
        for network in _networks(pl_module):
            network._compiled_call_impl = None  # what Module.compile sets; there is no method that unsets it


LEAST_FLAT, MOST_BELOW = 0.02, 0.05
"""Share of equal pixels from which on they may be a background, and of those that an interpolation puts below it."""


class ForegroundScores(Callback):
    """Confines maps of anomalib's own models to the foreground; added under ``trainer.callbacks``.

    Their scores become the mean of the map's largest values within the foreground. It changes what a validation, a test
    and a prediction give, not what is exported.

    Args:
        top_k: Number of pixels if 1 or more, otherwise the fraction of the foreground; none leaves the scores as they
            are.

    Raises:
        XrayError: ``top_k`` is neither.

    Example:
        >>> ForegroundScores(top_k=200).top_k
        200
    """

    def __init__(self, top_k: float | None = 0.03) -> None:
        super().__init__()
        if top_k is not None:
            check_top_k(top_k)
        self.top_k = top_k

    def on_validation_batch_end(self, *arguments: Any) -> None:
        """Changes the batch of scored images, the third argument."""
        outputs: Any = arguments[2]
        if outputs.anomaly_map is None:
            return
        mask = foreground_of(outputs.image).unsqueeze(1)
        maps = outputs.anomaly_map.reshape(mask.shape) * mask
        outputs.anomaly_map = maps.squeeze(1)
        if self.top_k is not None:
            outputs.pred_score = masked_top_k_mean(maps, mask.to(maps), self.top_k)

    on_test_batch_end = on_validation_batch_end  # type: ignore[assignment]  # its arguments by place
    on_predict_batch_end = on_validation_batch_end  # type: ignore[assignment]  # as above


def foreground_of(image: Tensor) -> Tensor:
    """Pixels ``(N, H, W)`` above the background of their image ``(N, C, H, W)``; all where it has one value only.

    Models normalise in different ways, which leave the background the smallest value. Those that resize bicubically put
    some pixels beside the body below it; then the background is the most frequent value.
    """
    brightest = image.amax(1).flatten(1)
    least, usual = brightest.amin(1, keepdim=True), brightest.mode(1, keepdim=True).values
    flat = (brightest == usual).to(brightest).mean(1, keepdim=True)
    below = (brightest < usual).to(brightest).mean(1, keepdim=True)
    background = torch.where((flat >= LEAST_FLAT) & (below <= MOST_BELOW), usual, least)
    above: Tensor = brightest > background
    return (above | ~above.any(1, keepdim=True)).reshape(len(image), *image.shape[2:])


def _networks(module: LightningModule) -> list[nn.Module]:
    """The parts of a model's torch module that learn."""
    model: Any = module.model
    return [network for network in model.children() if any(weight.requires_grad for weight in network.parameters())]
