"""Network trained on pseudo-lesions as an anomalib model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from anomalib.data import ImageBatch
from anomalib.models import AnomalibModule
from torch import Tensor

from anomalib_xray.errors import XrayError
from anomalib_xray.networks.losses import masked_reconstruction_loss
from anomalib_xray.scores import foreground
from anomalib_xray.training.radiograph_model import PRETRAINED_SIZES
from anomalib_xray.training.reconstruction_model import MapModel
from anomalib_xray.training.trained_model import TrainedModel
from anomalib_xray_plugins.pseudo_lesion.blends import Task
from anomalib_xray_plugins.pseudo_lesion.lesions import Lesions, paint_lesions, places, put, square_at, take
from anomalib_xray_plugins.pseudo_lesion.torch_model import SCORES, BackboneUNet, Calibration, LesionModel, lesion_loss

SIDES = 32
"""Sides that the U-Net can halve are multiples of this; twice it at least, or nothing in a batch of one varies."""


class PseudoLesion(MapModel, TrainedModel, AnomalibModule):
    """U-Net that is trained to find lesions painted into normal radiographs, and to find none where nothing is.

    Lesions are patches of the same picture or of others of the batch, or local deformations, and lie in the foreground.
    Sources: CutPaste (Li et al. 2021, 2104.04015), foreign patch interpolation (Tan et al. 2020, 2011.04197), Poisson
    image interpolation (Tan et al. 2021, 2107.02622), natural synthetic anomalies (Schlüter et al. 2022, 2109.15222);
    with ``compare`` DRAEM (Zavrtanik et al. 2021, 2108.07610).

    Args:
        tasks: Kinds of lesion, one of which is drawn for each: ``cut_paste``, ``foreign_patch``, ``poisson``,
            ``natural``, ``deform``; ``natural`` if left out.
        aligned: Whether patches of other pictures come from the same place, as in upright pictures, or from any.
        sizes: Least and largest side of a lesion, as shares of the image's side.
        lesions: Largest number of lesions of an image; from none to these are drawn.
        crop: Side of the square around a place of the foreground that a step looks at, as a share of the image's
            side, 1 for all of it; less is faster where limbs are narrow.
        compare: Whether an autoencoder first learns to reconstruct the picture without its lesions, and the U-Net sees
            both.
        backbone: Network of timm that is the U-Net's way down and is not trained; none for one that is.
        layers: Which of its feature maps, in rising order from 0.
        weights: File with weights of the backbone, read when training starts; none leaves them random.
        width: Channels of the first level of what is trained.
        focal: Exponent of the focal loss; 0 for the cross-entropy.
        dice: Weight of the Dice loss beside it.
        calibration: What the map is divided by: what fires at this ``place`` of training pictures where nothing is
            painted, which suits upright pictures; what fires in this ``picture``; or ``none``.
        augmentation: Augmentation in training: ``default``, ``advanced`` or none.
        score: Score that becomes the predicted score: ``lesion`` or ``lesion_top_k``.
        top_k: Pixels of the top-k score: a number, or a fraction of the foreground if below 1.

    Raises:
        XrayError: A setting that the model does not have.

    Example:
        >>> PseudoLesion(tasks=["poisson", "deform"], width=4).score
        'lesion'
    """

    scores = SCORES
    image_sizes = tuple(size for size in PRETRAINED_SIZES if size % SIDES == 0)

    def __init__(
        self,
        tasks: Sequence[Task] | None = None,
        aligned: bool = False,
        sizes: Sequence[float] = (0.04, 0.2),
        lesions: int = 3,
        crop: float = 0.5,
        compare: bool = False,
        backbone: str | None = None,
        layers: Sequence[int] = (1, 2, 3),
        weights: str | None = None,
        width: int = 8,
        focal: float = 0.0,
        dice: float = 0.0,
        calibration: Calibration = "none",
        augmentation: Literal["default", "advanced"] | None = "advanced",
        score: str = "lesion",
        top_k: float = 0.01,
        **settings: Any,
    ) -> None:
        super().__init__(augmentation=augmentation, score=score, top_k=top_k, **settings)
        tasks = ["natural"] if tasks is None else list(tasks)
        for name, values, choices in (
            ("tasks", tasks, get_args(Task)),
            ("calibration", [calibration], get_args(Calibration)),
        ):
            if not values or not set(values) <= set(choices):
                msg = f"{name} is {', '.join(values) or 'empty'}, but there are {', '.join(choices)}; choose of them."
                raise XrayError(msg)
        if len(sizes) != 2 or not 0 < sizes[0] <= sizes[1] <= 1:
            msg = f"sizes is {list(sizes)}, but it is the least and the largest share of a side, as in [0.04, 0.2]."
            raise XrayError(msg)
        if lesions < 1 or focal < 0 or dice < 0 or not 0 < crop <= 1:
            msg = (
                f"lesions is {lesions}, focal {focal}, dice {dice} and crop {crop}: at least 1 lesion, no negative "
                "number, and a crop above 0 and up to 1."
            )
            raise XrayError(msg)
        self.lesions = Lesions(tasks, aligned, (sizes[0], sizes[1]), lesions)
        self.focal, self.dice, self.crop = focal, dice, crop
        self.weights = weights
        self.model: LesionModel = LesionModel(
            width, compare, calibration, score, self.top_k, self.map_sigma, backbone, layers
        )

    def on_fit_start(self) -> None:
        """Reads the backbone's weights, unless a checkpoint had them."""
        super().on_fit_start()
        if isinstance(self.model.network, BackboneUNet):
            self.model.network.backbone.prepare(self.weights)

    def training_step(self, batch: ImageBatch, *_: Any) -> Tensor:
        """Paints lesions into a batch, and lowers the error of the map that the network gives of them."""
        image = self.grey(batch)
        seeds = torch.randint(2**63 - 1, (len(image),)).tolist()
        with torch.autocast(self.device.type, enabled=False):
            painted, lesion = paint_lesions(image, self.lesions, seeds)
        mask = foreground(image)
        losses = {}
        reconstruction = None
        if self.model.reconstructing is not None:
            reconstruction = self.model.reconstruct(painted)
            losses["reconstruction_loss"] = masked_reconstruction_loss(
                reconstruction, image, mask
            ) + masked_reconstruction_loss(reconstruction, image, mask, "ssim")
        # Only what is near the body: a padded limb is background for the most part, which nothing is learnt from.
        side = image.shape[-1]
        window = min(max(round(self.crop * side / SIDES), 2) * SIDES, side)
        square = square_at(places(mask, torch.rand(len(image), device=image.device)), side, window)
        painted, lesion, mask, seen = (
            take(one, *square) for one in (painted, lesion, mask, self.model.seen(painted, reconstruction))
        )
        logits = self.model.logits(painted, seen)
        losses["lesion_loss"] = lesion_loss(logits, lesion, mask, self.focal, self.dice)
        self.model.learn_clean(
            *(put(torch.zeros_like(image), one, *square) for one in (logits.detach(), mask * (lesion == 0)))
        )
        loss = torch.stack(list(losses.values())).sum()
        self.log_losses({"loss": loss, **losses}, len(image))
        return loss

    def pictures(self, image: Tensor) -> dict[str, Tensor]:
        """Images with lesions above those lesions and what the network says of them."""
        painted, lesion = paint_lesions(image, self.lesions, range(len(image)))
        found = self.model(painted.expand(-1, 3, -1, -1)).anomaly_map.unsqueeze(1)
        pictures = {**super().pictures(image), "lesions": torch.cat([painted, lesion, found])}
        if self.model.reconstructing is not None:
            pictures |= self.reconstruction_rows(painted, self.model.reconstruct(painted))
        return pictures
