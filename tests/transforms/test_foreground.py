from __future__ import annotations

import pytest
import torch
from torchvision import tv_tensors

from anomalib_xray.errors import XrayError
from anomalib_xray.transforms import EqualizeForeground, MinMax, PadResize
from anomalib_xray.transforms.foreground import GREY_LEVEL, call_on_plain, check_float, keep_foreground


def test_keep_foreground_writes_background_and_bounds_the_rest() -> None:
    result = keep_foreground(torch.tensor([0.7, -3.0, 0.0, 2.0, 0.5]), torch.tensor([False, True, True, True, True]))
    assert torch.equal(result, torch.tensor([0.0, GREY_LEVEL, GREY_LEVEL, 1.0, 0.5]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float16, torch.bfloat16])
def test_other_numbers_are_refused_with_their_dtype(dtype: torch.dtype) -> None:
    with pytest.raises(XrayError, match=str(dtype)):
        check_float(torch.zeros(1, 2, 2, dtype=dtype))


def test_call_on_plain_keeps_the_torchvision_type() -> None:
    kinds: list[type] = []

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kinds.append(type(tensor))
        return tensor + 1

    mask = call_on_plain(remember, tv_tensors.Mask(torch.zeros(2, 2)))
    plain = call_on_plain(remember, torch.zeros(2, 2))
    assert kinds == [torch.Tensor, torch.Tensor]
    assert type(mask) is tv_tensors.Mask
    assert type(plain) is torch.Tensor


@pytest.mark.parametrize("transform", [EqualizeForeground(), MinMax(), PadResize(16)])
@pytest.mark.parametrize("kind", [tv_tensors.Image, torch.Tensor])
def test_transforms_give_back_the_type_they_took(transform: torch.nn.Module, kind: type) -> None:
    image = torch.rand(2, 3, 16, 16).as_subclass(kind) if kind is not torch.Tensor else torch.rand(2, 3, 16, 16)
    mask = tv_tensors.Mask(torch.rand(2, 16, 16) > 0.5)
    new_image, new_mask = transform(image, mask)
    assert type(new_image) is kind
    assert type(new_mask) is tv_tensors.Mask
    assert torch.equal(new_mask, mask)
    alone, no_mask = transform(image, None)
    assert no_mask is None
    assert torch.equal(alone, new_image)
