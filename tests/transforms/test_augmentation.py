from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import Augmentation

HandImage = Callable[..., torch.Tensor]


def augment_often(recipe: Any, image: torch.Tensor, times: int = 40) -> list[torch.Tensor]:
    torch.manual_seed(0)
    augmentation = Augmentation(recipe)
    return [augmentation(image) for _ in range(times)]


def test_default_recipe_makes_the_four_flips_and_nothing_else(hand_image: HandImage) -> None:
    image = hand_image(31, 20)
    image[:, :10, :8] = 0.9  # no symmetry
    flips = [image, image.flip(-1), image.flip(-2), image.flip(-1, -2)]
    counts = [0] * 4
    for augmented in augment_often("default", image):
        matches = [torch.equal(augmented, flip) for flip in flips]
        assert sum(matches) == 1
        counts[matches.index(True)] += 1
    assert min(counts) >= 3


@pytest.mark.parametrize("recipe", ["default", "advanced"])
@pytest.mark.parametrize("shape", [(64, 48), (1, 30), (1, 1), (33, 33)])
def test_background_and_foreground_keep_their_promise(
    recipe: str,
    shape: tuple[int, int],
    hand_image: HandImage,
    assert_foreground_promise: Callable[[torch.Tensor], None],
) -> None:
    for augmented in augment_often(recipe, hand_image(*shape), times=20):
        assert augmented.dtype == torch.float32
        assert torch.equal(augmented[0], augmented[1])
        assert torch.equal(augmented[0], augmented[2])
        assert_foreground_promise(augmented)


def test_background_stays_zero_under_noise_and_offset(hand_image: HandImage) -> None:
    image = hand_image(64, 48)
    recipe = [
        {"class": "GaussNoise", "std_range": (0.2, 0.4), "p": 1.0},
        {"class": "RandomBrightnessContrast", "brightness_limit": (0.5, 0.5), "p": 1.0},
    ]
    for augmented in augment_often(recipe, image, times=5):
        assert torch.equal(augmented > 0, image > 0)
        assert augmented.max() <= 1


def test_all_zero_image_stays_zero() -> None:
    assert not any(augmented.any() for augmented in augment_often("advanced", torch.zeros(3, 40, 30), times=10))


def test_advanced_recipe_stays_in_its_ranges(hand_image: HandImage) -> None:
    image = (hand_image(81, 61) > 0).float() * 0.5
    area = float((image > 0).sum())
    results = augment_often("advanced", image, times=80)
    areas = torch.tensor([float((augmented > 0).sum()) / area for augmented in results])
    shapes = {tuple(augmented.shape[1:]) for augmented in results}
    # Scaling changes the area by at most 1.2 x 1.2 (less where the canvas cuts); rotation keeps it.
    assert areas.min() > 0.6
    assert areas.max() < 1.5
    assert (81, 61) in shapes
    assert all(height >= 81 and width >= 61 for height, width in shapes)
    assert len(shapes) > 10


@pytest.mark.parametrize(("augmentation", "limit"), [(Augmentation("advanced"), 0.2), (Augmentation([], 0.5), 0.5)])
def test_brightness_of_half_of_the_images_varies_within_its_limit(augmentation: Augmentation, limit: float) -> None:
    torch.manual_seed(0)
    images = torch.full((400, 3, 4, 4), 0.6)
    images[..., 0] = 0
    varied = augmentation.vary_brightness(images)
    factors = (varied / 0.6)[..., 1:].flatten(1)
    assert not varied[..., 0].any()
    assert (factors.amax(1) - factors.amin(1)).max() < 1e-6
    changed = factors[:, 0][(factors[:, 0] - 1).abs() > 1e-6]
    assert 0.4 < len(changed) / 400 < 0.6
    assert 1 - limit - 1e-6 <= changed.min() < 1 - 0.9 * limit
    assert 1 + 0.9 * limit < changed.max() <= 1 + limit + 1e-6


def test_varied_images_stay_in_their_range_and_keep_their_foreground() -> None:
    torch.manual_seed(0)
    images = torch.rand(50, 3, 8, 8).clamp(min=1 / 255)
    images[:, :, :2] = 0
    varied = Augmentation("advanced").vary_brightness(images)
    assert torch.equal(varied > 0, images > 0)
    assert varied.max() == 1
    assert varied[varied > 0].min() >= 1 / 255


def test_only_advanced_varies_the_brightness_by_itself() -> None:
    images = torch.rand(20, 3, 4, 4)
    assert torch.equal(Augmentation("default").vary_brightness(images), images)
    assert torch.equal(Augmentation([{"class": "HorizontalFlip"}]).vary_brightness(images), images)
    with pytest.raises(XrayError, match="brightness is 1,"):
        Augmentation("default", brightness=1)


def test_image_and_mask_move_together(hand_image: HandImage) -> None:
    image = tv_tensors.Image((hand_image(64, 48) > 0).float() * 0.8)
    mask = tv_tensors.Mask(torch.as_tensor(image[0] > 0))
    augmentation = Augmentation("advanced")
    torch.manual_seed(1)
    for _ in range(20):
        new_image, new_mask = augmentation(image, mask)
        assert type(new_image) is tv_tensors.Image
        assert type(new_mask) is tv_tensors.Mask
        assert new_mask.dtype == torch.bool
        assert torch.equal(torch.as_tensor(new_mask), torch.as_tensor(new_image[0]) > 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32])
def test_mask_keeps_its_dtype_and_values(dtype: torch.dtype) -> None:
    mask = tv_tensors.Mask(torch.eye(20).to(dtype))
    _, augmented = Augmentation("default")(torch.rand(3, 20, 20), mask)
    assert augmented.dtype == dtype
    assert augmented.sum() == 20


def test_no_mask_stays_no_mask() -> None:
    image, mask = Augmentation()(torch.rand(3, 9, 9), None)
    assert image.shape == (3, 9, 9)
    assert mask is None


def test_the_seed_repeats_and_another_differs(hand_image: HandImage) -> None:
    augmentation = Augmentation("advanced")
    image = hand_image(40, 40)

    def draw(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        return [augmentation(image) for _ in range(6)]

    def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
        return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    assert same(draw(3), draw(3))
    assert not same(draw(3), draw(4))


class BrightnessOfOneImage(Dataset[float]):
    """The level that a grey image gets from its augmentation."""

    def __init__(self) -> None:
        step = {"class": "MultiplicativeNoise", "multiplier": (0.5, 1.5), "per_channel": False, "p": 1.0}
        self.augmentation = Augmentation([step])

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> float:
        return float(self.augmentation(torch.full((3, 4, 4), 0.5)).mean())


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_and_epochs_differ_and_a_seed_repeats(workers: int) -> None:
    dataset = BrightnessOfOneImage()

    def two_epochs(seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        loader = DataLoader(dataset, batch_size=1, num_workers=workers)
        return np.array([[float(level) for level in loader] for _ in range(2)])

    levels = two_epochs(7)
    assert len(np.unique(levels)) == 16
    assert np.array_equal(levels, two_epochs(7))
    assert not np.array_equal(levels, two_epochs(8))


def test_it_pickles(hand_image: HandImage) -> None:
    augmentation = Augmentation("advanced")
    copy = pickle.loads(pickle.dumps(augmentation))
    image = hand_image(30, 30)
    torch.manual_seed(5)
    expected = augmentation(image)
    torch.manual_seed(5)
    assert torch.equal(copy(image), expected)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("strong", "strong"),
        ([{"class": "Flipp", "p": 0.5}], "Flipp"),
        ([{"p": 0.5}], "class"),
        ([{"class": "Compose", "transforms": []}], "Compose"),
        ([{"class": "HorizontalFlip", "probability": 0.5}], "probability"),
        ([{"class": "Affine", "scale": "big"}], "scale"),
    ],
)
def test_a_recipe_that_cannot_work_is_refused(recipe: Any, message: str) -> None:
    with pytest.raises(XrayError, match=message):
        Augmentation(recipe)


@pytest.mark.parametrize(
    "inputs",
    [
        (torch.rand(2, 3, 8, 8),),
        (torch.rand(8, 8),),
        (torch.zeros(3, 8, 8, dtype=torch.uint8),),
        (torch.rand(3, 8, 8), torch.zeros(8, 9)),
    ],
)
def test_a_sample_of_the_wrong_kind_is_refused(inputs: tuple[torch.Tensor, ...]) -> None:
    with pytest.raises(XrayError):
        Augmentation()(*inputs)


@pytest.mark.parametrize("recipe", ["default", "advanced"])
def test_one_channel_is_augmented_as_three_are(recipe: Any, hand_image: HandImage) -> None:
    image = hand_image(40, 30)
    augmentation = Augmentation(recipe)
    for seed in range(10):
        torch.manual_seed(seed)
        three = augmentation(image)
        torch.manual_seed(seed)
        one = augmentation(image[:1])
        assert one.shape[0] == 1
        assert torch.equal(one.expand(3, -1, -1), three)


def test_flips_have_their_chances_and_move_masks() -> None:
    never = {"class": "VerticalFlip", "p": 0.0}
    image, mask = torch.rand(3, 9, 9).clamp(min=0.1), torch.eye(9).flip(-1).bool()
    for recipe, axes in (([never], ()), ([never, {"class": "HorizontalFlip", "p": 1.0}], (-1,)), ([], ())):
        augmentation = Augmentation(recipe)
        assert augmentation.only_flips
        flipped, its_mask = augmentation(image, mask)
        assert torch.equal(flipped, image.flip(axes))
        assert torch.equal(its_mask, mask.flip(axes))
    assert not Augmentation("advanced").only_flips
    assert not Augmentation([{"class": "Transpose", "p": 1.0}]).only_flips
