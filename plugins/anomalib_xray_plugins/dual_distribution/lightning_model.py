"""Dual-distribution ensembles as an anomalib model."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor, nn, optim

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.fc_autoencoder import FcAutoencoder, Kind, fc_autoencoder_loss
from anomalib_xray.networks.memory import Addressing, Memory
from anomalib_xray.networks.sagan import to_tanh_range, to_unit_range
from anomalib_xray.scores import foreground
from anomalib_xray.training.gan_model import evaluating
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray.training.trained_model import Phases, TrainedModel
from anomalib_xray_plugins.dual_distribution.refinement import Refinement, focal_loss, paint_anomalies
from anomalib_xray_plugins.dual_distribution.torch_model import DualDistributionModel, score_names
from anomalib_xray_plugins.dual_distribution.training_images import TrainingImages

logger = logging.getLogger(__name__)

SEEDS = 2**63


class DualDistribution(MapModel, TrainedModel, AnomalibModule):
    """Two ensembles of autoencoders, one of which also trains on unlabelled images; where they disagree is anomalous.

    Module A has K networks that train on normal and unlabelled images, module B K networks that train on normal images
    only. The unlabelled images are the ``unlabelled_data`` of the datamodule; of these nothing but the image is read.
    Without them A differs from B by chance alone.

    All training images are read once, at the start, and kept in memory for all networks (``memory_limit``); an image of
    64 pixels takes 16 KiB. Every network goes through its images in an order of its own. An epoch is one pass of every
    network through its images, in batches of the datamodule's size: A, which has more images, makes more updates,
    spread evenly over the trainer's steps, of which there are as many as batches of normal images. Images that are
    augmented are read anew in every epoch. Schedules run over the epochs of the ensembles and of the refinement.

    Source: Cai et al. 2022, "Dual-distribution discrepancy for anomaly detection in chest X-rays" (2206.03935); the
    refinement Cai et al. 2023 (Medical Image Analysis 86).

    Args:
        image_size: Side of the square that images are padded and resized to: 64, 128, 256 or 512 pixels.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        backbone: Networks: ``ae``, plain; ``mem_ae``, with a memory of codes; ``ae_u``, with a predicted variance.
        members: Number K of networks in each module.
        width: Channels of the first level; they double up to four times as many.
        hidden: Units of the hidden fully connected layers.
        latent_size: Length of the code.
        memory_items: Number of remembered codes of ``mem_ae``.
        addressing: Similarity of code and item of ``mem_ae``: ``dot`` product or ``cosine``.
        memory_shrink: Weights of items up to this are set to 0; none if 0. Less than 1, with ``cosine`` than
            ``1 / memory_items``.
        entropy_weight: Weight of the addressing's entropy in the loss of ``mem_ae``.
        masked: Whether loss and scores count the foreground only; not as published. Maps always do.
        drop_last: Whether a smaller last batch is left out, as published, unless it is the only one.
        refinement: Network that refines the discrepancies after the ensembles are trained: ``dual`` sees ``inter`` and
            ``intra``, ``intra`` the latter only; or ``none``.
        refinement_epochs: Epochs of the refinement, the last ones of the training.
        refinement_width: Channels of the refinement's network.
        refinement_batch_size: Images of a batch of the refinement.
        refinement_learning_rate: Learning rate of the refinement.
        refinement_weight_decay: Weight decay of the refinement.
        memory_limit: Memory that the training images may take, in GiB.
        score: Score that becomes the predicted score: ``inter``, ``intra``, ``rec_ensemble``, ``rec`` (of one network
            of B), with a refinement ``r_dual`` or ``r_intra``; each also with ``_top_k``.
        map_sigma: Smoothing of the anomaly map, in pixels of the networks' input.
        learning_rate: Learning rate of Adam.
        betas: Coefficients of Adam.
        schedule: Learning rates over the epochs of ensembles and of refinement: ``constant``, ``linear``, ``cosine`` or
            ``exponential``.

    Raises:
        XrayError: An image size or score that the model does not have, no member, or epochs that do not fit together.

    Example:
        >>> DualDistribution(width=4, hidden=16, members=2).scores
        ('rec', 'rec_top_k', 'rec_ensemble', 'rec_ensemble_top_k', 'intra', 'intra_top_k', 'inter', 'inter_top_k')
    """

    model: DualDistributionModel

    def __init__(
        self,
        image_size: int = 64,
        augmentation: Literal["default", "advanced"] | None = None,
        backbone: Kind = "ae",
        members: int = 3,
        width: int = 16,
        hidden: int = 2048,
        latent_size: int = 16,
        memory_items: int = 25,
        addressing: Addressing = "dot",
        memory_shrink: float = 0.0,
        entropy_weight: float = 2e-4,
        masked: bool = True,
        drop_last: bool = False,
        refinement: Refinement = "none",
        refinement_epochs: int = 0,
        refinement_width: int = 128,
        refinement_batch_size: int = 8,
        refinement_learning_rate: float = 1e-4,
        refinement_weight_decay: float = 1e-4,
        memory_limit: float = 8.0,
        score: str = "inter",
        learning_rate: float = 5e-4,
        betas: tuple[float, float] = (0.5, 0.999),
        **settings: Any,
    ) -> None:
        super().__init__(
            image_size=image_size, augmentation=augmentation, score=score, learning_rate=learning_rate, **settings
        )
        if members < 1:
            msg = f"members is {members}, but each of the two modules has at least 1 network; 3 as published."
            raise XrayError(msg)
        if (refinement == "none") != (refinement_epochs == 0) or refinement_epochs < 0:
            msg = (
                f"refinement is {refinement} and refinement_epochs {refinement_epochs}; give a refinement at least 1 "
                "epoch, and none 0."
            )
            raise XrayError(msg)
        self.members, self.masked, self.drop_last, self.betas = members, masked, drop_last, betas
        self.entropy_weight, self.memory_limit = entropy_weight, memory_limit
        self.refinement_epochs, self.refinement_batch_size = refinement_epochs, refinement_batch_size
        self.refinement_learning_rate = refinement_learning_rate
        self.refinement_weight_decay = refinement_weight_decay
        self.automatic_optimization = False
        make_memory = partial(Memory, memory_items, latent_size, addressing, memory_shrink)
        self.model = DualDistributionModel(
            lambda: FcAutoencoder(
                image_size,
                width,
                hidden,
                latent_size,
                uncertainty=backbone == "ae_u",
                memory=make_memory() if backbone == "mem_ae" else None,
            ),
            members,
            refinement,
            refinement_width,
            masked,
            score,
            self.top_k,
            self.map_sigma,
        )
        self._training: TrainingImages | None = None
        self._batches: dict[str, list[list[Tensor]]] = {}

    @property
    def training_images(self) -> TrainingImages:
        """Images of the training that is under way."""
        assert self._training is not None  # set when training starts
        return self._training

    @property
    def scores(self) -> Sequence[str]:
        """Names of the scores, with those of the refinement."""
        return score_names(self.hparams["refinement"])

    def on_fit_start(self) -> None:
        """Reads the images before the trainer makes its loader, which then opens no file."""
        super().on_fit_start()
        self.phases()
        pre_process = self.pre_processor or nn.Identity()
        seed = int(self.model.member_seeds[0])
        self._training = TrainingImages(pre_process, self.image_size, self.memory_limit, seed)
        datamodule = getattr(self.trainer, "datamodule", None)
        if hasattr(datamodule, "train_data"):
            self._training.take_datamodule(datamodule, self.augmentation is not None)

    def on_train_start(self) -> None:
        """Takes the images of a loader that came without a datamodule."""
        if not len(self.training_images.images):
            self.training_images.take_loader(self.trainer.train_dataloader)
        if not self.training_images.unlabelled:
            logger.warning(
                "There are no unlabelled images: both ensembles train on the normal ones, so that inter only measures "
                "how far two ensembles differ by chance; give the datamodule a pool."
            )

    def on_train_epoch_start(self) -> None:
        """Draws the order in which every network sees its images in this epoch."""
        data, epoch = self.training_images, self.current_epoch
        data.read(epoch)
        data.images = data.images.to(self.device)
        seeds = [int(seed) + epoch for seed in self.model.member_seeds]
        if self.refines():
            self._batches = {"refinement": [shuffled_batches(data.normal, self.refinement_batch_size, seeds[0])]}
            return
        size, drop, members = data.batch_size, self.drop_last, self.members
        self._batches = {
            "a": [shuffled_batches(len(data.images), size, seed, drop) for seed in seeds[:members]],
            "b": [shuffled_batches(data.normal, size, seed, drop) for seed in seeds[members:]],
        }

    def on_fit_end(self) -> None:
        """Lets the images go."""
        if self._training is not None:
            self._training.release()
        self._training = None
        self._batches = {}

    def phases(self) -> Phases:
        """The ensembles are trained, then the refinement; all epochs are the ensembles' without one.

        Raises:
            XrayError: No epoch is left for the ensembles.
        """
        epochs, last = self.trainer.max_epochs, self.refinement_epochs
        if not last or epochs is None:
            return Phases(None, epochs)
        if epochs <= last:
            msg = (
                f"Of {epochs} epochs of training {last} are the refinement's, so that none is left for the ensembles; "
                "raise trainer.max_epochs."
            )
            raise XrayError(msg)
        return Phases(epochs - last, epochs)

    def refines(self) -> bool:
        """Whether the current epoch trains the refinement."""
        return self.phases().of(self.current_epoch) == 1

    def training_step(self, batch: ImageBatch, batch_idx: int, *_: Any) -> None:
        """Updates the networks of the phase with their own batches; the trainer's batch only paces them."""
        del batch
        steps = len(self.trainer.train_dataloader)  # type: ignore[arg-type]  # any loader
        losses: dict[str, list[Tensor]] = {}
        for module, optimizer in zip(("a", "b", "refinement"), self.optimizers(), strict=False):
            members = self._batches.get(module, [[]])
            for number in in_this_step(batch_idx, steps, len(members[0])):
                losses.setdefault(module, []).append(
                    self._update(module, optimizer, [batches[number] for batches in members], number)
                )
        if self.trainer.is_last_batch:
            self._step_schedules()
        means = {f"{module}_loss": torch.stack(values).mean() for module, values in losses.items()}
        if means and not self.refines():
            means = {"loss": torch.stack(list(means.values())).mean(), **means}
        self.log_losses(means, self.training_images.batch_size)

    def _update(self, module: str, optimizer: Any, indices: list[Tensor], number: int) -> Tensor:  # Lightning's
        """One step of a module's networks, each with its own images; returns their mean loss."""
        optimizer.zero_grad()
        if module == "refinement":
            losses = [self._refinement_loss(indices[0], number)]
            self.manual_backward(losses[0])
        else:
            losses = []
            networks: Iterable[nn.Module] = self.model.module_a if module == "a" else self.model.module_b
            for network, chosen in zip(networks, indices, strict=True):
                losses.append(self._member_loss(network, chosen))
                self.manual_backward(losses[-1])
        optimizer.step()
        return torch.stack([loss.detach() for loss in losses]).mean()

    def _member_loss(self, network: nn.Module, chosen: Tensor) -> Tensor:
        """Loss of one network on images of the given numbers."""
        image = self.training_images.images[chosen.to(self.device)]
        mask = foreground(image) if self.masked else torch.ones_like(image)
        target = to_tanh_range(image)
        return fc_autoencoder_loss(network(target), target, mask, self.entropy_weight)

    def _refinement_loss(self, chosen: Tensor, number: int) -> Tensor:
        """Loss of the refinement on painted anomalies; the ensembles look on as in evaluation."""
        data = self.training_images
        seed = int(self.model.member_seeds[-1]) + self.current_epoch * (data.normal + 1) + number
        source = torch.Generator().manual_seed(seed)
        others = torch.randint(data.normal, (len(chosen),), generator=source)
        image, target = paint_anomalies(data.images[chosen.to(self.device)], data.images[others], source)
        with torch.no_grad(), evaluating(self.model.module_a), evaluating(self.model.module_b):
            maps = self.model.discrepancies(image)
        return focal_loss(self.model.refine(maps), target)

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images above the reconstructions of the first network of B, and the means of A and of B."""
        scaled = to_tanh_range(image)
        modules = self.model.module_a, self.model.module_b
        means = [torch.stack([network(scaled).image for network in module]).mean(0) for module in modules]
        single = to_unit_range(self.model.module_b[0](scaled).image).clamp(0, 1)
        ensembles = to_unit_range(torch.cat(means)).clamp(0, 1)
        return {**self.reconstruction_rows(image, single), "ensembles": ensembles}

    def configure_optimizers(self) -> Any:
        """Adam for each module and for the refinement, with the schedule of the settings."""
        model, betas = self.model, self.betas
        optimizers = [
            self.with_schedule(optim.Adam(module.parameters(), lr=self.learning_rate, betas=betas, fused=True), 0)
            for module in (model.module_a, model.module_b)
        ]
        if model.refiner is not None:
            rate, decay = self.refinement_learning_rate, self.refinement_weight_decay
            optimizer = optim.Adam(model.refiner.parameters(), lr=rate, betas=betas, weight_decay=decay)
            optimizers.append(self.with_schedule(optimizer, 1))
        return optimizers

    def _step_schedules(self) -> None:
        """Lowers the learning rates of the phase after an epoch's last batch, before its checkpoint is written."""
        schedulers = self._schedulers()
        for scheduler in schedulers[2:] if self.refines() else schedulers[:2]:
            scheduler.step()  # type: ignore[call-arg]  # none of ours takes a metric


def shuffled_batches(count: int, batch_size: int, seed: int, drop_last: bool = False) -> list[Tensor]:
    """Numbers of the images of each batch in one pass through ``count`` images in random order.

    With ``drop_last`` a smaller last batch is left out, unless it is the only one.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed % SEEDS))
    batches = [order[start : start + batch_size] for start in range(0, count, batch_size)]
    return batches[:-1] if drop_last and len(batches) > 1 and len(batches[-1]) < batch_size else batches


def in_this_step(step: int, steps: int, batches: int) -> range:
    """Numbers of the batches that belong to a step, so that an epoch's steps share all batches evenly."""
    return range(step * batches // steps, (step + 1) * batches // steps)
