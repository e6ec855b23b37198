from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from anomalib_xray.transforms.foreground import GREY_LEVEL
from anomalib_xray_plugins.pseudo_lesion.blends import Task
from anomalib_xray_plugins.pseudo_lesion.lesions import (
    Draw,
    Lesions,
    displacement,
    draw_numbers,
    paint,
    paint_lesions,
    places,
    put,
    sample,
    square_at,
    take,
    window_at,
    within,
)

TASKS = get_args(Task)


def limbs(count: int = 4, side: int = 48, seed: int = 0) -> torch.Tensor:
    """Bright discs with texture on a background of 0."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = 0.2 + 0.8 * torch.rand(count, 1, side, side, generator=generator)
    return image * ((y - side / 2) ** 2 + (x - side / 2) ** 2 < (0.4 * side) ** 2)


def one_lesion(count: int, **numbers: float) -> Draw:
    """Numbers of a lesion in the middle of the disc, the same for all pictures."""
    values = {name: torch.full((count,), numbers.get(name, 0.5)) for name in Draw._fields}
    return Draw(**values)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("task", TASKS)
def test_a_lesion_changes_the_foreground_alone_and_only_where_it_is_marked(task: Task, aligned: bool) -> None:
    image = limbs()
    painted, lesion = paint_lesions(image, Lesions([task], aligned, (0.1, 0.4), 3), range(10, 14))
    body = image > 0
    assert torch.equal(painted > 0, body)
    assert float(painted[body].min()) >= GREY_LEVEL
    assert float(painted.max()) <= 1
    assert float(lesion.min()) == 0
    assert 0.05 < float(lesion.max()) <= 1
    assert lesion[~body].max() == 0
    assert torch.equal(painted[lesion == 0], image[lesion == 0])
    assert (painted != image).any()


@pytest.mark.parametrize("task", TASKS)
def test_a_seed_gives_a_picture_the_same_lesions_in_any_batch(task: Task) -> None:
    image = limbs(count=1).expand(3, -1, -1, -1)  # so that a patch of another picture is the same in each batch
    lesions = Lesions([task], False, (0.1, 0.4), 2)
    together = paint_lesions(image, lesions, [3, 4, 5])
    alone = paint_lesions(image[:1], lesions, [4])
    for found, expected in zip(alone, together, strict=True):
        torch.testing.assert_close(found[0], expected[1], rtol=0, atol=1e-3 if task in ("poisson", "natural") else 0)
    assert not torch.equal(together[1][0], together[1][1])


def test_from_none_to_all_lesions_are_drawn_of_all_kinds() -> None:
    image = limbs(count=40)
    lesions = Lesions(TASKS, True, (0.1, 0.1), 2)
    painted, lesion = paint_lesions(image, lesions, range(40))
    clean = (lesion.flatten(1) == 0).all(1)
    numbers = draw_numbers(range(40), 1 + 2 * len(Draw._fields))
    assert torch.equal(clean, numbers[:, 0] < 1 / 3)
    assert torch.equal(painted[clean], image[clean])


@pytest.mark.parametrize(("aligned", "same"), [(True, True), (False, False)])
def test_aligned_patches_come_from_the_same_place(aligned: bool, same: bool) -> None:
    image, other = limbs(2, seed=1), limbs(2, seed=2)
    draw = one_lesion(2, source=0.3)
    painted, lesion = paint(image, other, "foreign_patch", Lesions(["foreign_patch"], aligned, (0.2, 0.2)), draw)
    inside = lesion > 0
    assert inside.any()
    expected = image + lesion * (other - image)
    assert torch.allclose(painted[inside], expected[inside], atol=1e-5) == same


def test_cut_paste_takes_a_patch_of_another_place_of_the_picture() -> None:
    image = limbs(1)
    painted, lesion = paint(image, image, "cut_paste", Lesions(sizes=(0.2, 0.2)), one_lesion(1, source=0.3))
    (target,), (source,) = (places((image > 0).float(), torch.tensor([number])) for number in (0.5, 0.3))
    moved = image.roll((target - source).tolist(), (2, 3))  # a weight of one half leaves the brightness
    torch.testing.assert_close(painted[lesion > 0], moved[lesion > 0], rtol=0, atol=1e-5)


def test_a_lesion_has_the_drawn_place_size_and_direction() -> None:
    length, width, angle = 20.0, 5.0, 0.3
    middle = torch.tensor([[48, 50]])
    window = window_at(middle, torch.tensor([length]), torch.tensor([width]), torch.tensor([angle]), 96, 60)
    inside = (torch.maximum(window.along.abs(), window.across.abs()) <= 1)[0].numpy()
    y, x = np.nonzero(inside)
    y, x = y + int(window.rows[0, 0, 0]), x + int(window.columns[0, 0, 0])
    np.testing.assert_allclose([y.mean(), x.mean()], [48, 50], atol=0.2)
    assert inside.sum() == pytest.approx(4 * length * width, rel=0.03)
    (_, large), vectors = np.linalg.eigh(np.cov(np.stack([x, y])))
    assert large == pytest.approx((2 * length) ** 2 / 12, rel=0.03)
    assert abs(vectors[0, 1] * math.cos(angle) + vectors[1, 1] * math.sin(angle)) == pytest.approx(1, abs=1e-3)
    window = window_at(torch.tensor([[1, 95]]), torch.tensor([length]), torch.tensor([width]), torch.zeros(1), 96, 60)
    assert (int(window.rows.min()), int(window.columns.max())) == (0, 95)


def test_places_are_those_of_the_foreground_in_their_order() -> None:
    mask = (limbs(2) > 0).float()
    mask[1, :, 20:] = 0
    numbers = torch.tensor([0.0, 0.37])
    found = places(mask, numbers)
    for one, number, place in zip(mask[:, 0].numpy(), numbers.tolist(), found.tolist(), strict=True):
        y, x = np.nonzero(one)
        index = int(number * len(y))
        assert place == [y[index], x[index]]


def test_a_square_is_taken_and_put_back_at_its_place() -> None:
    image = torch.rand(2, 3, 12, 12)
    middles = torch.tensor([[6, 4], [11, 0]])
    square = square_at(middles, 12, 4)
    taken = take(image, *square)
    assert torch.equal(taken[0], image[0, :, 4:8, 2:6])
    assert torch.equal(taken[1], image[1, :, 8:, :4])
    found = put(torch.zeros_like(image), taken, *square)
    assert torch.equal(found[0, :, 4:8, 2:6], taken[0])
    assert torch.equal(found != 0, put(image, torch.full_like(taken, 2.0), *square) == 2)


def test_sampling_is_bilinear_and_knows_the_background() -> None:
    image = limbs(1)
    rows, columns = torch.rand(2, 1, 9, 9, generator=torch.Generator().manual_seed(1)) * 30 + 10
    values, is_body = sample(image, rows, columns)
    expected = map_coordinates(image[0, 0].numpy(), np.stack([rows[0], columns[0]]), order=1)
    np.testing.assert_allclose(values[0], expected, atol=1e-5)
    share = map_coordinates((image[0, 0] > 0).float().numpy(), np.stack([rows[0], columns[0]]), order=1)
    assert is_body.any()
    assert not is_body.all()
    np.testing.assert_array_equal(is_body[0], share > 0.999)


def test_the_rim_of_a_mask_and_of_the_window_is_left() -> None:
    mask = torch.ones(1, 6, 6, dtype=torch.bool)
    mask[0, 2, 2] = False
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[1:5, 1:5] = True
    expected[1:4, 1:4] = False
    assert torch.equal(within(mask)[0], expected)


@pytest.mark.parametrize("fault", [0.2, 0.8])
def test_a_deformation_moves_no_pixel_past_another(fault: float) -> None:
    draw = one_lesion(1, weight=0.999, fault=fault, direction=0.1)
    length, width, angle = torch.tensor([[20.0], [12.0], [math.pi / 2]])
    window = window_at(torch.tensor([[40, 40]]), length, width, angle, 96, 60)
    y, x = (moved[0].numpy() for moved in displacement(window, torch.tensor([12.0]), draw))
    outside = (window.along.square() + window.across.square() >= 1)[0].numpy()
    assert max(abs(y[outside]).max(), abs(x[outside]).max()) == 0
    assert np.hypot(y, x).max() > 5
    if fault < 0.5:  # along the long axis, which stands upright, in opposite ways on its two sides
        np.testing.assert_allclose(x, 0, atol=1e-5)
        left, right = y[20, : 60 // 2], y[20, 60 // 2 + 1 :]
        assert np.sign(left[left != 0]).tolist() == [-np.sign(right[right != 0])[0]] * (left != 0).sum()
        return
    rows, columns = np.mgrid[:60, :60]
    y_of_y, y_of_x = np.gradient(rows - y)
    x_of_y, x_of_x = np.gradient(columns - x)
    assert (y_of_y * x_of_x - y_of_x * x_of_y).min() > 0
