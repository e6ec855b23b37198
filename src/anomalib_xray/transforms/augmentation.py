"""Random augmentation of one radiograph and its mask, by albumentations."""

from __future__ import annotations

import os
import random
import warnings
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info
from torchvision import tv_tensors
from torchvision.transforms.v2 import Compose, Transform

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms.foreground import call_on_plain, check_float, keep_foreground

Recipe = list[dict[str, Any]]

RECIPES: dict[str, Recipe] = {
    "default": [
        {"class": "HorizontalFlip", "p": 0.5},
        {"class": "VerticalFlip", "p": 0.5},
    ],
    "advanced": [
        {"class": "HorizontalFlip", "p": 0.5},
        {"class": "VerticalFlip", "p": 0.5},
        {"class": "Affine", "scale": {"x": (0.8, 1.2), "y": (0.8, 1.2)}, "keep_ratio": False, "p": 0.5},
        {"class": "Affine", "rotate": (-20, 20), "fit_output": True, "p": 0.5},
    ],
}
"""The two recipes of the published models: ``default`` for the GANs and the VAE, ``advanced`` for the autoencoders.
In ``advanced``, scaling keeps the canvas and rotation lets it grow; pixels from outside are background."""


class Augmentation(Transform):  # type: ignore[misc]  # torchvision has no types
    """One random augmentation of an image and, with it, of its mask.

    Takes ``image`` or ``image, mask``: an image (3, H, W) or (1, H, W), float in [0, 1] with equal channels and
    background 0, and a mask (H, W) of whole numbers or bool. The result keeps types and dtypes and may have another H
    and W. Its background is exactly 0 and its foreground in [1/255, 1], whatever the recipe does: the foreground moves
    along as a mask.

    The random numbers come from torch's generator. A seed therefore repeats a run, and the workers and epochs of a
    ``DataLoader`` differ.

    The recipe runs before the model equalises and scales an image to [0, 1], which undoes a factor of the grey levels.
    So brightness is not part of it: :meth:`vary_brightness` changes it afterwards.

    Args:
        recipe: ``"default"`` (flips), ``"advanced"`` (flips, scale, rotation, brightness), or a list of albumentations
            transforms by name with their arguments: ``[{"class": "HorizontalFlip", "p": 0.5}, ...]``.
        brightness: Largest change of the brightness of half of the images, as a share from 0 (none) to below 1; the
            recipe's own if left out: 0.2 with ``"advanced"``, otherwise 0.

    Raises:
        XrayError: albumentations is missing, has no transform of that name, or refuses an argument, or the brightness
            is out of its range.

    Example:
        >>> flip = Augmentation([{"class": "HorizontalFlip", "p": 1.0}])
        >>> flip(torch.tensor([0.0, 0.2, 0.4]).expand(3, 1, 3))[0]
        tensor([[0.4000, 0.2000, 0.0000]])
    """

    def __init__(
        self, recipe: Literal["default", "advanced"] | list[dict[str, Any]] = "default", brightness: float | None = None
    ) -> None:
        super().__init__()
        self.recipe = recipe
        self._compose = _build(recipe)
        self._flips = _flips(recipe)
        if brightness is None:
            brightness = 0.2 if recipe == "advanced" else 0.0
        if not 0 <= brightness < 1:
            raise XrayError(
                f"brightness is {brightness:g}, but it is the largest change as a share: at least 0 and less than 1."
            )
        self.brightness = brightness

    # torchvision transforms input by input; albumentations moves the image and its masks in one call.
    def forward(self, *inputs: Any) -> Any:
        """Augments ``image`` or ``image, mask`` and gives back the same; a mask of None stays None.

        Raises:
            XrayError: the image is not one float image (3, H, W) or (1, H, W), or the mask has another height and
                width.
        """
        image, *masks = inputs
        _check_sample(image, masks)
        if self.only_flips:
            return self._flip(image, masks)
        grey = _to_array(image)[0]
        given = [_to_array(mask) for mask in masks if mask is not None]
        # albumentations knows neither torch's seed nor the worker it runs in: left alone, all workers draw the same.
        seed = int(torch.randint(2**31 - 1, (1,)))
        # Its set_random_seed would give every step its own generator of that seed: all flip together or none does.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        if get_worker_info() is not None:
            cv2.setNumThreads(0)  # or OpenCV starts a thread for every core in each of the loader's workers
        moved = self._compose(image=grey, masks=[(grey > 0).astype(np.uint8), *given])

        foreground, *moved_masks = (torch.from_numpy(np.ascontiguousarray(mask)) for mask in moved["masks"])
        augmented = keep_foreground(torch.from_numpy(np.ascontiguousarray(moved["image"])), foreground > 0)
        result = call_on_plain(lambda plain: augmented.to(plain.dtype).expand(plain.shape[0], -1, -1), image)
        if not masks:
            return result
        return result, call_on_plain(lambda plain: moved_masks[0].to(plain.dtype), masks[0]) if given else None

    @property
    def only_flips(self) -> bool:
        """Whether it only flips images and turns them by right angles: the same before their padding and after it."""
        return self._flips is not None

    def _flip(self, image: torch.Tensor, masks: list[torch.Tensor | None]) -> Any:
        """Flips and turns without albumentations, which takes longer than all else that a small image needs."""
        chances = torch.rand(len(self._flips or ())).tolist()
        quarters = int(torch.randint(4, ())) if any(axis == _TURN for axis, _ in self._flips or ()) else 0
        axes = [axis for (axis, chance), drawn in zip(self._flips or (), chances, strict=True) if drawn < chance]

        def flipped(plain: torch.Tensor) -> torch.Tensor:
            for axis in axes:
                plain = plain.rot90(quarters, (-2, -1)) if axis == _TURN else plain.flip(axis)
            return plain

        moved = call_on_plain(flipped, image)
        result = call_on_plain(lambda plain: keep_foreground(plain, plain > 0), moved)
        if not masks:
            return result
        return result, None if masks[0] is None else call_on_plain(flipped, masks[0])

    def vary_brightness(self, images: torch.Tensor) -> torch.Tensor:
        """Multiplies half of the images by a random factor; the project's models call it after scaling to [0, 1].

        The published code multiplies before it scales every image to its full range (arXiv 2001.10883), so that only
        the saturation remains of its factor.

        Args:
            images: Pre-processed images ``(N, C, H, W)`` in [0, 1], background exactly 0.

        Returns:
            Same shape; background 0, foreground in [1/255, 1].
        """
        if self.brightness == 0:
            return images
        chosen, place = torch.rand(2, len(images), 1, 1, 1)
        factor = torch.where(chosen < 0.5, 1 + self.brightness * (2 * place - 1), 1.0)
        return keep_foreground(images * factor.to(images), images > 0)


def augmentation_of(dataset: object) -> Augmentation | None:
    """The :class:`Augmentation`, if any, among the ``augmentations`` of a dataset of anomalib, one or several."""
    transform = getattr(dataset, "augmentations", None)
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    return next((step for step in steps if isinstance(step, Augmentation)), None)


def _check_sample(image: torch.Tensor, masks: list[torch.Tensor | None]) -> None:
    check_float(image)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise XrayError(
            f"Augmentation takes one image (3, H, W) or (1, H, W), not {tuple(image.shape)}; put it into the dataset,"
            " not the model."
        )
    if len(masks) > 1 or any(mask is not None and mask.shape != image.shape[1:] for mask in masks):
        shapes = [tuple(mask.shape) for mask in masks if mask is not None]
        raise XrayError(
            f"Augmentation takes one mask (H, W) of the image's size {tuple(image.shape[1:])}, not {shapes}."
        )


_TURN = 0
_FLIPS = {"HorizontalFlip": -1, "VerticalFlip": -2, "RandomRotate90": _TURN}
"""Axis of a flip, by the name of the transform, and what stands for a turn by right angles."""


def _flips(recipe: str | Recipe) -> list[tuple[int, float]] | None:
    """Axes and chances of a recipe's flips; nothing where a step does anything else."""
    steps = RECIPES[recipe] if isinstance(recipe, str) else recipe
    if any(step.get("class") not in _FLIPS or step.keys() - {"class", "p"} for step in steps):
        return None
    return [(_FLIPS[step["class"]], step.get("p", 0.5)) for step in steps]


def _to_array(tensor: torch.Tensor) -> npt.NDArray[Any]:
    plain = tensor.as_subclass(torch.Tensor) if isinstance(tensor, tv_tensors.TVTensor) else tensor
    array: npt.NDArray[Any] = plain.numpy()
    return array.astype(np.float32) if plain.is_floating_point() else array.astype(np.uint8)


def _build(recipe: str | Recipe) -> Any:
    # albumentations asks the network for its newest version while it is imported.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        import albumentations
    except ImportError as error:
        raise XrayError(
            "Augmentation needs albumentations; install it with: pip install 'anomalib-xray[train]'."
        ) from error
    if isinstance(recipe, str):
        if recipe not in RECIPES:
            raise XrayError(
                f"There is no augmentation recipe {recipe!r}; choose one of {sorted(RECIPES)} or list transforms."
            )
        recipe = RECIPES[recipe]
    return albumentations.Compose([_build_step(step) for step in recipe])


def _build_step(step: dict[str, Any]) -> Any:
    import albumentations

    arguments = dict(step)
    name = arguments.pop("class", None)
    kind = getattr(albumentations, str(name), None)
    if not (isinstance(kind, type) and issubclass(kind, albumentations.BasicTransform)):
        example = RECIPES["default"][0]
        raise XrayError(f"albumentations has no transform {name!r}; write every step of a recipe as in {example}.")
    try:
        with warnings.catch_warnings():
            # albumentations only warns about an argument that it does not know, and goes on without it.
            warnings.simplefilter("error", UserWarning)
            return kind(**arguments)
    except (TypeError, ValueError, UserWarning) as error:
        raise XrayError(
            f"The augmentation {name} refuses its arguments {arguments}: {' '.join(str(error).split())}"
        ) from error
